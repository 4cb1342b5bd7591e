//! A daemon that ends at any step between a publish and its settling, as by `kill -9` at exactly that moment: what was
//! confirmed is handled after the next start, and what was not is there whole or not at all.
//!
//! Only a daemon that was built with feature `failpoints` can be told to. With it, a daemon that loses an event on purpose
//! shows that the fault runs notice.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temps_testkit::behaviour::{Behaviour, Sin};
use temps_testkit::binaries::{built_example, built_executable};
use temps_testkit::daemon::{PATIENCE, empty_home};
use temps_testkit::faults::ledger::Ledger;
use temps_testkit::faults::rest::Rest;
use temps_testkit::faults::stage::{PLUGINS, Stage, now};
use temps_testkit::faults::verdict::{Event, Evidence, Plugin, Published, judge};
use temps_testkit::faults::{Engine, Settings};
use tokio::runtime::Runtime;

/// Every point, in the order in which an event passes them, and the visit at which the daemon ends there. The first visits
/// are left to events that go well.
const POINTS: [(&str, u64); 15] = [
    ("journal.insert", 8),
    ("journal.commit", 5),
    ("journal.committed", 5),
    ("journal.announced", 5),
    ("delivery.taken", 6),
    ("delivery.send", 6),
    ("delivery.sent", 6),
    ("delivery.acked", 6),
    ("delivery.retry", 1),
    ("delivery.dead", 1),
    ("record.queued", 4),
    ("record.write", 3),
    ("record.cursor", 3),
    ("record.commit", 3),
    ("record.written", 3),
];

/// Those of a publish on PostgreSQL, which takes one statement.
const POSTGRES_POINTS: [(&str, u64); 3] =
    [("journal.insert", 8), ("journal.committed", 5), ("journal.announced", 5)];

/// How many visits later a daemon ends that came to its point before anything was published, and the latest one that is tried.
const LATER: u64 = 4;
const LATEST_VISIT: u64 = 40;

/// Events that are published before a daemon has to have come to its point.
const MOST_EVENTS: u64 = 600;

/// Every so many of them is a deployment's report.
const REPORT_EVERY: u64 = 4;

/// The event on which the plugin `crasher` dies: the way to a retry, and to a dead letter.
const POISON: &str = "faults.poison";

/// Points that are tried at the same time.
const AT_ONCE: usize = 6;

#[test]
fn a_daemon_that_ends_at_any_step_between_publish_and_settled_loses_nothing_it_confirmed() {
    build_all();
    try_all(Engine::Sqlite, &POINTS);
}

#[test]
fn a_daemon_on_postgresql_that_ends_at_any_step_of_a_publish_loses_nothing_it_confirmed() {
    if temps_testkit::Postgres::shared("failpoints_on_postgresql").is_some() {
        build_all();
        try_all(Engine::Postgres, &POSTGRES_POINTS);
    }
}

/// Built once, before threads ask for them.
fn build_all() {
    for program in [("temps-cli", "temps"), ("temps-testkit", "plain-ledger"), ("temps-testkit", "unruly")] {
        built_executable(program.0, program.1);
    }
    built_example("temps-plugin-sdk", "ledger");
}

