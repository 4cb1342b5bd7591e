//! The step function, driven by hand and by chance.

use super::*;
use proptest::prelude::*;

fn policy() -> RestartPolicy {
    crate::HostConfig::for_places("p".into(), "s".into(), "r".into()).restart
}

struct Driver {
    life: Life,
    now: Instant,
    policy: RestartPolicy,
}

impl Driver {
    fn new() -> Self {
        Self { life: Life::new(true), now: Instant::now(), policy: policy() }
    }

    fn give(&mut self, input: Input) -> Vec<Effect> {
        let context = Context {
            now: self.now,
            policy: &self.policy,
            stop_grace: Duration::from_secs(10),
            jitter: 0.5,
            on_an_event: false,
        };
        let (life, effects) = step(self.life.clone(), input, context);
        self.life = life;
        effects
    }

    fn run_up(&mut self) -> Start {
        let start = self.life.start().expect("a start is under way");
        for input in [
            Input::Spawned(start),
            Input::ManifestRead(start),
            Input::ReadyRead(start),
            Input::Connected(start),
        ] {
            self.give(input);
        }
        assert_eq!(self.life.shown(), PluginState::Running);
        start
    }

    fn tick(&mut self) -> Vec<Effect> {
        self.now = self.life.deadline().expect("something is due");
        self.give(Input::Tick)
    }
}

#[test]
fn an_accepted_plugin_starts_and_is_linked_only_when_it_is_connected() {
    let mut d = Driver::new();
    assert_eq!(d.give(Input::Accepted), [Effect::Spawn(1)]);
    assert_eq!(d.give(Input::Spawned(1)), []);
    assert_eq!(d.give(Input::ReadyRead(1)), [], "ready before the manifest changes nothing");
    d.give(Input::ManifestRead(1));
    d.give(Input::ReadyRead(1));
    assert_eq!(d.give(Input::Connected(1)), [Effect::OpenLink(1)]);
}

#[test]
fn a_stop_drains_then_asks_then_kills() {
    let mut d = Driver::new();
    d.give(Input::Accepted);
    d.run_up();
    assert_eq!(d.give(Input::Stop), [Effect::CloseLink(1), Effect::AwaitDrained(1)]);
    assert_eq!(d.give(Input::Drained(1)), [Effect::Terminate(1)]);
    assert_eq!(d.tick(), [Effect::Kill(1)]);
    assert_eq!(d.tick(), [Effect::Kill(1)], "a process stuck in the kernel is killed again");
    assert_eq!(d.give(Input::Exited(1)), [Effect::ReportStop(1)]);
    assert_eq!(d.life.shown(), PluginState::Stopped);
}

#[test]
fn turning_off_lasts_whatever_an_operator_asks_while_it_is_under_way() {
    let mut d = Driver::new();
    d.give(Input::Accepted);
    d.run_up();
    d.give(Input::Disable);
    assert_eq!(d.life.allowed_actions(), ["enable"]);
    for input in [Input::Start, Input::Restart, Input::Stop] {
        d.give(input);
    }
    d.give(Input::Drained(1));
    assert_eq!(d.give(Input::Exited(1)), [Effect::ReportStop(1)]);
    assert_eq!(d.life.shown(), PluginState::Disabled);

    assert_eq!(d.give(Input::Enable), [Effect::Spawn(2)]);
    d.run_up();
    d.give(Input::Disable);
    d.give(Input::Enable);
    d.give(Input::Drained(2));
    assert_eq!(d.give(Input::Exited(2)), [Effect::ReportStop(2), Effect::Spawn(3)], "on again is on again");
}

#[test]
fn draining_has_an_end_even_when_work_has_none() {
    let mut d = Driver::new();
    d.give(Input::Accepted);
    d.run_up();
    d.give(Input::Stop);
    assert_eq!(d.tick(), [Effect::Terminate(1)]);
}

