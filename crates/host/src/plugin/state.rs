//! The life of one plugin as a pure step function: `step(life, input, context)` gives the next life and the effects.
//!
//! It knows no process, no clock and no store. The actor turns what happens into inputs and runs the effects; time, policy and
//! jitter come in as arguments. Each start has a number, and an input that belongs to an earlier start changes nothing, so a late
//! message can never act on the wrong process.

use std::time::{Duration, Instant};

use super::PluginState;
use super::restart::{Comeback, CrashHistory};
use crate::config::RestartPolicy;

/// How long work in flight (proxied requests) may take once a stop has begun.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long a plugin whose channel was lost has to be seen exiting; its exit explains more than the loss does.
const LOSS_EXPLAINS_ITSELF: Duration = Duration::from_secs(1);

/// Time between two SIGKILLs to a process that is stuck in the kernel.
const KILL_AGAIN: Duration = Duration::from_secs(5);

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
            PluginState::Gone => Vec::new(),
        }
    }
}

/// The next life, and what the actor has to do for it, in order.
#[must_use]
pub fn step(mut life: Life, input: Input, context: Context<'_>) -> (Life, Vec<Effect>) {
    let mut effects = Vec::new();
    let mut turn = Turn { life: &mut life, effects: &mut effects, context };
    match input {
        Input::Accepted | Input::Held | Input::Refused | Input::Gone => turn.version(&input),
        Input::Start | Input::Stop | Input::Restart | Input::Enable | Input::Disable => turn.operator(&input),
        Input::Tick => turn.tick(),
        about_a_start => turn.process(about_a_start),
    }
    (life, effects)
}

struct Turn<'a> {
    life: &'a mut Life,
    effects: &'a mut Vec<Effect>,
    context: Context<'a>,
}

