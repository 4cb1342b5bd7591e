//! What the unruly plugin does: an honest plugin, plus a list of sins.
//!
//! A plugin gets three arguments and a clean environment, and the host runs a copy of its file from another
//! place. So the order travels inside the file itself, as a trailer behind the program: a line that begins with
//! [`TRAILER_MARK`] and ends the file.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Begins the trailer. It stands after a newline, so that it cannot be part of a word of the program.
pub const TRAILER_MARK: &str = "\nTEMPS-SINS:";

/// Longest trailer in bytes, mark included; so much is read from the end of the file.
pub const MAX_TRAILER_BYTES: usize = 64 * 1024;

/// Environment variable that marks a copy of the plugin that left the plugin's process group.
pub const DAEMON_MARK: &str = "TEMPS_UNRULY_DAEMON";

/// An order to the unruly plugin. Without sins it is an honest one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    /// Name in the manifest; whether it is a good one is for the host to say.
    pub name: String,
    /// Events in the manifest.
    #[serde(default)]
    pub events: Vec<String>,
    /// Fields that are set in the manifest over the ordinary ones.
    #[serde(default)]
    pub manifest: Map<String, Value>,
    /// Fields that are set in the ready line over the ordinary ones.
    #[serde(default)]
    pub ready: Map<String, Value>,
    /// What it does wrong.
    #[serde(default)]
    pub sins: Vec<Sin>,
}

/// A moment in the life of a plugin, for [`Sin::ExitAt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Before anything was written.
    Start,
    /// After the manifest line.
    Manifest,
    /// After the ready line.
    Ready,
    /// After the channel was accepted.
    Channel,
}

/// One thing that the plugin does wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "sin")]
pub enum Sin {
    /// Writes nothing at all and stays.
    NoOutput,
    /// Writes half of the manifest line, without an end, and stays.
    HalfALine,
    /// Writes a first line of so many megabytes.
    HugeLine {
        /// Length of the line in units of 1,000,000 bytes.
        megabytes: usize,
    },
    /// Writes text that is not JSON before the manifest.
    Chatter,
    /// Writes a JSON object of a type that nobody knows first.
    WrongTypeFirst,
    /// Writes the ready line before the manifest.
    ReadyBeforeManifest,
    /// Says `"ready": false`.
    ReadyFalse,
    /// Ends at a moment, with an exit code.
    ExitAt {
        /// The moment.
        step: Step,
        /// The exit code.
        code: i32,
    },
    /// Says ready and never binds its socket.
    SocketNeverBound,
    /// Answers health requests with this status.
    HealthStatus {
        /// HTTP status code.
        status: u16,
        /// For so many milliseconds after its start it is still well.
        after_ms: u64,
    },
    /// Accepts health requests and never answers.
    HealthHangs,
    /// Answers the channel's upgrade with this status.
    ChannelRefused {
        /// HTTP status code.
        status: u16,
    },
    /// Reads the channel's upgrade request and never answers it.
    ChannelHangs,
    /// Sends so many requests over the channel as fast as it can.
    ChannelFloods {
        /// How many.
        requests: u64,
    },
    /// Sends frames that are no frames of the protocol: broken JSON, unknown types, bytes.
    GarbageFrames,
    /// Sends one frame of so many megabytes.
    GiantFrame {
        /// Length of the frame in units of 1,000,000 bytes.
        megabytes: usize,
    },
    /// Never reads what comes over the channel.
    SlowReader,
    /// Closes the channel so many milliseconds after it was accepted.
    DropsChannel {
        /// Milliseconds.
        after_ms: u64,
    },
    /// Asks for one more event at every start, so that no two manifests are alike.
    ChangingManifest,
    /// Takes no notice of SIGTERM.
    IgnoresSigterm,
    /// Leaves a copy of itself in a session of its own, which writes the time to `daemon.beat` ten times a second.
    Daemonises,
    /// Writes so many megabytes to stdout after ready.
    FloodsStdout {
        /// Amount in units of 1,000,000 bytes.
        megabytes: usize,
    },
    /// Writes so many megabytes to stderr after ready.
    FloodsStderr {
        /// Amount in units of 1,000,000 bytes.
        megabytes: usize,
    },
    /// Opens files and never closes them, until the system refuses.
    LeaksDescriptors,
    /// Keeps so many threads computing.
    EatsCpu {
        /// How many threads.
        threads: usize,
    },
    /// Takes so many megabytes of memory and writes to all of it.
    EatsMemory {
        /// Amount in units of 1,000,000 bytes.
        megabytes: usize,
    },
    /// Starts processes that stay until there are so many; where that is refused, it tries again and again.
    Forks {
        /// How many, where nothing stops it.
        processes: usize,
    },
    /// Fills its data directory with so many megabytes, and begins anew at each start.
    FillsDisk {
        /// Amount in units of 1,000,000 bytes.
        megabytes: usize,
    },
    /// Aborts when an event of this type comes.
    CrashOnEvent {
        /// The type.
        event_type: String,
    },
    /// Answers `POST /_events` with this status.
    EventStatus {
        /// HTTP status code.
        status: u16,
    },
    /// Announced the feature `ack` and never confirms an event.
    NeverAcks,
    /// Confirms every event as failed.
    AcksWithError,
    /// Confirms one event as failed, each time that it comes, and all of a type if that is named.
    AcksWithErrorFor {
        /// Id of the event, or an event type.
        event: String,
    },
    /// Confirms every event twice.
    AcksTwice,
    /// Beside every event confirms one that was never sent.
    AcksUnknown,
    /// Confirms every event so many milliseconds after it came.
    AcksLate {
        /// Milliseconds.
        after_ms: u64,
    },
    /// Confirms an event without having handled it, then aborts.
    AcksThenCrashes {
        /// Id of the event, or an event type.
        event: String,
    },
    /// Aborts when this event comes.
    CrashOnEventId {
        /// Id of the event.
        id: String,
    },
    /// Takes so many milliseconds for every frame before it reads the next.
    ReadsSlowly {
        /// Milliseconds.
        per_frame_ms: u64,
    },
    /// Ends so many milliseconds after ready, with exit code 1.
    ExitAfter {
        /// Milliseconds.
        ms: u64,
    },
}

