//! A run from its beginning to its verdict: publishers flow, faults strike when the plan says so, lines drain, the judge
//! judges.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::ledger::Ledger;
use super::plan::{Fault, Planned, Settings, draw};
use super::publisher::{Flow, Written};
use super::rest::Rest;
use super::stage::{PLUGINS, Stage, now, wait_until};
use super::verdict::{Event, Evidence, Kind, Plugin, Verdict, judge};
use crate::daemon::{runs, temps};

/// Confirmed events by which the flow may run ahead of the next fault at most, so that faults strike while it flows.
const AHEAD: u64 = 100;

/// In a short run it is this share of all, so that faults do not all come at its end.
const AHEAD_SHARE: u64 = 20;

/// How long no plugin may have written anything before all lines count as drained. It must be longer than the five seconds
/// after which an event without acks is settled, and the next one sent after a crash.
const QUIET: Duration = Duration::from_secs(12);

/// How long a line may make no progress before the run gives up on it and judges what there is.
const STUCK: Duration = Duration::from_secs(120);

/// What the daemon says to a publisher when its disk is full.
const DISK_FULL: &str = "507 disk_full";

/// How much longer a full disk stays for a publish to meet it.
const MEETS_WITHIN: Duration = Duration::from_secs(10);

/// Time between two reports on how far a run is.
const PROGRESS: Duration = Duration::from_secs(10);

/// Time between two looks at ledgers and counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a run found.
#[derive(Debug)]
pub struct Outcome {
    /// What holds and what does not.
    pub verdict: Verdict,
    /// Faults that struck, by their words.
    pub struck: BTreeMap<&'static str, u64>,
    /// Answers to publishers that were no confirmation.
    pub refusals: BTreeMap<String, u64>,
    /// Dead letters that were sent again at the end, as an operator would.
    pub redelivered: u64,
    /// What `temps audit verify` said; its last line.
    pub audit: String,
    /// Lines of ledgers that a kill cut short.
    pub torn: u64,
    /// How long all of it took.
    pub took: Duration,
}

/// Runs on a stage, and tells how far it is.
///
/// # Errors
/// What made it impossible to go on. A broken promise is no error but part of the verdict.
pub fn run(stage: &mut Stage, settings: &Settings, tell: &mut dyn FnMut(&str)) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut run = Run::begin(stage, settings, &runtime)?;
    run.subscribe()?;
    run.strike_all(tell)?;
    run.flow_out(tell)?;
    let journal = run.journal()?;
    run.drain(&journal, tell)?;
    run.finish(journal)
}

struct Run<'a> {
    stage: &'a mut Stage,
    settings: &'a Settings,
    runtime: &'a Runtime,
    rest: Rest,
    flow: Arc<Flow>,
    publishers: tokio::task::JoinSet<()>,
    ledgers: Vec<Ledger>,
    deaths: Vec<Vec<u64>>,
    host_deaths: Vec<u64>,
    struck: BTreeMap<&'static str, u64>,
    redelivered: u64,
    begun: Instant,
    told_at: Instant,
}

impl<'a> Run<'a> {
    fn begin(stage: &'a mut Stage, settings: &'a Settings, runtime: &'a Runtime) -> Result<Self, String> {
        let rest = Rest::new(stage.target());
        let ledgers = PLUGINS.iter().map(|(name, _)| Ledger::new(&stage.data_dir(name))).collect();
        let deaths = vec![Vec::new(); PLUGINS.len()];
        let flow = Flow::new(settings.events, 0);
        let now = Instant::now();
        Ok(Self {
            stage,
            settings,
            runtime,
            rest,
            flow,
            publishers: tokio::task::JoinSet::new(),
            ledgers,
            deaths,
            host_deaths: Vec::new(),
            struck: BTreeMap::new(),
            redelivered: 0,
            begun: now,
            told_at: now,
        })
    }