impl Turn<'_> {
    /// Something about the program on disk changed.
    fn version(&mut self, input: &Input) {
        match (input, &self.life.stage) {
            (Input::Accepted, Stage::Resting(Rest::Stopped)) => {}
            (Input::Accepted, _) if !self.life.enabled => self.settle(Then::Rest(Rest::Disabled)),
            (Input::Accepted, _) if self.stops_for_operator() => {}
            (Input::Accepted, _) => {
                self.life.history = CrashHistory::default();
                self.settle(Then::Start);
            }
            (Input::Gone, _) => self.settle(Then::Rest(Rest::Gone)),
            (_, _) if !self.life.enabled => self.settle(Then::Rest(Rest::Disabled)),
            (Input::Held, _) => self.settle(Then::Rest(Rest::Held)),
            _ => self.settle(Then::Rest(Rest::Refused)),
        }
    }

    fn operator(&mut self, input: &Input) {
        match input {
            Input::Start | Input::Restart => {
                self.life.history = CrashHistory::default();
                match self.life.stage {
                    Stage::Resting(Rest::New | Rest::Held | Rest::Disabled | Rest::Gone) => {}
                    Stage::Running { .. } | Stage::Connecting { .. } if *input == Input::Start => {}
                    _ => self.settle(Then::Start),
                }
            }
            Input::Stop => match self.life.stage {
                Stage::Resting(_) => {}
                _ => self.settle(Then::Rest(Rest::Stopped)),
            },
            Input::Enable => {
                self.life.enabled = true;
                if self.life.stage == Stage::Resting(Rest::Disabled) {
                    self.settle(Then::Start);
                }
            }
            _ => {
                self.life.enabled = false;
                if self.life.stage != Stage::Resting(Rest::Gone) {
                    self.settle(Then::Rest(Rest::Disabled));
                }
            }
        }
    }

    fn tick(&mut self) {
        if self.life.deadline().is_none_or(|deadline| self.context.now < deadline) {
            return;
        }
        match self.life.stage.clone() {
            Stage::Backoff { .. } => self.spawn(),
            Stage::Quarantined { .. } => {
                self.life.history.try_again();
                self.spawn();
            }
            Stage::Running { lost, .. } => {
                let why = lost.map_or_else(String::new, |(_, why)| why);
                self.settle(Then::Crash(why, PluginState::Running));
            }
            Stage::Draining { start, up, then, .. } => self.terminate(start, up, then),
            Stage::Leaving { start, up, then, .. } => {
                self.effects.push(Effect::Kill(start));
                let until = self.context.now + KILL_AGAIN;
                self.life.stage = Stage::Leaving { start, up, until, killed: true, then };
            }
            _ => {}
        }
    }

    /// Something about the process happened. Only the present start counts.
    fn process(&mut self, input: Input) {
        if input.start() != self.life.start() {
            return;
        }
        let now = self.context.now;
        match (input, self.life.stage.clone()) {
            (Input::Spawned(_), Stage::Spawning { start }) => {
                self.life.stage = Stage::AwaitingManifest { start };
            }
            (Input::Spawned(_), Stage::Unwanted { start, then }) => {
                self.terminate(start, Duration::ZERO, then)
            }
            (Input::SpawnFailed(start, why), Stage::Spawning { .. }) => {
                self.crashed(start, Duration::ZERO, Some(why), PluginState::Starting);
            }
            (Input::SpawnFailed(start, _), Stage::Unwanted { then, .. }) => {
                self.left(start, Duration::ZERO, then);
            }
            (Input::ManifestRead(_), Stage::AwaitingManifest { start }) => {
                self.life.stage = Stage::AwaitingReady { start };
            }
            (Input::ManifestDiffers(_), Stage::AwaitingManifest { .. }) => {
                self.settle(Then::Rest(Rest::Refused));
            }
            (Input::ReadyRead(_), Stage::AwaitingReady { start }) => {
                self.life.stage = Stage::Connecting { start };
            }
            (Input::Connected(_), Stage::Connecting { start }) => {
                self.effects.push(Effect::OpenLink(start));
                self.life.stage = Stage::Running { start, since: now, lost: None };
            }
            (
                Input::StartFailed(_, why),
                Stage::AwaitingManifest { start }
                | Stage::AwaitingReady { start }
                | Stage::Connecting { start },
            ) => {
                let state = self.life.shown();
                self.terminate(start, Duration::ZERO, Then::Crash(why, state));
            }
            (Input::HealthFailed(_, why), Stage::Running { start, since, .. }) => {
                self.effects.push(Effect::CloseLink(start));
                self.terminate(start, now - since, Then::Crash(why, PluginState::Running));
            }
            (Input::ChannelLost(_, reconnects, why), Stage::Running { start, since, .. }) => {
                let lost = if reconnects {
                    self.effects.push(Effect::Reconnect(start));
                    None
                } else {
                    Some((now + LOSS_EXPLAINS_ITSELF, why))
                };
                self.life.stage = Stage::Running { start, since, lost };
            }
            (Input::Reconnected(_), Stage::Running { start, since, .. }) => {
                self.effects.push(Effect::OpenLink(start));
                self.life.stage = Stage::Running { start, since, lost: None };
            }
            (Input::ReconnectFailed(_, why), Stage::Running { .. }) => {
                self.settle(Then::Crash(why, PluginState::Running));
            }
            (Input::Drained(_), Stage::Draining { start, up, then, .. }) => self.terminate(start, up, then),
            (Input::Exited(_), stage) => self.exited(stage),
            _ => {}
        }
    }

    /// The process is gone, whatever it was in.
    fn exited(&mut self, stage: Stage) {
        match stage {
            Stage::AwaitingManifest { start }
            | Stage::AwaitingReady { start }
            | Stage::Connecting { start } => {
                let state = self.life.shown();
                self.crashed(start, Duration::ZERO, None, state);
            }
            Stage::Running { start, since, .. } => {
                self.effects.push(Effect::CloseLink(start));
                self.crashed(start, self.context.now - since, None, PluginState::Running);
            }
            Stage::Draining { start, up, then, .. } | Stage::Leaving { start, up, then, .. } => {
                self.left(start, up, then);
            }
            _ => {}
        }
    }

    /// Brings the plugin to `then`, by whatever way leads there from where it stands.
    fn settle(&mut self, then: Then) {
        match self.life.stage.clone() {
            Stage::Resting(_) | Stage::Backoff { .. } | Stage::Quarantined { .. } => match then {
                Then::Start => self.spawn(),
                Then::Rest(rest) => self.life.stage = Stage::Resting(rest),
                Then::Crash(..) => {}
            },
            Stage::Spawning { start } | Stage::Unwanted { start, .. } => {
                self.life.stage = Stage::Unwanted { start, then };
            }
            Stage::AwaitingManifest { start }
            | Stage::AwaitingReady { start }
            | Stage::Connecting { start } => {
                self.terminate(start, Duration::ZERO, then);
            }
            Stage::Running { start, since, .. } => {
                self.effects.push(Effect::CloseLink(start));
                self.effects.push(Effect::AwaitDrained(start));
                let now = self.context.now;
                self.life.stage = Stage::Draining { start, up: now - since, until: now + DRAIN_TIME, then };
            }
            Stage::Draining { start, up, until, .. } => {
                self.life.stage = Stage::Draining { start, up, until, then };
            }
            Stage::Leaving { start, up, until, killed, .. } => {
                self.life.stage = Stage::Leaving { start, up, until, killed, then };
            }
        }
    }

    fn spawn(&mut self) {
        self.life.starts += 1;
        let start = self.life.starts;
        self.effects.push(Effect::Spawn(start));
        self.life.stage = Stage::Spawning { start };
    }

    fn terminate(&mut self, start: Start, up: Duration, then: Then) {
        self.effects.push(Effect::Terminate(start));
        let until = self.context.now + self.context.stop_grace;
        self.life.stage = Stage::Leaving { start, up, until, killed: false, then };
    }

    /// A process that was being stopped has left.
    fn left(&mut self, start: Start, up: Duration, then: Then) {
        match then {
            Then::Crash(why, state) => self.crashed(start, up, Some(why), state),
            Then::Start => {
                self.effects.push(Effect::ReportStop(start));
                self.spawn();
            }
            Then::Rest(rest) => {
                self.effects.push(Effect::ReportStop(start));
                self.life.stage = Stage::Resting(rest);
            }
        }
    }

    fn crashed(&mut self, start: Start, up: Duration, why: Option<String>, state: PluginState) {
        self.effects.push(Effect::ReportCrash(start, why, state));
        let comeback =
            self.life.history.crashed(self.context.now, up, self.context.jitter, self.context.policy);
        self.life.stage = match comeback {
            Comeback::Backoff { until } => Stage::Backoff { until },
            Comeback::Quarantine { until } => {
                self.effects.push(Effect::ReportQuarantine);
                Stage::Quarantined { until }
            }
        };
    }

    /// Whether an operator's stop is under way, which a new version does not undo.
    fn stops_for_operator(&self) -> bool {
        matches!(
            self.life.stage,
            Stage::Unwanted { then: Then::Rest(Rest::Stopped | Rest::Disabled), .. }
                | Stage::Draining { then: Then::Rest(Rest::Stopped | Rest::Disabled), .. }
                | Stage::Leaving { then: Then::Rest(Rest::Stopped | Rest::Disabled), .. }
        )
    }
}

impl Input {
    /// The start that an input belongs to.
    fn start(&self) -> Option<Start> {
        match self {
            Input::Spawned(start)
            | Input::SpawnFailed(start, _)
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