#[test]
fn a_new_version_restarts_a_running_plugin_and_leaves_a_stopped_one() {
    let mut d = Driver::new();
    d.give(Input::Accepted);
    d.run_up();
    d.give(Input::Accepted);
    d.give(Input::Drained(1));
    assert_eq!(d.give(Input::Exited(1)), [Effect::ReportStop(1), Effect::Spawn(2)]);
    d.run_up();
    d.give(Input::Stop);
    d.give(Input::Drained(2));
    d.give(Input::Accepted);
    d.give(Input::Exited(2));
    assert_eq!(d.life.shown(), PluginState::Stopped);
    assert_eq!(d.give(Input::Accepted), []);
    assert_eq!(d.give(Input::Start), [Effect::Spawn(3)]);
}

#[test]
fn five_crashes_quarantine_and_the_operator_starts_at_any_time() {
    let mut d = Driver::new();
    d.give(Input::Accepted);
    for start in 1..=5 {
        d.run_up();
        let effects = d.give(Input::Exited(start));
        assert!(effects.contains(&Effect::ReportCrash(start, None, PluginState::Running)));
        if start < 5 {
            assert_eq!(d.tick(), [Effect::Spawn(start + 1)]);
        }
    }
    assert_eq!(d.life.shown(), PluginState::Quarantined);
    assert_eq!(d.tick(), [Effect::Spawn(6)], "the single try");
    d.give(Input::SpawnFailed(6, "no memory".into()));
    assert_eq!(d.life.shown(), PluginState::Quarantined);
    assert_eq!(d.give(Input::Start), [Effect::Spawn(7)]);
    d.run_up();
    d.give(Input::Exited(7));
    assert_eq!(d.life.shown(), PluginState::Backoff, "an operator's start begins a new count");
}

#[test]
fn a_lost_channel_waits_for_an_exit_that_explains_it() {
    let mut d = Driver::new();
    d.give(Input::Accepted);
    d.run_up();
    assert_eq!(d.give(Input::ChannelLost(1, false, "the channel broke".into())), []);
    let crash = d.give(Input::Exited(1));
    assert!(crash.contains(&Effect::ReportCrash(1, None, PluginState::Running)));
    d.tick();
    d.run_up();
    d.give(Input::ChannelLost(2, false, "the channel broke".into()));
    assert_eq!(d.tick(), [Effect::CloseLink(2), Effect::AwaitDrained(2)]);
    d.give(Input::Drained(2));
    let crash = d.give(Input::Exited(2));
    assert!(
        matches!(&crash[0], Effect::ReportCrash(2, Some(why), _) if why.contains("channel")),
        "{crash:?}"
    );
}

#[test]
fn a_plugin_that_reconnects_is_not_restarted() {
    let mut d = Driver::new();
    d.give(Input::Accepted);
    d.run_up();
    assert_eq!(d.give(Input::ChannelLost(1, true, "the channel broke".into())), [Effect::Reconnect(1)]);
    assert_eq!(d.give(Input::Reconnected(1)), [Effect::OpenLink(1)]);
    d.give(Input::ChannelLost(1, true, "the channel broke".into()));
    d.give(Input::ReconnectFailed(1, "refused".into()));
    assert_eq!(d.life.shown(), PluginState::Draining);
}

#[test]
fn a_disabled_plugin_stays_off_through_new_versions() {
    let mut d = Driver::new();
    d.life = Life::new(false);
    assert_eq!(d.give(Input::Accepted), []);
    assert_eq!(d.life.shown(), PluginState::Disabled);
    assert_eq!(d.give(Input::Start), []);
    assert_eq!(d.give(Input::Enable), [Effect::Spawn(1)]);
}

#[test]
fn a_stop_while_spawning_waits_for_the_process_and_ends_it() {
    let mut d = Driver::new();
    d.give(Input::Accepted);
    assert_eq!(d.give(Input::Stop), []);
    assert_eq!(d.give(Input::Spawned(1)), [Effect::Terminate(1)]);
    d.give(Input::Exited(1));
    assert_eq!(d.life.shown(), PluginState::Stopped);
}

/// The world outside the step function: whether a process is there.
#[derive(Debug, Default)]
struct World {
    spawning: Option<Start>,
    alive: Option<Start>,
}

/// Anything that can happen. The number picks an earlier start for messages that come late.
fn happening() -> impl Strategy<Value = (u8, u64, u64)> {
    (0u8..28, 0u64..4, 0u64..40)
}

