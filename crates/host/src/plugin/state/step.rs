//! The step function: from a life and an input to the next life and its effects.

use std::time::Duration;

use super::{Context, DRAIN_TIME, Effect, Input, Life, Rest, Stage, Start, Then};
use crate::plugin::PluginState;
use crate::plugin::restart::{Comeback, CrashHistory};

/// How long a plugin whose channel was lost has to be seen exiting; its exit explains more than the loss does.
const LOSS_EXPLAINS_ITSELF: Duration = Duration::from_secs(1);

/// Time between two SIGKILLs to a process that is stuck in the kernel.
const KILL_AGAIN: Duration = Duration::from_secs(5);

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
            // Turned off is turned off: only turning on leads out of it, whatever is still under way.
            Input::Start | Input::Restart if !self.life.enabled => {}
            Input::Start | Input::Restart => {
                self.life.history = CrashHistory::default();
                match self.life.stage {
                    Stage::Resting(Rest::New | Rest::Held | Rest::Disabled | Rest::Gone) => {}
                    Stage::Running { .. } | Stage::Connecting { .. } if *input == Input::Start => {}
                    _ => self.settle(Then::Start),
                }
            }
            Input::Stop => match (&self.life.stage, self.life.then()) {
                // It comes to rest anyway, and the reason for that stays the reason.
                (Stage::Resting(_), _) | (_, Some(Then::Rest(_))) => {}
                _ => self.settle(Then::Rest(Rest::Stopped)),
            },
            Input::Enable => {
                self.life.enabled = true;
                let off = Then::Rest(Rest::Disabled);
                if self.life.stage == Stage::Resting(Rest::Disabled) || self.life.then() == Some(&off) {
                    self.settle(Then::Start);
                }
            }
            _ => {
                self.life.enabled = false;
                let gone = Then::Rest(Rest::Gone);
                if self.life.stage != Stage::Resting(Rest::Gone) && self.life.then() != Some(&gone) {
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
            (Input::SpawnRefused(start), Stage::Spawning { .. }) => {
                self.left(start, Duration::ZERO, Then::Rest(Rest::Refused));
            }
            (Input::SpawnFailed(start, _) | Input::SpawnRefused(start), Stage::Unwanted { then, .. }) => {
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
        let Context { now, jitter, policy, .. } = self.context;
        let comeback = match self.context.on_an_event {
            true => self.life.history.crashed_on_an_event(now, jitter, policy),
            false => self.life.history.crashed(now, up, jitter, policy),
        };
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
        matches!(self.life.then(), Some(Then::Rest(Rest::Stopped | Rest::Disabled)))
    }
}
