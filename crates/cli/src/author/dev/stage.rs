//! The simulated platform with the plugin on it: the daemon in a home of its own, the build, and what becomes of both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use reqwest::Url;
use serde_json::Value;
use temps_host::PluginHost;
use temps_host::events::EventTail;
use temps_host::plugin::{PluginSnapshot, PluginState};
use temps_host::tap::{Observed, Tap, Told, Watcher};
use temps_server::Server;
use temps_server::api::deployments::{Deployment, DeploymentReport, DeploymentState};
use temps_server::api::events::{NewEvent, PublishedEvent};
use temps_server::api::plugins::{DebugSwitch, GrantRequest, Grants, LogLine, LogQuery, Plugin};
use temps_server::api::projects::Project as PlatformProject;
use temps_server::config::{Config, Places};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::Arguments;
use super::scene::{Line, is_news};
use super::wishes::Wishes;
use super::world::{self, World};
use crate::author::build::{self, Built, cannot};
use crate::author::project::Project;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::Output;

/// Lines of the plugin's log that wait to be shown; who logs more waits, and the daemon keeps the log anyway.
const LOG_QUEUE: usize = 256;

/// Most events in the menu: one for each digit.
const MENU: usize = 9;

/// Events of the platform that are offered when the manifest names none of them exactly.
const COMMON: &[&str] = &[
    "deployment.succeeded",
    "deployment.failed",
    "deployment.created",
    "deployment.ready",
    "deployment.cancelled",
    "project.created",
    "project.deleted",
    "environment.created",
    "environment.deleted",
];

/// A build that is done, or failed.
pub(super) type Done = (Result<Built, Failure>, Instant);

/// Something that happened, to be shown or to be answered.
pub(super) enum Happening {
    /// A step between host and plugin, or steps that were lost.
    Told(Told),
    /// Nothing but a line.
    Shown(Line),
    /// Something was recorded, so that the plugin's state may be another one.
    Audited,
    /// A build is done.
    Built(Done),
}

/// Everything that runs.
pub(super) struct Stage {
    project: Project,
    output: Output,
    all: bool,
    debug: bool,
    home: tempfile::TempDir,
    world: World,
    client: Client,
    host: PluginHost,
    traffic: Watcher,
    events: EventTail,
    audit: watch::Receiver<()>,
    stop: oneshot::Sender<()>,
    daemon: JoinHandle<()>,
    build: Option<JoinHandle<Done>>,
    /// Whether something changed while a build was under way.
    build_again: bool,
    log: (mpsc::Sender<LogLine>, mpsc::Receiver<LogLine>),
    seen: Seen,
    wishes: Wishes,
    /// When the change came that the next start answers.
    changed_at: Instant,
    /// Requests that were not shown, so that their answers are not, either.
    hidden: Vec<Value>,
    replaced: u64,
}

/// What was shown of the plugin last.
#[derive(Default)]
struct Seen {
    plugin: Option<Arc<PluginSnapshot>>,
    state: Option<(PluginState, Option<String>, u64)>,
    named: bool,
    running: u64,
}

impl Stage {
    /// Starts the platform, fills it, and begins the first build.
    pub(super) async fn open(
        arguments: &Arguments,
        project: Project,
        output: Output,
    ) -> Result<Self, Failure> {
        let world = World::read(&project.directory)?;
        // In /tmp by name, because a socket's path has at most 107 bytes and TMPDIR may be long.
        let home = tempfile::Builder::new().prefix("temps-dev-").tempdir_in("/tmp");
        let home = home.map_err(|error| cannot(Path::new("/tmp"), &error))?;
        let mut config = Config::defaults(Places::below(home.path()));
        config.listen = arguments.listen;
        let tap = Tap::open();
        let traffic = tap.watch().ok_or_else(|| Failure::other("tap", "the traffic cannot be watched"))?;
        let server = Server::start_watched(config, tap)
            .await
            .map_err(|error| Failure::other("not_started", format!("the platform cannot start: {error}")))?;
        let (url, address) = (server.started().url.clone(), server.started().address);
        let settings = server.started().places.config_file.clone();
        std::fs::write(&settings, format!("listen = \"{address}\"\n"))
            .map_err(|error| cannot(&settings, &error))?;
        let token = std::fs::read_to_string(server.started().places.admin_token_file()).map_err(|error| {
            Failure::other("token", format!("the platform's token cannot be read: {error}"))
        })?;
        let parsed = Url::parse(&url).map_err(|error| Failure::other("url", error.to_string()))?;
        let client = Client::new(parsed, Some(token.trim().to_owned()), None)?;
        let host = server.host().clone();
        let (stop, stopping) = oneshot::channel();
        let daemon = tokio::spawn(server.run(async { drop(stopping.await) }));
        let mut stage = Self {
            events: host.follow_events(None),
            audit: host.audit_changes(),
            project,
            output,
            all: arguments.all,
            debug: arguments.debug_wait,
            home,
            world,
            client,
            host,
            traffic,
            stop,
            daemon,
            build: None,
            build_again: false,
            log: mpsc::channel(LOG_QUEUE),
            seen: Seen::default(),
            wishes: Wishes::default(),
            changed_at: Instant::now(),
            hidden: Vec::new(),
            replaced: 0,
        };
        match stage.begin(url).await {
            Ok(()) => Ok(stage),
            Err(failure) => {
                drop(stage.close().await);
                Err(failure)
            }
        }
    }

