//! The actor of one plugin: it owns the plugin's life, turns what happens into inputs of the step function, and runs the effects.
//!
//! One task per plugin name. It is told by messages (from the intake, from operators, from the tasks of its present start) and
//! answers through watches. It decides nothing about lifecycle itself: that is [`super::state`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde_json::json;
use temps_protocol::{PluginManifest, PluginName};
use temps_store::{ConfigRecord, GrantRecord, PluginRecord, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::Health;
use super::link::{Ended, Link};
use super::logs::PluginLog;
use super::process::{ExitReport, Process};
use super::snapshot::{CrashReport, PluginSnapshot, PluginState};
use super::start::{self, Progress, StartContext};
use super::state::{Context, Input, Life, Start, step};
use crate::artifacts::Artifact;
use crate::configuration::{ConfigChange, ConfigError, ConfigProblem, ConfigView, Injected};
use crate::grants::{Grants, Wish};
use crate::host::Shared;
use crate::operate::OperateError;
use crate::registry::PluginHandle;
use crate::sandbox::LayerReport;
use crate::secrets::Secret;
use crate::usage::Usage;

mod authority;
mod effects;
mod progress;
mod settings;
mod view;

/// Commands that may wait; operators and the intake are patient.
const COMMANDS: usize = 32;

/// Reports of a start that may wait.
const REPORTS: usize = 64;

/// A program that was inspected and may become what the plugin runs.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) artifact: Artifact,
    pub(crate) manifest: Arc<PluginManifest>,
}

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Start,
    Stop,
    Restart,
    Enable,
    Disable,
    Debug(bool),
    Grant(Vec<Wish>),
    Revoke(Vec<Wish>),
}

/// What the actor is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Its file is being looked at.
    Inspecting,
    /// Its file was inspected.
    Offer(Version),
    /// Its file could not be taken up, and why.
    Unusable(String),
    /// Its file was removed.
    Gone,
    /// Another file is to hold its name from now on.
    Adopt { file: String, reply: oneshot::Sender<Result<(), StoreError>> },
    /// An operator looks at its configuration.
    ShowConfig { reply: oneshot::Sender<Result<ConfigView, ConfigError>> },
    /// An operator changes its configuration.
    Configure { change: ConfigChange, by: String, reply: oneshot::Sender<Result<ConfigView, ConfigError>> },
    /// An operator wants something; `by` is the operator's name.
    Operate { wanted: Wanted, by: String, reply: oneshot::Sender<Result<(), OperateError>> },
}

/// What others hold of an actor.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) log: PluginLog,
    /// What operators can be told about grants: those that are there, and what is asked for beyond them.
    pub(crate) authority: watch::Receiver<Authority>,
    /// Hashes of the programs that must stay in the store.
    pub(crate) artifacts: watch::Receiver<Vec<String>>,
}

/// Grants as they are, and what is asked for beyond them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Authority {
    pub(crate) granted: Vec<GrantRecord>,
    pub(crate) missing: Vec<Wish>,
}

/// A version that waits for an operator, and for what. With nothing to wait for, it waits for the store.
struct Waiting {
    version: Version,
    wishes: Vec<Wish>,
    settings: Vec<ConfigProblem>,
}

/// What exists of a start, from the moment it is begun until its process is gone.
struct Current {
    context: StartContext,
    ended: watch::Sender<Option<Ended>>,
    process: Option<Arc<Process>>,
    link: Option<Arc<Link>>,
    channel: Option<&'static str>,
    health: Health,
    has_ui: bool,
    exit: Option<ExitReport>,
    running_since: Option<DateTime<Utc>>,
    usage: Option<Usage>,
    layers: Option<Arc<[LayerReport]>>,
}

