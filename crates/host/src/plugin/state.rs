//! The life of one plugin as a pure step function: `step(life, input, context)` gives the next life and the effects.
//!
//! It knows no process, no clock and no store. The actor turns what happens into inputs and runs the effects; time, policy and
//! jitter come in as arguments. Each start has a number, and an input that belongs to an earlier start changes nothing, so a late
//! message can never act on the wrong process.

use std::time::{Duration, Instant};

use super::PluginState;
use super::restart::CrashHistory;
use crate::config::RestartPolicy;

mod step;

pub use step::step;

/// How long work in flight (proxied requests) may take once a stop has begun.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Number of a start, counted from 1 since the host started.
pub type Start = u64;

/// Why no process is there and none is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing that may run has been seen yet.
    New,
    /// An operator must allow something first.
    Held,
    /// Stopped by an operator, or with the host.
    Stopped,
    /// Turned off by an operator, also for later starts of the host.
    Disabled,
    /// What was found cannot run.
    Refused,
    /// Its file was removed.
    Gone,
}

/// What follows once a process that is being stopped has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// The next start, at once.
    Start,
    /// Rest.
    Rest(Rest),
    /// It counts as a crash, with this cause, in the state that it was in.
    Crash(String, PluginState),
}

/// Where a plugin stands. Each variant holds only what exists then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// No process.
    Resting(Rest),
    /// No process until `until`, after a crash.
    Backoff {
        /// When it is started again.
        until: Instant,
    },
    /// No process until `until`, after too many crashes.
    Quarantined {
        /// When it gets one more try.
        until: Instant,
    },
    /// The process is being spawned; whether there is one is not known yet.
    Spawning {
        /// Number of the start.
        start: Start,
    },
    /// It was to be spawned, and is to be stopped as soon as it is there.
    Unwanted {
        /// Number of the start.
        start: Start,
        /// What follows.
        then: Then,
    },
    /// A process is there; its manifest is awaited.
    AwaitingManifest {
        /// Number of the start.
        start: Start,
    },
    /// Its manifest was read; ready is awaited.
    AwaitingReady {
        /// Number of the start.
        start: Start,
    },
    /// It said ready; its channel is being opened.
    Connecting {
        /// Number of the start.
        start: Start,
    },
    /// It works.
    Running {
        /// Number of the start.
        start: Start,
        /// Since when.
        since: Instant,
        /// The channel was lost, and how; unless it exits before this time, it is restarted.
        lost: Option<(Instant, String)>,
    },
    /// No new work; work in flight is finished until `until` at the latest.
    Draining {
        /// Number of the start.
        start: Start,
        /// How long it had been running.
        up: Duration,
        /// When draining ends.
        until: Instant,
        /// What follows.
        then: Then,
    },
    /// It was asked to leave with SIGTERM, and is killed at `until`.
    Leaving {
        /// Number of the start.
        start: Start,
        /// How long it had been running.
        up: Duration,
        /// When it is killed.
        until: Instant,
        /// Whether it was killed already.
        killed: bool,
        /// What follows.
        then: Then,
    },
}

/// A plugin's life: where it stands and what is remembered across starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where it stands.
    pub stage: Stage,
    /// Whether the operator lets it run.
    pub enabled: bool,
    /// Number of the last start.
    pub starts: Start,
    history: CrashHistory,
}

/// What happened. Those with a number belong to that start and are ignored in any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A version that may run is there, first or anew.
    Accepted,
    /// The version that is there may not run yet.
    Held,
    /// What was found cannot run, and there is nothing else.
    Refused,
    /// The file was removed.
    Gone,
    /// An operator starts it.
    Start,
    /// An operator, or the host's end, stops it.
    Stop,
    /// An operator restarts it.
    Restart,
    /// An operator turns it on.
    Enable,
    /// An operator turns it off.
    Disable,
    /// Its process is there.
    Spawned(Start),
    /// There is no process; the text says why.
    SpawnFailed(Start, String),
    /// There is no process, and there will be none until an operator changes something.
    SpawnRefused(Start),
    /// The manifest was read and is the inspected one.
    ManifestRead(Start),
    /// The manifest was read and is not the inspected one.
    ManifestDiffers(Start),
    /// Ready was read.
    ReadyRead(Start),
    /// The start is done: the channel is open, or the plugin has none.
    Connected(Start),
    /// The start failed though the process is there; the text says why.
    StartFailed(Start, String),
    /// The process and everything that it left behind are gone.
    Exited(Start),
    /// No work is in flight any more.
    Drained(Start),
    /// Health failed too often; the text says how.
    HealthFailed(Start, String),
    /// The channel was lost; `true` when the plugin accepts a new one. The text says how.
    ChannelLost(Start, bool, String),
    /// A new channel is open.
    Reconnected(Start),
    /// No new channel could be opened; the text says why.
    ReconnectFailed(Start, String),
    /// Time went by; see [`Life::deadline`].
    Tick,
}

