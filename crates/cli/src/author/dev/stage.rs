//! The simulated platform with the plugin on it: the daemon in a home of its own, the build, and what becomes of both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use reqwest::Url;
use serde_json::{Map, Value};
use temps_host::PluginHost;
use temps_host::events::EventTail;
use temps_host::plugin::{PluginSnapshot, PluginState};
use temps_host::protocol::PluginManifest;
use temps_host::tap::{Observed, Tap, Told, Watcher};
use temps_server::Server;
use temps_server::api::plugins::{GrantRef, LogLine};
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
    pub(super) debug: bool,
    home: tempfile::TempDir,
    pub(super) world: World,
    /// The settings that the plugin was given.
    given: Map<String, Value>,
    /// What was said last about settings that do not fit.
    misfit: Option<String>,
    pub(super) client: Client,
    pub(super) host: PluginHost,
    traffic: Watcher,
    events: EventTail,
    audit: watch::Receiver<()>,
    stop: oneshot::Sender<()>,
    daemon: JoinHandle<()>,
    build: Option<JoinHandle<Done>>,
    /// Whether something changed while a build was under way.
    build_again: bool,
    pub(super) log: (mpsc::Sender<LogLine>, mpsc::Receiver<LogLine>),
    pub(super) seen: Seen,
    pub(super) wishes: Wishes,
    /// What an operator would have had to give.
    pub(super) granted: Vec<GrantRef>,
    /// When the change came that the next start answers.
    pub(super) changed_at: Instant,
    /// Requests that were not shown, so that their answers are not, either.
    hidden: Vec<Value>,
    replaced: u64,
}

/// What was shown of the plugin last.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) plugin: Option<Arc<PluginSnapshot>>,
    pub(super) state: Option<(PluginState, Option<String>, u64)>,
    pub(super) named: bool,
    pub(super) running: u64,
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
        let sign_in = server.started().login_link.url.clone();
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
            given: Map::new(),
            misfit: None,
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
            granted: Vec::new(),
            changed_at: Instant::now(),
            hidden: Vec::new(),
            replaced: 0,
        };
        match stage.begin(url, sign_in).await {
            Ok(()) => Ok(stage),
            Err(failure) => {
                drop(stage.close().await);
                Err(failure)
            }
        }
    }

    async fn begin(&mut self, url: String, sign_in: String) -> Result<(), Failure> {
        self.world.apply(&World::default(), &self.client).await?;
        let routes = format!("{url}/api/x/{}/", self.project.name);
        let home = self.home.path().display().to_string();
        self.tell(&Line::Started { url, sign_in, home, world: world::FILE.to_owned(), routes })?;
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

    pub(super) fn tell(&self, line: &Line) -> Result<(), Failure> {
        self.output.entry(line, Line::text)
    }

    pub(super) fn problem(&self, failure: Failure) -> Result<(), Failure> {
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

    pub(super) fn plugin_path(&self) -> PathBuf {
        self.home.path().join("plugins").join(&self.project.name)
    }

    /// Takes over what the file of the platform says now.
    pub(super) async fn apply_world(&mut self) -> Result<(), Failure> {
        let world = match World::read(&self.project.directory) {
            Ok(world) => world,
            Err(failure) => return self.problem(failure),
        };
        match world.apply(&self.world, &self.client).await {
            Ok(()) => self.world = world,
            Err(failure) => {
                let message = format!("{}: {}; everything stays as it was", world::FILE, failure.message);
                self.problem(Failure { message, ..failure })?;
                // Whatever was done of it already.
                if let Err(failure) = self.world.apply(&world, &self.client).await {
                    self.problem(failure)?;
                }
            }
        }
        self.configure().await
    }

    /// Gives the plugin the settings of the file, unless it has them. A version of the plugin that comes later may take what
    /// this one does not, so it is tried again with each.
    pub(super) async fn configure(&mut self) -> Result<(), Failure> {
        let Some(name) = self.name() else { return Ok(()) };
        if *self.world.config() == self.given {
            return Ok(());
        }
        match self.world.configure(&name, &self.given, &self.client).await {
            Ok(given) => {
                self.given = given;
                self.misfit = None;
                Ok(())
            }
            Err(failure) if self.misfit.as_ref() == Some(&failure.message) => Ok(()),
            Err(failure) => {
                self.misfit = Some(failure.message.clone());
                let message = format!("[config] in {}: {}", world::FILE, failure.message);
                self.problem(Failure { message, ..failure })
            }
        }
    }

    pub(super) fn manifest(&self) -> Option<Arc<PluginManifest>> {
        self.seen.plugin.as_ref()?.manifest.clone()
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
        let manifest = self.manifest();
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
