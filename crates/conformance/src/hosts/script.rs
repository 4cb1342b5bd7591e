//! What a scripted plugin plays: its order travels inside of its own file, behind the program, because a host runs a copy
//! from another place, under another name, and passes nothing on but three arguments.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use temps_protocol::limits::{MAX_MANIFEST_BYTES, MAX_MANIFEST_ENTRIES, MAX_READY_BYTES};

/// Begins the order. It stands after a newline, so that it cannot be part of a word of the program.
const MARK: &str = "\nTEMPS-SCRIPT:";

/// Longest order in bytes, mark included; so much is read from the end of the file.
const MAX_ORDER: usize = 16 * 1024;

/// A part that a plugin plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// All features: asks questions, acks events or does not, loses its channel, crashes.
    Acks,
    /// A channel and no feature, filters, and permissions of its own.
    Plain,
    /// No channel: events by `POST`. It is a directory with a script that starts the program.
    Post,
    /// No channel, and lines as long as they may be.
    Long,
    /// Fails in its first starts, each time in another way.
    Starts,
    /// Is too slow in its first starts.
    Slow,
    /// The manifest line is not the first one.
    TalksFirst,
    /// The ready line comes before the manifest.
    ReadyFirst,
    /// A manifest line of one byte more than is allowed.
    LongManifest,
    /// A ready line of one byte more than is allowed.
    LongReady,
    /// Another manifest at each start.
    OtherManifest,
    /// A name that is no name.
    BadName,
    /// A name that is kept for hosts.
    KeptName,
    /// Another file that claims a name.
    SameName,
    /// A list with too many entries.
    ManyEvents,
    /// A path that is not absolute.
    RelativePath,
    /// A plugin for a later major version of the protocol.
    LaterMajor,
}

impl Script {
    /// The parts that a host must run.
    pub(crate) const RUN: [Self; 6] =
        [Self::Acks, Self::Plain, Self::Post, Self::Long, Self::Starts, Self::Slow];

    /// The parts that a host must refuse, whatever it does.
    pub(crate) const REFUSED: [Self; 11] = [
        Self::TalksFirst,
        Self::ReadyFirst,
        Self::LongManifest,
        Self::LongReady,
        Self::OtherManifest,
        Self::BadName,
        Self::KeptName,
        Self::SameName,
        Self::ManyEvents,
        Self::RelativePath,
        Self::LaterMajor,
    ];

    /// The name of its file.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Acks => "kit-acks",
            Self::Plain => "kit-plain",
            Self::Post => "kit-post",
            Self::Long => "kit-long",
            Self::Starts => "kit-starts",
            Self::Slow => "kit-slow",
            Self::TalksFirst => "kit-talks-first",
            Self::ReadyFirst => "kit-ready-first",
            Self::LongManifest => "kit-long-manifest",
            Self::LongReady => "kit-long-ready",
            Self::OtherManifest => "kit-other-manifest",
            Self::BadName => "kit-bad-name",
            Self::KeptName => "kit-kept-name",
            Self::SameName => "kit-same-name",
            Self::ManyEvents => "kit-many-events",
            Self::RelativePath => "kit-relative-path",
            Self::LaterMajor => "kit-later-major",
        }
    }

    /// The check that it is refused.
    pub(crate) fn refusal(self) -> String {
        format!("refuses.{}", self.file().trim_start_matches("kit-").replace('-', "_"))
    }

    /// The name in its manifest.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BadName => "Kit_Bad",
            Self::KeptName => "metrics",
            Self::SameName => Self::Post.file(),
            other => other.file(),
        }
    }

    /// Its manifest line, without the newline.
    pub(crate) fn manifest(self) -> String {
        let mut manifest = json!({"type": "manifest", "name": self.name(), "version": "1.0.0",
            "description": "Checks whether a host speaks the protocol"});
        match self {
            Self::Acks => {
                manifest["events"] = json!(["kit.step", "deployment.*"]);
                manifest["config"] = json!({"type": "object", "properties": {
                    "greeting": {"type": "string", "default": "hello"}, "times": {"type": "integer"}}});
            }
            Self::Plain => {
                manifest["events"] = json!(["kit.*"]);
                manifest["permissions"] = json!({"methods": ["list_projects"]});
                manifest["filters"] = json!([{"path": "data.to", "any_of": [self.name()]}]);
                // What a later version may say, and what is not there.
                manifest["of_a_later_version"] = json!({"deep": [1, null]});
                manifest["display_name"] = Value::Null;
            }
            Self::Starts => manifest["api_version"] = json!("1.99"),
            Self::Post => manifest["events"] = json!(["*"]),
            Self::Long => {
                manifest["padding"] = json!("");
                let room = MAX_MANIFEST_BYTES - manifest.to_string().len() - 1;
                manifest["padding"] = json!("x".repeat(room));
            }
            Self::LongManifest => {
                manifest["padding"] = json!("x".repeat(MAX_MANIFEST_BYTES - manifest.to_string().len()));
            }
            Self::OtherManifest => manifest["version"] = json!(format!("1.0.{}", nanoseconds())),
            Self::ManyEvents => {
                let events: Vec<_> = (0..=MAX_MANIFEST_ENTRIES).map(|n| format!("kit.n{n}")).collect();
                manifest["events"] = json!(events);
            }
            Self::RelativePath => manifest["health_path"] = json!("health"),
            Self::LaterMajor => manifest["api_version"] = json!("2.0"),
            _ => {}
        }
        manifest.to_string()
    }

    /// Its ready line, without the newline.
    pub(crate) fn ready(self) -> String {
        let mut ready = json!({"type": "ready", "ready": true, "has_ui": false});
        match self {
            Self::Acks => {
                ready["features"] = json!(["ack", "reconnect", "config", "kv", "of_a_later_version"]);
                ready["has_ui"] = json!(true);
            }
            Self::Long => {
                ready["padding"] = json!("");
                let room = MAX_READY_BYTES - ready.to_string().len() - 1;
                ready["padding"] = json!("x".repeat(room));
            }
            Self::LongReady => {
                ready["padding"] = json!("x".repeat(MAX_READY_BYTES - ready.to_string().len()));
            }
            _ => {}
        }
        ready.to_string()
    }
}