/// What the actor does. Every effect that concerns a process names its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Spawn a process and take it through the handshake.
    Spawn(Start),
    /// Publish the link.
    OpenLink(Start),
    /// Take the link back: no new work.
    CloseLink(Start),
    /// Tell when no work is in flight any more.
    AwaitDrained(Start),
    /// Open a new channel.
    Reconnect(Start),
    /// Close the channel and send SIGTERM.
    Terminate(Start),
    /// Send SIGKILL to everything.
    Kill(Start),
    /// Report a crash; without a text the exit says why. The state is the one that it crashed in.
    ReportCrash(Start, Option<String>, PluginState),
    /// Report that it was put in quarantine.
    ReportQuarantine,
    /// Report that it stopped as it was told to.
    ReportStop(Start),
}

/// What a step needs from outside.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The time.
    pub now: Instant,
    /// How crashed plugins come back.
    pub policy: &'a RestartPolicy,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// A random number in `0.0..1.0`.
    pub jitter: f64,
    /// Whether a crash at this moment is the fault of one event.
    pub on_an_event: bool,
}

impl Life {
    /// A plugin that was just found.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        Self { stage: Stage::Resting(Rest::New), enabled, starts: 0, history: CrashHistory::default() }
    }

    /// The start whose process is there, or may be.
    #[must_use]
    pub fn start(&self) -> Option<Start> {
        match self.stage {
            Stage::Resting(_) | Stage::Backoff { .. } | Stage::Quarantined { .. } => None,
            Stage::Spawning { start }
            | Stage::Unwanted { start, .. }
            | Stage::AwaitingManifest { start }
            | Stage::AwaitingReady { start }
            | Stage::Connecting { start }
            | Stage::Running { start, .. }
            | Stage::Draining { start, .. }
            | Stage::Leaving { start, .. } => Some(start),
        }
    }

    /// What follows once the process that is being stopped has left.
    #[must_use]
    pub fn then(&self) -> Option<&Then> {
        match &self.stage {
            Stage::Unwanted { then, .. } | Stage::Draining { then, .. } | Stage::Leaving { then, .. } => {
                Some(then)
            }
            _ => None,
        }
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Backoff { until }
            | Stage::Quarantined { until }
            | Stage::Draining { until, .. }
            | Stage::Leaving { until, .. } => Some(*until),
            Stage::Running { lost, .. } => lost.as_ref().map(|(until, _)| *until),
            _ => None,
        }
    }

    /// The state as it is shown.
    #[must_use]
    pub fn shown(&self) -> PluginState {
        match &self.stage {
            Stage::Resting(Rest::New) => PluginState::Discovered,
            Stage::Resting(Rest::Held) => PluginState::Held,
            Stage::Resting(Rest::Stopped) => PluginState::Stopped,
            Stage::Resting(Rest::Disabled) => PluginState::Disabled,
            Stage::Resting(Rest::Refused) => PluginState::Refused,
            Stage::Resting(Rest::Gone) => PluginState::Gone,
            Stage::Backoff { .. } => PluginState::Backoff,
            Stage::Quarantined { .. } => PluginState::Quarantined,
            Stage::Spawning { .. } | Stage::AwaitingManifest { .. } => PluginState::Starting,
            Stage::AwaitingReady { .. } => PluginState::AwaitingReady,
            Stage::Connecting { .. } => PluginState::Connecting,
            Stage::Running { .. } => PluginState::Running,
            Stage::Unwanted { .. } | Stage::Draining { .. } | Stage::Leaving { .. } => PluginState::Draining,
        }
    }

    /// What an operator may do now.
    #[must_use]
    pub fn allowed_actions(&self) -> Vec<&'static str> {
        match self.shown() {
            PluginState::Gone => Vec::new(),
            _ if !self.enabled => vec!["enable"],
            PluginState::Discovered | PluginState::Inspecting => vec!["disable"],
            PluginState::Held => vec!["grant", "disable"],
            PluginState::Starting
            | PluginState::AwaitingReady
            | PluginState::Connecting
            | PluginState::Running => vec!["stop", "restart", "disable"],
            PluginState::Draining => vec!["start", "stop", "disable"],
            PluginState::Backoff | PluginState::Quarantined => vec!["start", "stop", "disable"],
            PluginState::Stopped | PluginState::Refused => vec!["start", "disable"],
            PluginState::Disabled => vec!["enable"],
        }
    }
}

impl Input {
    /// The start that an input belongs to.
    fn start(&self) -> Option<Start> {
        match self {
            Input::Spawned(start)
            | Input::SpawnFailed(start, _)
            | Input::SpawnRefused(start)
            | Input::ManifestRead(start)
            | Input::ManifestDiffers(start)
            | Input::ReadyRead(start)
            | Input::Connected(start)
            | Input::StartFailed(start, _)
            | Input::Exited(start)
            | Input::Drained(start)
            | Input::HealthFailed(start, _)
            | Input::ChannelLost(start, ..)
            | Input::Reconnected(start)
            | Input::ReconnectFailed(start, _) => Some(*start),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