pub(crate) struct Actor {
    shared: Shared,
    name: PluginName,
    record: PluginRecord,
    log: PluginLog,
    life: Life,
    /// What runs, or would.
    version: Option<Version>,
    waiting: Option<Waiting>,
    /// Why the file as it is now is not what runs.
    note: Option<String>,
    /// Why it may not be started on this machine as it is set.
    not_started: Option<String>,
    inspecting: bool,
    /// When a version that the store could not take is offered again.
    retry_at: Option<Instant>,
    granted: Vec<GrantRecord>,
    /// What operators set for it.
    config: Option<ConfigRecord>,
    /// What the version that is there gets of it.
    injected: watch::Sender<Injected>,
    current: Option<Current>,
    crashes: u64,
    last_crash: Option<CrashReport>,
    debug: watch::Sender<bool>,
    view: watch::Sender<Arc<PluginSnapshot>>,
    link: watch::Sender<Option<Arc<Link>>>,
    grants: watch::Sender<Arc<Grants>>,
    authority: watch::Sender<Authority>,
    artifacts: watch::Sender<Vec<String>>,
    shown: PluginState,
    reports: mpsc::Sender<(Start, Progress)>,
}

impl Actor {
    /// Starts the actor of a plugin and enters it into the registry.
    pub(crate) fn start(shared: &Shared, name: &PluginName, record: PluginRecord) -> Control {
        let log = PluginLog::open(
            name.as_str(),
            shared.places.logs(name.as_str()),
            &shared.log_files,
            shared.metrics.clone(),
        );
        let (commands, orders) = mpsc::channel(COMMANDS);
        let (reports, progress) = mpsc::channel(REPORTS);
        let life = Life::new(record.enabled);
        let snapshot = Arc::new(PluginSnapshot::found(name.as_str(), record.file.clone().into()));
        let mut actor = Self {
            shared: shared.clone(),
            name: name.clone(),
            record,
            log: log.clone(),
            life,
            version: None,
            waiting: None,
            note: None,
            not_started: None,
            inspecting: false,
            retry_at: None,
            granted: Vec::new(),
            config: None,
            injected: watch::channel(Injected::default()).0,
            current: None,
            crashes: 0,
            last_crash: None,
            debug: watch::channel(false).0,
            view: watch::channel(snapshot).0,
            link: watch::channel(None).0,
            grants: watch::channel(Arc::default()).0,
            authority: watch::channel(Authority::default()).0,
            artifacts: watch::channel(Vec::new()).0,
            shown: PluginState::Discovered,
            reports,
        };
        let control = Control {
            commands,
            log,
            authority: actor.authority.subscribe(),
            artifacts: actor.artifacts.subscribe(),
        };
        let handle = PluginHandle {
            view: actor.view.subscribe(),
            link: actor.link.subscribe(),
            grants: actor.grants.subscribe(),
        };
        actor.publish();
        shared.registry.insert_controlled(name.to_string(), handle, control.clone());
        shared.shutdown.spawn(actor.run(orders, progress));
        control
    }

    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Command>,
        mut progress: mpsc::Receiver<(Start, Progress)>,
    ) {
        let told = self.shared.shutdown.told();
        self.load_grants().await;
        let mut ending = false;
        loop {
            if ending && self.life.start().is_none() {
                break;
            }
            let due = self.life.deadline();
            let retry = self.retry_at;
            tokio::select! {
                () = told.cancelled(), if !ending => {
                    ending = true;
                    self.give(Input::Stop);
                }
                Some((start, what)) = progress.recv() => self.progress(start, what),
                Some(command) = orders.recv(), if !ending => self.command(command).await,
                () = sleep_until(due) => self.give(Input::Tick),
                () = sleep_until(retry), if !ending => self.offer_again().await,
            }
            self.publish();
        }
        self.publish();
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Inspecting => self.inspecting = true,
            Command::Offer(version) => {
                self.inspecting = false;
                self.note = None;
                self.offer(version).await;
            }
            Command::Unusable(why) => {
                self.inspecting = false;
                self.refuse(why);
            }
            Command::Gone => {
                self.inspecting = false;
                self.waiting = None;
                self.version = None;
                self.note = Some("its file was removed; its data is kept".into());
                self.audit("plugin.gone", "host", json!({"file": self.record.file}));
                self.give(Input::Gone);
            }
            Command::Adopt { file, reply } => {
                // The intake waits for the answer.
                let _ = reply.send(self.adopt(file).await);
            }
            Command::ShowConfig { reply } => {
                let view = match self.load_config().await {
                    Ok(()) => self.config_view(),
                    Err(error) => Err(error.into()),
                };
                let _ = reply.send(view);
            }
            Command::Configure { change, by, reply } => {
                let done = self.configure(change, &by).await;
                // As below: whoever asked sees what was done, and may have gone away.
                self.publish();
                let _ = reply.send(done);
            }
            Command::Operate { wanted, by, reply } => {
                let done = self.operate(wanted, &by).await;
                // Whoever asked looks right after the answer, and must see what was done.
                self.publish();
                // The operator may have gone away; what was asked for is done nevertheless.
                let _ = reply.send(done);
            }
        }
    }

    /// The file as it is now cannot run; what ran before runs on.
    fn refuse(&mut self, why: String) {
        self.waiting = None;
        self.audit("plugin.refused", "host", json!({"file": self.record.file, "reason": why}));
        tracing::warn!(plugin = %self.name, file = self.record.file, reason = why, "a file was refused");
        self.log.say("error", format!("the file was refused: {why}"));
        if self.version.is_some() {
            self.note = Some(format!("the file changed and was refused, the version before it stays: {why}"));
        } else {
            self.note = Some(why);
            self.give(Input::Refused);
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Current)) {
        if let Some(current) = &mut self.current {
            change(current);
        }
    }

    /// Whether the deliveries would blame a crash at this moment on one event.
    fn crash_is_an_events_fault(&self) -> bool {
        let link = self.current.as_ref().and_then(|current| current.link.as_ref());
        link.is_some_and(|link| link.blames_an_event.load(Ordering::Relaxed))
    }

    /// Steps, and runs the effects.
    fn give(&mut self, input: Input) {
        let config = self.shared.config();
        let context = Context {
            now: Instant::now(),
            policy: &config.restart,
            stop_grace: config.stop_grace,
            jitter: jitter(),
            on_an_event: self.crash_is_an_events_fault(),
        };
        let (life, effects) = step(self.life.clone(), input, context);
        self.life = life;
        for effect in effects {
            self.run_effect(effect);
        }
    }

    fn audit(&self, kind: &'static str, by: &str, detail: serde_json::Value) {
        self.shared.audit.record(kind, Some(self.name.as_str()), by, detail);
    }

    fn begin(&mut self, start: Start) {
        let (Some(version), Ok(secret)) = (self.version.clone(), Secret::generate()) else {
            // The life rests until a version was accepted, so what is missing is randomness of the system.
            self.log.say("error", "the system gave no randomness for a secret");
            return self.give(Input::SpawnFailed(start, "no secret could be made for it".into()));
        };
        let (ended, has_ended) = watch::channel(None);
        let context = StartContext {
            shared: self.shared.clone(),
            name: self.name.clone(),
            start,
            artifact: version.artifact,
            manifest: version.manifest,
            log: self.log.clone(),
            grants: self.grants.subscribe(),
            config: self.injected.subscribe(),
            debug: self.debug.subscribe(),
            secret,
            work: TaskTracker::new(),
            ended: has_ended,
            over: CancellationToken::new(),
            reports: self.reports.clone(),
        };
        tokio::spawn(start::run(context.clone()));
        self.current = Some(Current {
            context,
            ended,
            process: None,
            link: None,
            channel: None,
            health: Health::Unknown,
            has_ui: false,
            exit: None,
            running_since: None,
            usage: None,
            layers: None,
        });
    }
}

/// A random number in `0.0..1.0`; its quality does not matter.
fn jitter() -> f64 {
    let mut byte = [0u8; 2];
    match getrandom::fill(&mut byte) {
        Ok(()) => f64::from(u16::from_le_bytes(byte)) / 65_536.0,
        Err(_) => 0.5,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