    async fn begin(&mut self, url: String) -> Result<(), Failure> {
        self.world.apply(&self.client).await?;
        let routes = format!("{url}/api/x/{}/", self.project.name);
        let home = self.home.path().display().to_string();
        self.tell(&Line::Started { url, home, world: world::FILE.to_owned(), routes })?;
        self.build()
    }

    /// Stops everything, and waits until it is gone. Returns what was not looked at of the traffic.
    pub(super) async fn close(self) -> Vec<Told> {
        let Self { stop, daemon, build, home, mut traffic, .. } = self;
        // The receiver is gone only when the daemon is.
        let _ = stop.send(());
        let _ = daemon.await;
        if let Some(build) = build {
            build.abort();
        }
        drop(home);
        std::iter::from_fn(|| traffic.try_next()).collect()
    }

    fn tell(&self, line: &Line) -> Result<(), Failure> {
        self.output.entry(line, Line::text)
    }

    fn problem(&self, failure: Failure) -> Result<(), Failure> {
        self.tell(&Line::Problem { message: failure.message, hint: failure.hint })
    }

    /// Waits for the next thing that happens. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Happening, Failure> {
        let Self { traffic, events, audit, build, log: (_, log), .. } = self;
        tokio::select! {
            told = traffic.next() => Ok(Happening::Told(told)),
            entry = events.next() => {
                let entry = entry
                    .map_err(|error| Failure::other("journal", format!("the journal cannot be read: {error}")))?;
                let (event_type, id) = (entry.event.event_type.clone(), entry.event.id.clone());
                Ok(Happening::Shown(Line::Published { event_type, id }))
            }
            Some(line) = log.recv() => Ok(Happening::Shown(Line::Log(line))),
            Ok(()) = audit.changed() => Ok(Happening::Audited),
            done = finished(build) => Ok(Happening::Built(done)),
        }
    }

    // ---- what is done about it

    /// Begins a build, or remembers that another one is needed.
    pub(super) fn build(&mut self) -> Result<(), Failure> {
        if self.build.is_some() {
            self.build_again = true;
            return Ok(());
        }
        self.build_again = false;
        self.changed_at = Instant::now();
        self.tell(&Line::Building)?;
        let (project, output, to) = (self.project.clone(), self.output, self.home.path().join("build"));
        self.build = Some(tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            (build::build(&project, &to, true, output), begun)
        }));
        Ok(())
    }

    /// Puts what was built where the host finds it.
    pub(super) fn put(&mut self, (built, begun): Done) -> Result<(), Failure> {
        match built {
            Err(failure) => self.tell(&Line::BuildFailed { message: failure.message, hint: failure.hint })?,
            Ok(built) => {
                let path = self.plugin_path();
                self.replaced += 1;
                let aside = self.home.path().join(format!("replaced-{}", self.replaced));
                std::fs::create_dir_all(&aside)
                    .and_then(|()| build::put_in_place(&built.path, &path, &aside))
                    .map_err(|error| cannot(&path, &error))?;
                let milliseconds = begun.elapsed().as_millis();
                self.tell(&Line::Built { path: path.display().to_string(), milliseconds })?;
            }
        }
        if self.build_again { self.build() } else { Ok(()) }
    }

    fn plugin_path(&self) -> PathBuf {
        self.home.path().join("plugins").join(&self.project.name)
    }

    /// Takes over what the file of the platform says now.
    pub(super) async fn apply_world(&mut self) -> Result<(), Failure> {
        match World::read(&self.project.directory) {
            Ok(world) => self.world = world,
            Err(failure) => return self.problem(failure),
        }
        if let Err(failure) = self.world.apply(&self.client).await {
            self.problem(failure)?;
        }
        self.configure().await
    }

    async fn configure(&mut self) -> Result<(), Failure> {
        let Some(name) = self.name() else { return Ok(()) };
        match self.world.configure(&name, &self.client).await {
            Ok(()) => Ok(()),
            Err(failure) => self.problem(failure),
        }
    }

    fn name(&self) -> Option<String> {
        Some(self.seen.plugin.as_ref()?.plugin_name.as_ref()?.to_string())
    }

    /// Shows one step.
    pub(super) fn show(&mut self, told: &Told) -> Result<(), Failure> {
        let observed = match told {
            Told::Step(observed) => observed,
            Told::Lost(steps) => return self.tell(&Line::Missed { steps: *steps }),
        };
        let plugin = observed.plugin.clone();
        if let Some(method) = self.wishes.take(&observed.step) {
            self.tell(&Line::Denied { plugin: plugin.clone(), method })?;
        }
        if !self.all && (!is_news(observed) || self.is_routine(observed)) {
            return Ok(());
        }
        self.tell(&Line::Traffic { plugin, step: observed.step.clone() })
    }

    /// What the host asks by itself (for health, for a page), or the answer to it.
    fn is_routine(&mut self, observed: &Observed) -> bool {
        let manifest = self.seen.plugin.as_ref().and_then(|plugin| plugin.manifest.clone());
        let health = manifest.map_or_else(|| "/health".to_owned(), |manifest| manifest.health_path.clone());
        match observed.step["kind"].as_str() {
            Some("http_request")
                if observed.step["path"] == health.as_str() || observed.step["path"] == "/ui/" =>
            {
                self.hidden.push(observed.step["id"].clone());
                true
            }
            Some("http_response") => {
                let before = self.hidden.len();
                self.hidden.retain(|id| *id != observed.step["id"]);
                self.hidden.len() < before
            }
            // Who ended answers no more.
            Some("exit") => {
                self.hidden.clear();
                false
            }
            _ => false,
        }
    }

    /// Looks how the plugin is, and does what an operator would.
    pub(super) async fn look(&mut self) -> Result<(), Failure> {
        let path = self.plugin_path();
        let Some(plugin) = self.host.plugins().into_iter().find(|plugin| plugin.file == path) else {
            return Ok(());
        };
        self.seen.plugin = Some(plugin.clone());
        if !self.seen.named && plugin.plugin_name.is_some() {
            self.seen.named = true;
            self.welcome(&plugin).await?;
        }
        let state = (plugin.state, plugin.reason.clone(), plugin.starts);
        if self.seen.state.as_ref() != Some(&state) {
            self.seen.state = Some(state);
            let line = Line::State {
                plugin: plugin.name.clone(),
                state: plugin.state.as_str(),
                reason: plugin.reason.clone(),
                pid: plugin.pid,
            };
            self.tell(&line)?;
        }
        match plugin.state {
            PluginState::Held => self.grant(&plugin).await,
            PluginState::Running if self.seen.running != plugin.starts => {
                self.seen.running = plugin.starts;
                self.ready(&plugin)
            }
            _ => Ok(()),
        }
    }

    /// What is done once, when the plugin has a name.
    async fn welcome(&mut self, plugin: &PluginSnapshot) -> Result<(), Failure> {
        let name = plugin.name.clone();
        if self.debug {
            let debugged = self
                .client
                .post::<Plugin>(&["api", "plugins", &name, "debug"], &DebugSwitch { on: true })
                .await;
            if let Err(failure) = debugged {
                self.problem(failure)?;
            }
        }
        self.configure().await?;
        let (client, tell) = (self.client.clone(), self.log.0.clone());
        tokio::spawn(async move {
            let query = LogQuery { lines: Some(100), follow: Some(true) };
            let Ok(mut stream) = client.stream(&["api", "plugins", &name, "logs"], &query).await else {
                return;
            };
            // It ends with the daemon.
            while let Ok(Some(line)) = stream.next::<LogLine>().await {
                if tell.send(line).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Gives what the plugin waits for, and says what an operator would have to give.
    async fn grant(&mut self, plugin: &PluginSnapshot) -> Result<(), Failure> {
        let path = ["api", "plugins", &plugin.name, "grants"];
        let missing = match self.client.get::<Grants>(&path).await {
            Ok(grants) => grants.missing,
            Err(failure) => return self.problem(failure),
        };
        if missing.is_empty() {
            return Ok(());
        }
        let request = GrantRequest { grants: missing.clone() };
        match self.client.post::<Grants>(&path, &request).await {
            Ok(_) => self.tell(&Line::Granted { plugin: plugin.name.clone(), grants: missing }),
            Err(failure) => self.problem(failure),
        }
    }

    fn ready(&mut self, plugin: &PluginSnapshot) -> Result<(), Failure> {
        let url = self.client.base();
        let page = plugin.has_ui.then(|| format!("{url}plugins/{}", plugin.name));
        let version = plugin.manifest.as_ref().map(|manifest| manifest.version.clone());
        let milliseconds = self.changed_at.elapsed().as_millis();
        self.tell(&Line::Ready { plugin: plugin.name.clone(), version, page, milliseconds })?;
        self.tell(&Line::Menu { events: self.menu() })
    }

    /// The events that a digit sends: those that the manifest names, then those that it takes.
    fn menu(&self) -> Vec<String> {
        let Some(manifest) = self.seen.plugin.as_ref().and_then(|plugin| plugin.manifest.clone()) else {
            return Vec::new();
        };
        let exact = manifest.events.iter().filter(|pattern| !pattern.contains('*')).cloned();
        let taken = COMMON.iter().filter(|event| manifest.wants(event)).map(|event| (*event).to_owned());
        let mut menu: Vec<String> = Vec::new();
        for event in exact.chain(taken) {
            if menu.len() < MENU && !menu.contains(&event) {
                menu.push(event);
            }
        }
        menu
    }

    /// Does what was typed.
    pub(super) async fn press(&mut self, typed: &str) -> Result<(), Failure> {
        let typed = typed.trim();
        match typed {
            "" => Ok(()),
            "r" => self.build(),
            "g" => {
                let Some(plugin) = self.seen.plugin.clone() else { return Ok(()) };
                let Some(manifest) = &plugin.manifest else { return Ok(()) };
                let verdict = self.wishes.verdict(manifest);
                self.tell(&Line::Wishes { plugin: plugin.name.clone(), verdict })
            }
            digit if digit.len() == 1 && digit.as_bytes()[0].is_ascii_digit() => {
                let number = usize::from(digit.as_bytes()[0] - b'0');
                let event = number.checked_sub(1).and_then(|index| self.menu().get(index).cloned());
                match event {
                    Some(event) => self.send(&event, None).await,
                    None => self.tell(&Line::Menu { events: self.menu() }),
                }
            }
            _ => {
                let (event, data) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
                self.send(event, Some(data).filter(|data| !data.trim().is_empty())).await
            }
        }
    }

    /// Lets an event happen: a deployment is really reported, anything else is published.
    async fn send(&self, event: &str, data: Option<&str>) -> Result<(), Failure> {
        let sent = match (deployment_state(event), data) {
            (Some(state), None) => self.deploy(state).await,
            _ => self.publish(event, data).await,
        };
        sent.or_else(|failure| self.problem(failure))
    }

    async fn deploy(&self, state: DeploymentState) -> Result<(), Failure> {
        let report = DeploymentReport {
            project: self.world.first_project().unwrap_or("my-app").to_owned(),
            state: Some(state),
            branch: Some("main".into()),
            commit_sha: Some("a1b2c3d".into()),
            url: Some("https://my-app.example.com".into()),
            error_message: (state == DeploymentState::Failed).then(|| "it was made to fail".into()),
            ..DeploymentReport::default()
        };
        self.client.post::<Deployment>(&["api", "deployments"], &report).await.map(drop)
    }

    async fn publish(&self, event: &str, data: Option<&str>) -> Result<(), Failure> {
        let data = data.map(serde_json::from_str).transpose();
        let data =
            data.map_err(|error| Failure::usage(format!("what follows the type is not JSON: {error}")))?;
        let project_id = match self.world.first_project() {
            Some(slug) => {
                self.client.get::<PlatformProject>(&["api", "projects", slug]).await.ok().map(|one| one.id)
            }
            None => None,
        };
        let new = NewEvent { id: None, event_type: event.to_owned(), timestamp: None, project_id, data };
        self.client.post::<PublishedEvent>(&["api", "events"], &new).await.map(drop)
    }
}

/// The state whose report leads to this event.
fn deployment_state(event: &str) -> Option<DeploymentState> {
    match event.strip_prefix("deployment.")? {
        "created" => Some(DeploymentState::Pending),
        word => DeploymentState::parse(word).filter(|state| {
            matches!(
                state,
                DeploymentState::Ready
                    | DeploymentState::Succeeded
                    | DeploymentState::Failed
                    | DeploymentState::Cancelled
            )
        }),
    }
}

/// Waits for the build that is under way.
async fn finished(build: &mut Option<JoinHandle<Done>>) -> Done {
    let done = match build {
        Some(build) => build.await,
        None => std::future::pending().await,
    };
    *build = None;
    done.unwrap_or_else(|_| (Err(Failure::other("build", "the build was given up")), Instant::now()))
}
