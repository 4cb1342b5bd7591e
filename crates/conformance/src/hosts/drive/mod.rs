//! What makes a host do something: puts the scripted plugins into its directory, publishes, calls, stops and starts, and
//! gathers what they have seen.

mod caller;
mod gather;
mod hooks;
mod outside;
mod play;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use self::caller::Caller;
pub use self::hooks::{Hook, Hooks};
use super::checks::{DRIVE, checks_of};
use super::ledger::Ledger;
use super::script::{Order, Script};
use crate::check::Check;
use crate::report::Report;

/// Time between two looks at a plugin's report.
const LOOK: Duration = Duration::from_millis(200);

/// What a run may be told.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The program of the scripted plugins.
    pub program: PathBuf,
    /// The plugins directory of the host, which must run.
    pub plugins: PathBuf,
    /// Where the host listens, for example `http://127.0.0.1:6160`.
    pub url: String,
    /// A token that may do everything.
    pub token: Option<String>,
    /// How the host is made to do something.
    pub hooks: Hooks,
    /// Variables that the host's operator has added to the environment of plugins.
    pub added: Vec<String>,
    /// Only checks of these clauses; all when empty.
    pub clauses: Vec<String>,
    /// Leave out what takes more than half a minute.
    pub quick: bool,
    /// How long a thing that must happen may take. A host on a busy machine needs seconds.
    pub patience: Duration,
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The scripted plugins cannot be put in place.
    #[error("the scripted plugins cannot be put into {place:?}: {source}")]
    Place {
        /// The plugins directory.
        place: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address is none.
    #[error("{0:?} is not the address of a host; write it like http://127.0.0.1:6160")]
    Address(String),
    /// A clause that is not there.
    #[error("PROTOCOL.md has no clause {0:?}; clauses are named like H-1")]
    UnknownClause(String),
}

/// Everything that a run works with.
struct Stage {
    options: HostOptions,
    caller: Caller,
    /// What is seen from outside, for the length of the run.
    ledger: Ledger,
    /// Counts events.
    events: AtomicU64,
    /// The last report of each plugin, for those that can no more be reached.
    reports: Mutex<BTreeMap<Script, Value>>,
}

/// Checks a host. `progress` is told what is going on.
///
/// # Errors
/// When the kit itself cannot work. A host that does wrong is no error.
pub async fn run(options: HostOptions, progress: impl Fn(&str)) -> Result<Report, HostError> {
    if let Some(unknown) = options.clauses.iter().find(|id| crate::clauses::clause(id).is_none()) {
        return Err(HostError::UnknownClause(unknown.clone()));
    }
    let begin = Instant::now();
    let caller = Caller::new(&options.url, options.token.clone())
        .ok_or_else(|| HostError::Address(options.url.clone()))?;
    let stage = Stage {
        options,
        caller,
        ledger: Ledger::default(),
        events: AtomicU64::new(0),
        reports: Mutex::default(),
    };
    let placed = Placed(&stage);
    for script in stage.scripts().filter(|script| *script != Script::SameName) {
        placed.place(script)?;
    }
    progress("the scripted plugins are in place");
    play::all(&stage, &placed, &progress).await;
    progress("gathering");
    let entries = gather::entries(&stage).await;
    Ok(Report::new(format!("the host at {}", stage.options.url), entries, begin.elapsed()))
}

/// The plugins in the host's directory. They are taken away when this is dropped.
struct Placed<'a>(&'a Stage);

impl Placed<'_> {
    fn place(&self, script: Script) -> Result<(), HostError> {
        let options = &self.0.options;
        let fail = |source| HostError::Place { place: options.plugins.clone(), source };
        let plugins = options.plugins.canonicalize().map_err(fail)?;
        let placed = plugins.join(script.file()).display().to_string();
        let order = Order { script, placed, added: options.added.clone() };
        order.place(&options.program, &plugins).map_err(fail)
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        for script in self.0.scripts() {
            let path = self.0.options.plugins.join(script.file());
            // One of them is a directory.
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
    }
}

impl Stage {
    /// The parts that are played: those that look at what was asked for.
    fn scripts(&self) -> impl Iterator<Item = Script> {
        let HostOptions { quick, clauses, .. } = &self.options;
        let asked =
            |check: &&Check| clauses.is_empty() || clauses.iter().any(|clause| clause == check.clause);
        let outside = DRIVE.iter().any(|check| asked(&check) && !check.name.starts_with("refuses."));
        let refuses = move |script: Script| {
            let refusal = script.refusal();
            Script::REFUSED.contains(&script)
                && DRIVE.iter().any(|check| check.name == refusal && asked(&check))
        };
        let plays = move |script: &Script| {
            let looks = checks_of(*script).iter().any(|check| asked(&check));
            // What stands outside is seen through one of them, and the other one has the name that is claimed twice.
            let needed = match script {
                Script::Acks => outside,
                Script::Post => refuses(Script::SameName),
                _ => false,
            };
            (looks || needed || refuses(*script)) && !(*quick && *script == Script::Slow)
        };
        Script::RUN.into_iter().chain(Script::REFUSED).filter(plays)
    }

    /// Publishes an event for a plugin, with what it is to do with it.
    async fn publish(&self, to: Script, order: &str) {
        self.publish_as("kit.step", json!({"to": to.name(), "order": order})).await;
    }

    async fn publish_as(&self, kind: &str, mut data: Value) {
        data["n"] = json!(self.events.fetch_add(1, Ordering::Relaxed) + 1);
        let event = json!({"event_type": kind, "data": data});
        let outcome = self.options.hooks.publish.publish(&self.caller, &event).await;
        self.note("publish", outcome);
    }

    /// A hook that does not work leaves checks undone; why stands with them.
    fn note(&self, hook: &str, outcome: Result<(), String>) {
        if let Err(why) = outcome {
            self.ledger.remember(&format!("hook/{hook}"), why);
        }
    }

    /// What a plugin says of itself; `None` while it cannot be reached.
    async fn report(&self, script: Script) -> Option<Value> {
        let path = format!("/api/x/{}/report", script.name());
        let answer = self.caller.get(&path).await.ok()?;
        let report =
            Some(answer.json()).filter(|report| answer.status == 200 && report["script"].is_string())?;
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).insert(script, report.clone());
        Some(report)
    }

    /// Waits until a plugin says something; `None` when that was in vain.
    async fn until(&self, script: Script, holds: impl Fn(&Value) -> bool) -> Option<Value> {
        let begin = Instant::now();
        while begin.elapsed() < self.options.patience {
            if let Some(report) = self.report(script).await
                && holds(&report)
            {
                return Some(report);
            }
            sleep(LOOK).await;
        }
        None
    }

    /// Waits until a check is settled.
    async fn settled(&self, script: Script, check: &str) -> bool {
        let settled = |report: &Value| ["passed", "failed"].contains(&result(report, check));
        self.until(script, settled).await.is_some()
    }

    /// Tells a plugin something.
    async fn remember(&self, script: Script, key: &str, value: &Value) {
        let path = format!("/api/x/{}/remember/{key}", script.name());
        // A plugin that cannot be told is found by the check that needs it.
        let _ = self.caller.send("POST", &path, &[], value.to_string().into_bytes()).await;
    }
}

/// How a check stands in a plugin's report.
fn result<'a>(report: &'a Value, check: &str) -> &'a str {
    let entries = report["entries"].as_array();
    let entry = entries.and_then(|entries| entries.iter().find(|entry| entry["name"] == check));
    entry.and_then(|entry| entry["result"].as_str()).unwrap_or_default()
}