fn try_all(store: Engine, points: &[(&'static str, u64)]) {
    let left = Mutex::new(points.to_vec());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((point, visit)) = { left.lock().unwrap().pop() } {
                    if let Err(error) = Trial::of(store, point, visit) {
                        failures.lock().unwrap().push(format!("{point}: {error}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_failpoint_in_the_sources_is_tried() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeSet::new();
    let mut folders: Vec<_> = ["store/src", "host/src"].map(|folder| crates.join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("failpoint.rs") {
                let text = std::fs::read_to_string(path).unwrap();
                let names = text.split("failpoint!(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
    assert_eq!(found, POINTS.iter().map(|(point, _)| (*point).to_owned()).collect());
}

#[test]
fn a_daemon_that_confirms_an_event_and_drops_it_is_caught_by_a_run_of_faults() {
    built_executable("temps-cli", "temps");
    built_executable("temps-testkit", "plain-ledger");
    built_example("temps-plugin-sdk", "ledger");
    let words = ["EVENTS=120", "HOST_KILLS=0", "PLUGIN_KILLS=1", "PLUGIN_STOPS=0", "FULL_DISKS=0"];
    let ended = Command::new(built_executable("temps-testkit", "temps-faults"))
        .args(words)
        .arg("FAILPOINTS=journal.insert=skip@40")
        .env("TEMPS_TEST_BUILT", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    let complaint = String::from_utf8(ended.stderr).unwrap();
    let kept = complaint.lines().find_map(|line| line.split(" is kept in ").nth(1)).unwrap();
    std::fs::remove_dir_all(kept).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}\n{complaint}");
    // What is dropped is an event of its own, or one of the two of a report.
    let caught = ["BROKEN: confirmed and lost (1)", "BROKEN: half a report (1)"];
    assert!(caught.iter().any(|breach| said.contains(breach)), "{said}");
    assert!(said.contains("the same run again: make faults"), "{said}");
}

struct Trial {
    stage: Stage,
    runtime: Runtime,
    rest: Rest,
    confirmed: Vec<Published>,
    unconfirmed: Vec<String>,
    poison: String,
}

impl Trial {
    /// Lets a daemon end at a point, starts another one, and judges what it makes of what it found.
    fn of(store: Engine, point: &str, visit: u64) -> Result<(), String> {
        let home = empty_home();
        let settings = Settings {
            store,
            failpoints: format!("{point}=abort@{visit}"),
            ..Settings::default_with_seed(0)
        };
        let stage = Stage::prepare(home.path().to_owned(), &settings)?;
        let crasher = Behaviour::honest("crasher").and(Sin::CrashOnEvent { event_type: POISON.into() });
        let unruly = built_executable("temps-testkit", "unruly");
        temps_testkit::unruly::install(&unruly, &home.path().join("plugins"), "crasher", &crasher)
            .map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let rest = Rest::new(stage.target());
        let poison = format!("poison-{point}");
        let mut trial = Self { stage, runtime, rest, confirmed: Vec::new(), unconfirmed: Vec::new(), poison };
        trial.stage.start()?;
        if !trial.all_run()? {
            // A slow start passes the point more often than a quick one, and nothing was published yet.
            let later = visit + LATER;
            return if later <= LATEST_VISIT {
                Self::of(store, point, later)
            } else {
                Err("it is always too early".into())
            };
        }
        trial.publish_until_it_ends()?;
        let died = now();
        trial.stage.start()?;
        trial.judge_until_it_holds(died)?;
        trial.stage.stop_daemon()
    }

    /// Waits until all plugins run. `false` when the daemon came to its point before.
    fn all_run(&mut self) -> Result<bool, String> {
        for name in PLUGINS.iter().map(|(name, _)| *name).chain(["crasher"]) {
            let runs = self.wait(&format!("{name} runs"), |trial| {
                let info = trial.runtime.block_on(trial.rest.get(&format!("/api/plugins/{name}")));
                Ok(info.is_ok_and(|info| info["state"] == "running"))
            })?;
            if !runs {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Publishes one event after the other, the poison among the first, until the daemon has come to its point.
    fn publish_until_it_ends(&mut self) -> Result<(), String> {
        for number in 0..MOST_EVENTS {
            let id = if number == 2 { self.poison.clone() } else { format!("event-{number:04}") };
            let event_type = if number == 2 { POISON } else { "faults.tick" };
            let report = number % REPORT_EVERY == 3;
            let (path, body) = match report {
                true => (
                    "/api/deployments",
                    json!({"project": "faults", "external_id": id, "state": "succeeded"}),
                ),
                false => ("/api/events", json!({"id": id, "event_type": event_type, "data": {}})),
            };
            match self.runtime.block_on(self.rest.ask(http::Method::POST, path, Some(&body))) {
                Ok((status, said)) if status.is_success() => self.confirmed.push(match report {
                    true => Published::Deployment(said["id"].as_i64().ok_or("a report without an id")?),
                    false => Published::Event(id),
                }),
                Ok((status, said)) => return Err(format!("{path} answered {status}: {said}")),
                Err(_) => self.unconfirmed.push(id),
            }
            // Deliveries go on behind the publishes; the daemon may end in the midst of them.
            if let Some(ended) = self.has_ended_within(Duration::from_millis(15)) {
                return ended;
            }
        }
        // Retries and dead letters come after waits of seconds, when everything is published.
        self.has_ended_within(PATIENCE).unwrap_or_else(|| {
            Err(format!("the daemon never came to the point; its log:\n{}", self.stage.log_end()))
        })
    }

    /// How the daemon ended, if it does so within this time: at its point, or in a way that it should not.
    fn has_ended_within(&mut self, patience: Duration) -> Option<Result<(), String>> {
        let status = self.stage.ended_within(patience)?;
        let aborted = status.signal() == Some(rustix::process::Signal::ABORT.as_raw());
        Some(if aborted { Ok(()) } else { Err(format!("the daemon ended with {status}")) })
    }

    /// Waits until the verdict is clean and the poison is a dead letter of the plugin that dies of it, of nobody else.
    fn judge_until_it_holds(&mut self, died: u64) -> Result<(), String> {
        let mut last = Vec::new();
        let held = self.wait("every promise holds", |trial| {
            let verdict = judge(&trial.evidence(died)?);
            last = verdict.breaches;
            let dead = trial.items("/api/deliveries?plugin=crasher&state=dead&limit=500")?;
            let poison_is_published = trial.confirmed.contains(&Published::Event(trial.poison.clone()));
            if poison_is_published && !dead.iter().any(|record| record["event_id"] == *trial.poison) {
                last.push("the poison is no dead letter of the plugin that it kills".into());
            }
            Ok(last.is_empty())
        });
        match held {
            Ok(true) => Ok(()),
            Ok(false) => Err("the daemon came to a point once more".to_owned()),
            Err(error) => Err(format!("{error}: {last:?}")),
        }
    }

    fn evidence(&mut self, died: u64) -> Result<Evidence, String> {
        let journal = self.items("/api/events?after=0&limit=500")?;
        let event = |item: &Value| {
            Some(Event {
                seq: item["seq"].as_i64()?,
                id: item["id"].as_str()?.to_owned(),
                event_type: item["event_type"].as_str()?.to_owned(),
                deployment: item["data"]["deployment_id"].as_i64(),
            })
        };
        let mut plugins = Vec::new();
        for (name, kind) in PLUGINS {
            let mut ledger = Ledger::new(&self.stage.data_dir(name));
            ledger.look().map_err(|error| error.to_string())?;
            let failed = self.items(&format!("/api/attempts?plugin={name}&result=failed&limit=500"))?;
            let id = |record: &Value| record["event_id"].as_str().map(str::to_owned);
            let retried: HashSet<String> = failed.iter().filter_map(id).collect();
            let dead = self.items(&format!("/api/deliveries?plugin={name}&state=dead&limit=500"))?;
            let dead: HashMap<String, String> =
                dead.iter().filter_map(|record| Some((id(record)?, record["outcome"].to_string()))).collect();
            plugins.push(Plugin {
                name: name.to_owned(),
                kind,
                lines: ledger.lines,
                deaths: vec![died],
                retried,
                dead,
            });
        }
        Ok(Evidence {
            journal: journal.iter().filter_map(event).collect(),
            confirmed: self.confirmed.clone(),
            unconfirmed: self.unconfirmed.clone(),
            host_deaths: vec![died],
            plugins,
        })
    }

    fn items(&mut self, path: &str) -> Result<Vec<Value>, String> {
        self.runtime.block_on(self.rest.all(path))
    }

    /// Waits until something is so. `false` when the daemon came to its point before.
    fn wait(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&mut Self) -> Result<bool, String>,
    ) -> Result<bool, String> {
        let begin = Instant::now();
        while !is_so(self)? {
            if begin.elapsed() > PATIENCE {
                return Err(format!("not so after {PATIENCE:?}: {what}"));
            }
            // The daemon is asked again a little later, unless it ends before.
            if let Some(ended) = self.has_ended_within(Duration::from_millis(50)) {
                return ended.map(|()| false).map_err(|error| format!("{error} before this was so: {what}"));
            }
        }
        Ok(true)
    }
}