    /// Starts the daemon, and publishes nothing before every plugin runs: a plugin gets what was published after it was first
    /// taken up.
    fn subscribe(&mut self) -> Result<(), String> {
        self.stage.start()?;
        for (name, kind) in PLUGINS {
            self.pid_of(name)?;
            let info = self.runtime.block_on(self.rest.get(&format!("/api/plugins/{name}")))?;
            let acks = info["features"].as_array().is_some_and(|features| features.contains(&json!("ack")));
            if acks != (kind == Kind::Acks) {
                return Err(format!(
                    "{name} is to take events by {kind}, and has the features {}",
                    info["features"]
                ));
            }
        }
        for publisher in 0..self.settings.publishers {
            let (flow, rest) = (self.flow.clone(), self.rest.clone());
            self.publishers.spawn_on(flow.publish(rest, publisher % 2 == 0), self.runtime.handle());
        }
        Ok(())
    }

    fn strike_all(&mut self, tell: &mut dyn FnMut(&str)) -> Result<(), String> {
        let plan = draw(self.settings, PLUGINS.len());
        for (number, planned) in plan.iter().enumerate() {
            self.flow.allow(planned.after + self.ahead());
            self.wait_for(planned.after)?;
            std::thread::sleep(planned.delay);
            self.strike(planned).map_err(|error| format!("{:?}: {error}", planned.fault))?;
            self.progress(&format!("{} of {} faults", number + 1, plan.len()), tell);
        }
        self.flow.allow(u64::MAX);
        Ok(())
    }

    /// Waits until so many events are confirmed. The flow never stands still for longer than a fault holds it up.
    fn wait_for(&mut self, confirmed: u64) -> Result<(), String> {
        let (mut last, mut since) = (self.flow.confirmed(), Instant::now());
        while self.flow.confirmed() < confirmed {
            std::thread::sleep(Duration::from_millis(1));
            let now = self.flow.confirmed();
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > STUCK {
                let refusals = self.flow.written().refusals;
                return Err(format!(
                    "nothing was confirmed for {STUCK:?}; publishers were told {refusals:?}"
                ));
            }
            self.stage.check_daemon()?;
        }
        Ok(())
    }

    fn strike(&mut self, planned: &Planned) -> Result<(), String> {
        let word = match planned.fault {
            Fault::KillHost => {
                let at = self.stage.kill_daemon()?;
                self.deaths.iter_mut().for_each(|deaths| deaths.push(at));
                self.host_deaths.push(at);
                self.stage.start()?;
                "host killed"
            }
            Fault::KillPlugin(index) => {
                self.kill_plugin(index, Duration::ZERO)?;
                "plugin killed"
            }
            Fault::StopPlugin(index, hold) => {
                self.kill_plugin(index, hold)?;
                "plugin stopped, then killed"
            }
            Fault::FillDisk(hold) => {
                self.stage.fill_disk()?;
                let refused = self.hold_until_refused(hold);
                self.stage.free_disk();
                match refused? {
                    true => "disk filled",
                    false => "disk filled, which no publish met",
                }
            }
            Fault::KillConnections => {
                let server = self.stage.server.as_ref().ok_or("there is no database server")?;
                let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                           WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                server.run_sql("postgres", end);
                "database connections ended"
            }
            Fault::KillServer(hold) => {
                let server = self.stage.server.as_ref().ok_or("there is no database server")?;
                server.kill();
                std::thread::sleep(hold);
                server.restart();
                "database server killed"
            }
        };
        *self.struck.entry(word).or_default() += 1;
        Ok(())
    }

    fn ahead(&self) -> u64 {
        (self.settings.events / AHEAD_SHARE).clamp(1, AHEAD)
    }