/// Turns a happening into an input that is possible in this world: a process only comes or goes when it does.
fn input_of(world: &mut World, life: &Life, kind: u8, back: u64) -> Option<Input> {
    let start = life.starts.saturating_sub(back).max(1);
    let why = || "why".to_owned();
    Some(match kind {
        0 | 1 => Input::Accepted,
        2 => Input::Held,
        3 => Input::Refused,
        4 => Input::Gone,
        5 => Input::Start,
        6 => Input::Stop,
        7 => Input::Restart,
        8 => Input::Enable,
        9 => Input::Disable,
        10 | 11 => {
            let start = world.spawning.take()?;
            world.alive = Some(start);
            Input::Spawned(start)
        }
        12 => Input::SpawnFailed(world.spawning.take()?, why()),
        13 | 14 => Input::Exited(world.alive.take()?),
        15 | 16 => Input::ManifestRead(start),
        17 => Input::ManifestDiffers(start),
        18 | 19 => Input::ReadyRead(start),
        20 | 21 => Input::Connected(start),
        22 => Input::StartFailed(start, why()),
        23 => Input::Drained(start),
        24 => Input::HealthFailed(start, why()),
        25 => Input::ChannelLost(start, back == 2, why()),
        26 => Input::ReconnectFailed(start, why()),
        _ => Input::Tick,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn never_two_processes_never_running_without_one_and_never_one_left_behind(
        happenings in prop::collection::vec(happening(), 0..120),
    ) {
        let mut d = Driver::new();
        let mut world = World::default();
        for (kind, back, seconds) in happenings {
            d.now += Duration::from_secs(seconds);
            let Some(input) = input_of(&mut world, &d.life, kind, back) else { continue };
            for effect in d.give(input) {
                match effect {
                    Effect::Spawn(start) => {
                        prop_assert!(world.spawning.is_none() && world.alive.is_none(), "two processes");
                        world.spawning = Some(start);
                    }
                    Effect::OpenLink(start) | Effect::Terminate(start) | Effect::Kill(start) => {
                        prop_assert_eq!(world.alive, Some(start), "an effect on a process that is not there");
                    }
                    _ => {}
                }
            }
            if let Stage::Running { start, .. } = d.life.stage {
                prop_assert_eq!(world.alive, Some(start));
            }
            let wants_to_run = matches!(d.life.then(), Some(Then::Start)) || d.life.deadline().is_some_and(|_| d.life.start().is_none());
            prop_assert!(d.life.enabled || !wants_to_run, "a plugin that is turned off comes back");
            if let Stage::Resting(rest) = d.life.stage {
                let off = matches!(rest, Rest::Disabled | Rest::New | Rest::Gone);
                prop_assert!(if d.life.enabled { rest != Rest::Disabled } else { off }, "{rest:?}, on: {}", d.life.enabled);
            }
            let there = world.spawning.or(world.alive);
            prop_assert_eq!(there, d.life.start(), "a process that nobody knows of, or the other way round");
        }
    }

    #[test]
    fn from_anywhere_a_stop_comes_to_rest_when_killed_processes_end(
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut d = Driver::new();
        let mut world = World::default();
        let follow = |world: &mut World, effects: Vec<Effect>| {
            for effect in effects {
                if let Effect::Spawn(start) = effect {
                    world.spawning = Some(start);
                }
            }
        };
        for (kind, back, seconds) in happenings {
            d.now += Duration::from_secs(seconds);
            if let Some(input) = input_of(&mut world, &d.life, kind, back) {
                let effects = d.give(input);
                follow(&mut world, effects);
            }
        }
        let effects = d.give(Input::Stop);
        follow(&mut world, effects);
        for _ in 0..6 {
            if let Some(start) = world.spawning.take() {
                world.alive = Some(start);
                d.give(Input::Spawned(start));
            }
            if let Some(deadline) = d.life.deadline() {
                d.now = deadline;
                for effect in d.give(Input::Tick) {
                    if let Effect::Kill(start) = effect {
                        world.alive = None;
                        d.give(Input::Exited(start));
                    }
                }
            }
        }
        prop_assert!(matches!(d.life.stage, Stage::Resting(_)), "{:?}", d.life);
    }
}