fn nanoseconds() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos())
}

/// What a scripted plugin is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) script: Script,
    /// The file that was put into the plugins directory.
    pub(crate) placed: String,
    /// Variables that the operator has added to the environment of plugins.
    pub(crate) added: Vec<String>,
}

impl Order {
    /// Reads the order behind the program that runs.
    pub(crate) fn of_this_program() -> io::Result<Self> {
        let file = File::open("/proc/self/exe")?;
        let length = file.metadata()?.len();
        let from = length.saturating_sub(MAX_ORDER as u64);
        let mut tail = vec![0; usize::try_from(length - from).map_err(io::Error::other)?];
        file.read_exact_at(&mut tail, from)?;
        let mark = MARK.as_bytes();
        let none = || io::Error::other("this program plays no script; `temps host test` makes plugins of it");
        let at = tail.windows(mark.len()).rposition(|window| window == mark).ok_or_else(none)?;
        serde_json::from_slice(&tail[at + mark.len()..]).map_err(|_| none())
    }

    /// Writes `program` with this order into a plugins directory, whole or not at all.
    pub(crate) fn place(&self, program: &Path, plugins: &Path) -> io::Result<()> {
        let mut bytes = std::fs::read(program)?;
        bytes.extend(MARK.as_bytes());
        bytes.extend(serde_json::to_vec(self)?);
        let (hidden, shown) =
            (plugins.join(format!(".{}", self.script.file())), plugins.join(self.script.file()));
        let executable = |path: &Path, bytes: &[u8]| {
            std::fs::write(path, bytes)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        };
        if self.script == Script::Post {
            let _ = std::fs::remove_dir_all(&hidden);
            let _ = std::fs::remove_dir_all(&shown);
            std::fs::create_dir(&hidden)?;
            executable(&hidden.join("program"), &bytes)?;
            let script = "#!/bin/sh\nexec \"$(dirname \"$0\")/program\" \"$@\"\n";
            executable(&hidden.join("plugin"), script.as_bytes())?;
        } else {
            executable(&hidden, &bytes)?;
        }
        std::fs::rename(hidden, shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_exactly_as_long_as_they_are_to_be() {
        assert_eq!(Script::Long.manifest().len() + 1, MAX_MANIFEST_BYTES);
        assert_eq!(Script::Long.ready().len() + 1, MAX_READY_BYTES);
        assert!(Script::LongManifest.manifest().len() + 1 > MAX_MANIFEST_BYTES);
        assert!(Script::LongReady.ready().len() + 1 > MAX_READY_BYTES);
    }

    #[test]
    fn what_is_to_be_run_keeps_the_rules_and_the_rest_breaks_one() {
        for script in Script::RUN {
            let read = temps_protocol::parse_manifest_line(&script.manifest());
            assert!(read.is_ok(), "{script:?}: {read:?}");
        }
        for script in [Script::BadName, Script::KeptName, Script::ManyEvents, Script::RelativePath] {
            assert!(temps_protocol::parse_manifest_line(&script.manifest()).is_err(), "{script:?}");
        }
    }
}