impl Behaviour {
    /// An honest plugin with this name, which wants every event.
    #[must_use]
    pub fn honest(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            events: vec!["*".into()],
            manifest: Map::new(),
            ready: Map::new(),
            sins: Vec::new(),
        }
    }

    /// A plugin with this name and one sin.
    #[must_use]
    pub fn sinful(name: impl Into<String>, sin: Sin) -> Self {
        Self::honest(name).and(sin)
    }

    /// Adds a sin.
    #[must_use]
    pub fn and(mut self, sin: Sin) -> Self {
        self.sins.push(sin);
        self
    }

    /// Sets a field of the manifest.
    #[must_use]
    pub fn manifest_field(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.manifest.insert(field.into(), value.into());
        self
    }

    /// Sets a field of the ready line.
    #[must_use]
    pub fn ready_field(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.ready.insert(field.into(), value.into());
        self
    }

    /// Announces the feature `ack`. Without a sin that says otherwise, every event is then confirmed once it is recorded.
    #[must_use]
    pub fn with_acks(self) -> Self {
        self.ready_field("features", vec!["ack"])
    }

    /// The bytes that, put behind the program, give it this order.
    #[must_use]
    pub fn trailer(&self) -> Vec<u8> {
        let order = serde_json::to_string(self).unwrap_or_default();
        format!("{TRAILER_MARK}{order}\n").into_bytes()
    }

    /// Reads the order from the end of a program's file; `None` when it has none.
    #[must_use]
    pub fn from_tail(tail: &[u8]) -> Option<Self> {
        let mark = TRAILER_MARK.as_bytes();
        let at = tail.windows(mark.len()).rposition(|window| window == mark)?;
        serde_json::from_slice(&tail[at + mark.len()..]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_trailer() {
        let order = Behaviour::sinful("unruly", Sin::ExitAt { step: Step::Ready, code: 3 })
            .and(Sin::SlowReader)
            .manifest_field("health_path", "/up");
        let mut file = b"\x7fELF program \nTEMPS-SINS:{broken".to_vec();
        file.extend(order.trailer());
        assert_eq!(Behaviour::from_tail(&file), Some(order));
        assert_eq!(Behaviour::from_tail(b"\x7fELF program"), None);
    }
}