    /// Lets a full disk last at least so long, while publishers go on, and until it has refused one of them: a database has some
    /// room of its own. Returns whether it did.
    fn hold_until_refused(&mut self, hold: Duration) -> Result<bool, String> {
        let (before, begin) = (self.flow.refused(DISK_FULL), Instant::now());
        while begin.elapsed() < hold || self.flow.refused(DISK_FULL) == before {
            if begin.elapsed() > hold + MEETS_WITHIN || self.flow.is_over() {
                break;
            }
            self.flow.allow(self.flow.confirmed() + self.ahead());
            self.stage.check_daemon()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(self.flow.refused(DISK_FULL) > before)
    }

    fn kill_plugin(&mut self, index: usize, stopped_for: Duration) -> Result<(), String> {
        let begin = Instant::now();
        // It may go by itself between the look and the kill, when an earlier fault still works in it.
        loop {
            let pid = self.pid_of(PLUGINS[index].0)?;
            if !stopped_for.is_zero() {
                if self.stage.signal_plugin(pid, Signal::STOP).is_err() && begin.elapsed() < STUCK {
                    continue;
                }
                std::thread::sleep(stopped_for);
            }
            match self.stage.signal_plugin(pid, Signal::KILL) {
                Ok(()) => {
                    wait_until("a killed plugin is gone", || !runs(u64::from(pid)))?;
                    self.deaths[index].push(now());
                    return Ok(());
                }
                Err(error) if begin.elapsed() > STUCK => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// The process of a plugin, once it runs.
    fn pid_of(&mut self, plugin: &str) -> Result<u32, String> {
        let begin = Instant::now();
        let path = format!("/api/plugins/{plugin}");
        loop {
            let said = self.runtime.block_on(self.rest.get(&path));
            if let Ok(info) = &said
                && info["state"] == "running"
                && let Some(pid) = info["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
            {
                return Ok(pid);
            }
            self.stage.check_daemon()?;
            if begin.elapsed() > STUCK {
                return Err(format!("{plugin} does not run: {said:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn flow_out(&mut self, tell: &mut dyn FnMut(&str)) -> Result<(), String> {
        while !self.flow.is_over() {
            self.wait_for(self.flow.confirmed() + 1)?;
            self.progress("all faults", tell);
        }
        let publishers = std::mem::take(&mut self.publishers);
        self.runtime.block_on(publishers.join_all());
        Ok(())
    }

    /// The journal as the daemon gives it.
    fn journal(&mut self) -> Result<Vec<Event>, String> {
        let items = self.runtime.block_on(self.rest.all("/api/events?after=0&limit=500"))?;
        items.iter().map(|item| event_of(item).ok_or_else(|| format!("not an event: {item}"))).collect()
    }

    /// Waits until every plugin has every event and nothing moves any more; sends dead letters again, as an operator would.
    fn drain(&mut self, journal: &[Event], tell: &mut dyn FnMut(&str)) -> Result<(), String> {
        let all: HashSet<&str> = journal.iter().map(|event| event.id.as_str()).collect();
        let mut missing = vec![all; PLUGINS.len()];
        let (mut moved_at, mut seen) = (Instant::now(), vec![0; PLUGINS.len()]);
        loop {
            let mut moved = false;
            for (index, ledger) in self.ledgers.iter_mut().enumerate() {
                moved |= ledger.look().map_err(|error| error.to_string())? > 0;
                for line in &ledger.lines[seen[index]..] {
                    line.event.as_deref().map(|id| missing[index].remove(id));
                }
                seen[index] = ledger.lines.len();
            }
            let left: usize = missing.iter().map(HashSet::len).sum();
            if moved {
                moved_at = Instant::now();
            }
            let quiet = moved_at.elapsed();
            if quiet > QUIET && self.redeliver_dead()? > 0 {
                moved_at = Instant::now();
            } else if (quiet > QUIET && left == 0 && self.open()? == 0) || quiet > STUCK {
                return Ok(());
            }
            self.stage.check_daemon()?;
            self.progress(&format!("draining, {left} deliveries left"), tell);
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Sends all dead letters again. Returns how many there were.
    fn redeliver_dead(&mut self) -> Result<u64, String> {
        let mut dead = 0;
        for (name, _) in PLUGINS {
            let letters = self.deliveries(name, "dead")?.len() as u64;
            if letters > 0 {
                let path = format!("/api/plugins/{name}/deliveries/redeliver");
                let body = json!({"all": true});
                let (status, said) =
                    self.runtime.block_on(self.rest.ask(Method::POST, &path, Some(&body)))?;
                if !status.is_success() {
                    return Err(format!("POST {path} answered {status}: {said}"));
                }
                dead += letters;
            }
        }
        self.redelivered += dead;
        Ok(dead)
    }

    /// Deliveries that wait for another attempt.
    fn open(&mut self) -> Result<usize, String> {
        let mut open = 0;
        for (name, _) in PLUGINS {
            open += self.deliveries(name, "retrying")?.len();
        }
        Ok(open)
    }

    fn deliveries(&mut self, plugin: &str, state: &str) -> Result<Vec<Value>, String> {
        let path = format!("/api/deliveries?plugin={plugin}&state={state}&limit=500");
        self.runtime.block_on(self.rest.all(&path))
    }

    fn finish(mut self, journal: Vec<Event>) -> Result<Outcome, String> {
        let mut plugins = Vec::new();
        for (index, (name, kind)) in PLUGINS.into_iter().enumerate() {
            let lines = std::mem::take(&mut self.ledgers[index].lines);
            let handled = lines.iter().filter_map(|line| line.event.as_deref());
            let retried = if is_in_order(&journal, handled) { HashSet::new() } else { self.retried(name)? };
            let dead = self.deliveries(name, "dead")?;
            let dead: HashMap<_, _> = dead
                .iter()
                .filter_map(|record| {
                    let reason = record["outcome"].as_str().unwrap_or_default();
                    Some((record["event_id"].as_str()?.to_owned(), reason.to_owned()))
                })
                .collect();
            let deaths = std::mem::take(&mut self.deaths[index]);
            plugins.push(Plugin { name: name.to_owned(), kind, lines, deaths, retried, dead });
        }
        let host_deaths = std::mem::take(&mut self.host_deaths);
        let Written { confirmed, unconfirmed, refusals } = self.flow.written();
        let mut verdict = judge(&Evidence { journal, confirmed, unconfirmed, host_deaths, plugins });
        let audit = self.verify_audit();
        self.stage.stop_daemon()?;
        let panics = self.stage.panics();
        if panics > 0 {
            verdict.breaches.push(format!("a daemon panicked ({panics})"));
        }
        let audit = match audit {
            Ok(said) => said,
            Err(error) => {
                verdict.breaches.push(format!("the audit chain is not intact: {error}"));
                "broken".to_owned()
            }
        };
        Ok(Outcome {
            verdict,
            struck: self.struck,
            refusals,
            redelivered: self.redelivered,
            audit,
            torn: self.ledgers.iter().map(|ledger| ledger.torn).sum(),
            took: self.begun.elapsed(),
        })
    }

    /// Events whose delivery to a plugin had a failed attempt.
    fn retried(&mut self, plugin: &str) -> Result<HashSet<String>, String> {
        let path = format!("/api/attempts?plugin={plugin}&result=failed&limit=500");
        let failed = self.runtime.block_on(self.rest.all(&path))?;
        Ok(failed.iter().filter_map(|attempt| Some(attempt["event_id"].as_str()?.to_owned())).collect())
    }

    fn verify_audit(&mut self) -> Result<String, String> {
        let target = self.stage.target().borrow().clone().ok_or("there is no daemon")?;
        let mut command = temps(&self.stage.home);
        command.env("TEMPS_URL", target.url).args(["audit", "verify"]);
        let ended = command.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
        if ended.status.success() {
            return Ok(said.lines().next().unwrap_or_default().to_owned());
        }
        Err(format!("{said} {}", String::from_utf8_lossy(&ended.stderr).trim()))
    }

    fn progress(&mut self, what: &str, tell: &mut dyn FnMut(&str)) {
        if self.told_at.elapsed() < PROGRESS {
            return;
        }
        self.told_at = Instant::now();
        let (confirmed, wanted) = (self.flow.confirmed(), self.settings.events);
        tell(&format!(
            "{:>5} s  {confirmed} of {wanted} events confirmed, {what}",
            self.begun.elapsed().as_secs()
        ));
    }
}

fn event_of(item: &Value) -> Option<Event> {
    let event_type = item["event_type"].as_str()?.to_owned();
    let deployment = match event_type.starts_with("deployment.") {
        true => item["data"]["deployment_id"].as_i64(),
        false => None,
    };
    Some(Event { seq: item["seq"].as_i64()?, id: item["id"].as_str()?.to_owned(), event_type, deployment })
}

/// Whether the first time of each event came in the journal's order.
fn is_in_order<'e>(journal: &[Event], handled: impl Iterator<Item = &'e str>) -> bool {
    let places: HashMap<&str, i64> = journal.iter().map(|event| (event.id.as_str(), event.seq)).collect();
    let mut seen = HashSet::new();
    handled.filter(|id| seen.insert(*id)).filter_map(|id| places.get(id)).is_sorted()
}
