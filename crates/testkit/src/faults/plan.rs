//! What a run is to do, and when each fault strikes. All of it follows from the settings and the seed.

use std::fmt;
use std::time::Duration;

use super::chance::Chance;

/// Longest time between the confirmed event that a fault waits for and the fault, in milliseconds: long enough to fall
/// anywhere in the life of some events, short enough for hundreds of faults.
const MOST_DELAY_MS: u64 = 40;

/// How long a plugin stands still before it is killed, a disk stays full, or a database server stays away.
const HOLD_MS: std::ops::Range<u64> = 200..2_500;

/// The database that keeps the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file of the daemon's own.
    Sqlite,
    /// A server of the run's own.
    Postgres,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgres",
        })
    }
}

/// What a run is to do. Written as words `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What everything random follows from.
    pub seed: u64,
    /// Where the events are kept.
    pub store: Engine,
    /// Confirmed publishes that the run wants.
    pub events: u64,
    /// Publishes under way at the same time.
    pub publishers: u64,
    /// Times that the host is killed with -9, and started again.
    pub host_kills: u64,
    /// Times that a plugin is killed with -9.
    pub plugin_kills: u64,
    /// Times that a plugin is stopped with SIGSTOP and killed a while later.
    pub plugin_stops: u64,
    /// Times that the disk is filled, and freed.
    pub full_disks: u64,
    /// Times that all connections to the database are ended (PostgreSQL only).
    pub connection_kills: u64,
    /// Times that the database server is killed with -9, and started again (PostgreSQL only).
    pub server_kills: u64,
    /// What the daemon's `TEMPS_FAILPOINTS` is: to see that a broken daemon is caught.
    pub failpoints: String,
}

impl Settings {
    /// Everything that is not said. A run with these takes about a minute.
    #[must_use]
    pub fn default_with_seed(seed: u64) -> Self {
        Self {
            seed,
            store: Engine::Sqlite,
            events: 1_000,
            publishers: 16,
            host_kills: 5,
            plugin_kills: 12,
            plugin_stops: 3,
            full_disks: 2,
            connection_kills: 0,
            server_kills: 0,
            failpoints: String::new(),
        }
    }

    /// Reads words like `EVENTS=100000`. With `STORE=postgres` the database has faults of its own unless they are said.
    ///
    /// # Errors
    /// Which word cannot be read, and what there is.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut settings = Self::default_with_seed(Chance::fresh_seed());
        if words.iter().any(|word| word == "STORE=postgres") {
            settings.store = Engine::Postgres;
            (settings.connection_kills, settings.server_kills) = (3, 2);
        }
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| unknown(word))?;
            if name == "STORE" && ["sqlite", "postgres"].contains(&value) {
                continue;
            }
            if name == "FAILPOINTS" {
                value.clone_into(&mut settings.failpoints);
                continue;
            }
            let number = value.parse().map_err(|_| format!("{word}: {value:?} is no number"))?;
            *settings.number(name).ok_or_else(|| unknown(word))? = number;
        }
        if settings.events == 0 || settings.publishers == 0 {
            return Err("EVENTS and PUBLISHERS are at least 1".into());
        }
        if settings.store == Engine::Sqlite && settings.connection_kills + settings.server_kills > 0 {
            return Err("CONNECTION_KILLS and SERVER_KILLS need STORE=postgres".into());
        }
        Ok(settings)
    }

    fn number(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "SEED" => &mut self.seed,
            "EVENTS" => &mut self.events,
            "PUBLISHERS" => &mut self.publishers,
            "HOST_KILLS" => &mut self.host_kills,
            "PLUGIN_KILLS" => &mut self.plugin_kills,
            "PLUGIN_STOPS" => &mut self.plugin_stops,
            "FULL_DISKS" => &mut self.full_disks,
            "CONNECTION_KILLS" => &mut self.connection_kills,
            "SERVER_KILLS" => &mut self.server_kills,
            _ => return None,
        })
    }

    /// The words that make the same run again.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = format!(
            "STORE={} EVENTS={} PUBLISHERS={} HOST_KILLS={} PLUGIN_KILLS={} PLUGIN_STOPS={} FULL_DISKS={}",
            self.store,
            self.events,
            self.publishers,
            self.host_kills,
            self.plugin_kills,
            self.plugin_stops,
            self.full_disks
        );
        if self.store == Engine::Postgres {
            words +=
                &format!(" CONNECTION_KILLS={} SERVER_KILLS={}", self.connection_kills, self.server_kills);
        }
        if !self.failpoints.is_empty() {
            words += &format!(" FAILPOINTS='{}'", self.failpoints);
        }
        format!("{words} SEED={}", self.seed)
    }
}

