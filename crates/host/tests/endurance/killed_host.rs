//! A host that is killed with -9 at random moments: no plugin outlives it, the next start is clean, and nothing that it
//! confirmed is lost.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use temps_host::plugin::PluginState;
use temps_testkit::Behaviour;
use temps_testkit::daemon::{eventually, runs};

use crate::ALONE;
use crate::flow::has_received;
use crate::gauge::{descendants, naming};
use crate::rig::{Rig, until_state};

/// How often the host is killed.
const KILLS: u32 = 10;

/// Longest time between the event after which a host is killed and the kill.
const MOST_DELAY: Duration = Duration::from_millis(300);

/// Most events after whose confirmation a host is killed.
const MOST_EVENTS: u64 = 60;

/// At least so many before each fifth kill: at 10 ms and more for each, events have been settled by then, and the next host
/// begins behind them.
const EVENTS_OF_A_LONG_LIFE: u64 = 600;

const PLUGINS: [&str; 3] = ["first", "second", "third"];

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_at_random_moments_leaves_no_plugin_loses_no_event_and_starts_cleanly() {
    let _alone = ALONE.lock().await;
    let rig = Rig::new();
    for name in PLUGINS {
        rig.put(&Behaviour::honest(name));
    }
    take_up_all(&rig).await;
    let mut chance = Chance::new();
    let (mut confirmed, mut killed_processes) = (Vec::new(), 0);
    for kill in 0..KILLS {
        let mut host = start(rig.home.path(), kill);
        let wanted = match kill % 5 {
            0 => EVENTS_OF_A_LONG_LIFE + chance.below(MOST_EVENTS),
            // While it starts.
            1 | 3 => 0,
            _ => chance.below(MOST_EVENTS),
        };
        let lines = BufReader::new(host.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        // The host says each event that it confirmed, and goes on while nobody reads.
        confirmed.extend(lines.by_ref().take(usize::try_from(wanted).unwrap()));
        std::thread::sleep(Duration::from_millis(chance.below(MOST_DELAY.as_millis() as u64)));
        let family = descendants(host.id());
        killed_processes += family.len();
        host.kill().unwrap();
        host.wait().unwrap();
        // A line without an end was cut short by the kill, and says nothing that can be relied on.
        confirmed.extend(lines.filter(|line| line.ends_with('.')));
        eventually("no process of the host is left", || {
            let left = family.iter().any(|pid| runs(u64::from(*pid))) || !naming(rig.home.path()).is_empty();
            (!left).then_some(())
        });
    }
    assert!(killed_processes > 0, "no host was killed while it had plugins");

    let host = rig.host().await;
    for name in PLUGINS {
        let running = until_state(&host, name, PluginState::Running).await;
        assert_eq!((running.starts, running.crashes), (1, 0), "{running:?}");
        assert!(naming(rig.home.path()).contains(&running.pid.unwrap()), "plugins cannot be found");
        has_received(&rig.config.state_dir, name, &confirmed).await;
    }
    assert_eq!(host.plugins().len(), PLUGINS.len());
    host.shutdown().await;
    eprintln!(
        "{KILLS} hosts killed (seed {}): {} events confirmed and received by {} plugins, {killed_processes} processes ended with them",
        chance.seed,
        confirmed.len(),
        PLUGINS.len(),
    );
}

/// A plugin gets the events from after it was first taken up. All that follow here are for all of them.
async fn take_up_all(rig: &Rig) {
    let host = rig.host().await;
    for name in PLUGINS {
        until_state(&host, name, PluginState::Running).await;
    }
    host.shutdown().await;
}

fn start(home: &Path, number: u32) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_temps-host-test-host"));
    let log = std::fs::File::options().create(true).append(true).open(home.join("hosts.log")).unwrap();
    command.arg(home).arg(number.to_string()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.spawn().unwrap()
}

/// Random numbers, from a seed that a failing test names. Good enough to pick moments.
struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = now.as_nanos() as u64 | 1;
        Self { seed, state: seed }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % bound
    }
}