fn unknown(word: &str) -> String {
    format!(
        "{word:?} is not understood; there are STORE=sqlite|postgres, SEED, EVENTS, PUBLISHERS, HOST_KILLS, PLUGIN_KILLS, \
         PLUGIN_STOPS, FULL_DISKS, CONNECTION_KILLS, SERVER_KILLS, FAILPOINTS, each as NAME=VALUE"
    )
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The daemon is killed with -9 and started again.
    KillHost,
    /// A plugin, this one of all, is killed with -9.
    KillPlugin(usize),
    /// A plugin is stopped with SIGSTOP, and killed after so long.
    StopPlugin(usize, Duration),
    /// The disk is full for so long.
    FillDisk(Duration),
    /// All connections to the database are ended by the server.
    KillConnections,
    /// The database server is killed with -9 and stays away for so long.
    KillServer(Duration),
}

/// A fault and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Confirmed events before it.
    pub after: u64,
    /// How long after that.
    pub delay: Duration,
    /// What goes wrong.
    pub fault: Fault,
}

/// Makes the fault of a kind with this number, with so many plugins to choose from.
type Make = fn(&mut Chance, u64, u64) -> Fault;

/// The faults of a run in their order, with `plugins` plugins to choose from.
#[must_use]
pub fn draw(settings: &Settings, plugins: usize) -> Vec<Planned> {
    let mut chance = Chance::new(settings.seed);
    let mut plan = Vec::new();
    let kinds: [(u64, Make); 6] = [
        (settings.host_kills, |_, _, _| Fault::KillHost),
        (settings.plugin_kills, |chance, plugins, _| Fault::KillPlugin(chance.below(plugins) as usize)),
        // In turn, so that a few are enough for each of them.
        (settings.plugin_stops, |chance, plugins, number| {
            Fault::StopPlugin((number % plugins) as usize, hold(chance))
        }),
        (settings.full_disks, |chance, _, _| Fault::FillDisk(hold(chance))),
        (settings.connection_kills, |_, _, _| Fault::KillConnections),
        (settings.server_kills, |chance, _, _| Fault::KillServer(hold(chance))),
    ];
    for (count, make) in kinds {
        for number in 0..count {
            let after = chance.below(settings.events);
            let delay = Duration::from_millis(chance.below(MOST_DELAY_MS));
            let fault = make(&mut chance, plugins.max(1) as u64, number);
            plan.push(Planned { after, delay, fault });
        }
    }
    plan.sort_by_key(|planned| planned.after);
    plan
}

fn hold(chance: &mut Chance) -> Duration {
    Duration::from_millis(HOLD_MS.start + chance.below(HOLD_MS.end - HOLD_MS.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_words_of_a_run_make_the_same_run_again() {
        let said = words("STORE=postgres EVENTS=77 HOST_KILLS=3 PLUGIN_KILLS=9 SEED=5 SERVER_KILLS=1");
        let settings = Settings::parse(&said).unwrap();
        let again = Settings::parse(&words(&settings.words())).unwrap();
        assert_eq!(settings, again);
        assert_eq!(draw(&settings, 3), draw(&again, 3));
        assert_ne!(draw(&settings, 3), draw(&Settings { seed: 6, ..settings }, 3));
    }

    #[test]
    fn every_fault_that_was_asked_for_is_in_the_plan_in_order() {
        let said = words("EVENTS=500 HOST_KILLS=20 PLUGIN_KILLS=50 PLUGIN_STOPS=4 FULL_DISKS=3 SEED=1");
        let plan = draw(&Settings::parse(&said).unwrap(), 3);
        let count = |wanted: fn(&Fault) -> bool| plan.iter().filter(|planned| wanted(&planned.fault)).count();
        assert_eq!(count(|fault| *fault == Fault::KillHost), 20);
        assert_eq!(count(|fault| matches!(fault, Fault::KillPlugin(0..3))), 50);
        assert_eq!(count(|fault| matches!(fault, Fault::StopPlugin(0..3, _))), 4);
        assert_eq!(count(|fault| matches!(fault, Fault::FillDisk(_))), 3);
        assert!(
            plan.is_sorted_by_key(|planned| planned.after) && plan.iter().all(|planned| planned.after < 500)
        );
    }

    #[test]
    fn what_cannot_be_run_is_refused_in_words() {
        for wrong in ["EVENT=5", "EVENTS=many", "EVENTS=0", "STORE=oracle", "SERVER_KILLS=1", "fast"] {
            assert!(Settings::parse(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
