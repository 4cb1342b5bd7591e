//! The daemon from start to end: places, store, host, routes, and all of it in reverse.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use temps_host::PluginHost;
use temps_host::host::BuildError;
use temps_host::tap::Tap;
use temps_store::{PlatformStore, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::access::LoginLink;
use crate::app::App;
use crate::auth::{Access, FirstTokenError, Refused, TokenError, ensure_admin_token};
use crate::config::{Config, Places};
use crate::platform::ReferencePlatform;
use crate::probe::ProberError;
use crate::{demo, listener, probe, routes};

/// How long requests that are being answered have before the daemon ends without them.
const DRAIN: Duration = Duration::from_secs(10);

/// A daemon that is started: it listens, and its plugins come up. [`Server::run`] answers and ends it.
pub struct Server {
    app: App,
    store: Arc<dyn Store>,
    listener: TcpListener,
    started: Started,
    prober: reqwest::Client,
    /// Held while the daemon lives, so that no second one works on the same state.
    lock: std::fs::File,
}

/// What a person wants to know of a daemon that was started.
#[derive(Debug, Clone)]
pub struct Started {
    /// The address that is listened on, with its real port.
    pub address: SocketAddr,
    /// How browsers reach the daemon.
    pub url: String,
    /// A link that signs one browser in.
    pub login_link: LoginLink,
    /// Where everything is.
    pub places: Places,
    /// Where the database is, its password masked.
    pub database: String,
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory cannot be made or used.
    #[error("cannot use the directory {}: {reason}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another daemon works on the same state.
    #[error("another temps works on {}; stop it, or set TEMPS_HOME to another directory", dir.display())]
    AlreadyRunning {
        /// The directory.
        dir: PathBuf,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}; choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The store cannot be opened.
    #[error("cannot open the database {database}: {error}")]
    Store {
        /// The database's address, its password masked.
        database: String,
        /// What the store said.
        error: StoreError,
    },
    /// There is no admin token.
    #[error(transparent)]
    Token(#[from] FirstTokenError),
    /// There is no sign-in link.
    #[error(transparent)]
    Link(#[from] TokenError),
    /// The plugin host does not start.
    #[error(transparent)]
    Host(#[from] BuildError),
    /// Nothing can be probed.
    #[error(transparent)]
    Prober(#[from] ProberError),
}

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that are in force now.
    pub changed: Vec<&'static str>,
    /// Settings that changed and wait for a restart.
    pub needs_restart: Vec<&'static str>,
}

/// Changes a running daemon. Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle {
    app: App,
}

/// Starts a daemon and runs it until `shutdown` resolves. `started` is told what a person wants to know.
///
/// # Errors
/// [`StartError`] when it does not start.
pub async fn serve(
    config: Config,
    started: impl FnOnce(&Server),
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let server = Server::start(config).await?;
    started(&server);
    server.run(shutdown).await;
    Ok(())
}

impl Server {
    /// Opens everything in order. When it returns, the address is listened on and plugins are being taken up.
    ///
    /// # Errors
    /// [`StartError`] says what could not be opened; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_watched(config, Tap::open()).await
    }

    /// The same, with a tap of the caller's at the traffic between the host and its plugins.
    ///
    /// # Errors
    /// Those of [`Server::start`].
    pub async fn start_watched(config: Config, tap: Tap) -> Result<Self, StartError> {
        let lock = prepare_places(&config.places)?;
        let prober = probe::client()?;
        let listener = bind(config.listen).await?;
        let address = listener.local_addr().unwrap_or(config.listen);
        let database = config.database();
        let failed = |error| StartError::Store { database: database.to_string(), error };
        let store = temps_store::open(&database, &config.node).await.map_err(failed)?;
        tracing::info!(%database, node = config.node, "the database is open");
        ensure_admin_token(&*store, &config.places.admin_token_file(), &config.admin_token_name()).await?;
        let (access, refused) = Access::new(store.clone());
        let platform = ReferencePlatform::new(store.clone() as Arc<dyn PlatformStore>, access.clone());
        let host = PluginHost::builder()
            .config(config.host_config())
            .platform(Arc::new(platform.clone()))
            .store(store.clone())
            .tap(tap)
            .build()
            .await?;
        let places = config.places.clone();
        let app = App::new(config, address, platform, access, host);
        tokio::spawn(record_refusals(app.clone(), refused));
        let login_link = app.login_link().await?;
        let detail = serde_json::json!({ "expires_at": login_link.expires_at });
        app.host().record_audit("login_link.created", None, "host", detail);
        let started =
            Started { address, url: app.base_url(), login_link, places, database: database.to_string() };
        Ok(Self { app, store, listener, started, prober, lock })
    }

    /// What a person wants to know.
    #[must_use]
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// The plugin host.
    #[must_use]
    pub fn host(&self) -> &PluginHost {
        self.app.host()
    }

    /// Changes the daemon while it runs.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { app: self.app.clone() }
    }

    /// Answers until `shutdown` resolves, then ends everything: no new connections, streams ended, requests finished
    /// (for 10 s at most) while plugins finish theirs and stop, the store closed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { app, store, listener, prober, lock, .. } = self;
        let (connections, work) = (TaskTracker::new(), TaskTracker::new());
        let (closing, cut) = (app.closing().clone(), CancellationToken::new());
        work.spawn(probe::run(app.clone(), prober));
        if app.config().demo {
            work.spawn(demo::run(app.clone()));
        }
        let doors = listener::Doors {
            router: routes::router(&app),
            metrics: app.metrics().clone(),
            connections: connections.clone(),
            closing: closing.clone(),
            cut: cut.clone(),
        };
        work.spawn(listener::accept(listener, doors));
        shutdown.await;
        closing.cancel();
        work.close();
        work.wait().await;
        // Together, because an open stream of a plugin ends with the plugin, which finishes its other requests first.
        let drained = tokio::time::timeout(DRAIN, connections.wait());
        let (drained, ()) = tokio::join!(drained, app.host().shutdown());
        if drained.is_err() {
            tracing::warn!("requests that took longer than 10 s are cut off");
            cut.cancel();
            connections.wait().await;
        }
        store.close().await;
        // By word, because a process that is just being started still holds a copy of the descriptor until it executes.
        let _ = lock.unlock();
    }
}

impl ServerHandle {
    /// Takes over settings that were checked. Those that cannot change while the daemon runs stay, and are named.
    ///
    /// # Errors
    /// What the plugin host says; all old settings stay in force then.
    pub async fn reload(&self, mut new: Config) -> Result<Reloaded, BuildError> {
        let old = self.app.config();
        let mut report = Reloaded::default();
        let fixed = [
            ("listen", new.listen != old.listen),
            ("database", new.database != old.database),
            ("node", new.node != old.node),
            ("plugins_dirs", new.places.plugins_dirs != old.places.plugins_dirs),
            ("launcher", new.launcher != old.launcher),
            ("plugin_databases", new.databases != old.databases),
        ];
        report.needs_restart =
            fixed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect();
        new.listen = old.listen;
        new.database = old.database.clone();
        new.node = old.node.clone();
        new.places = old.places.clone();
        new.launcher = old.launcher.clone();
        new.databases = old.databases.clone();
        new.demo = old.demo;
        let live = [
            ("public_url", new.public_url != old.public_url),
            ("allowed_hosts", new.allowed_hosts != old.allowed_hosts),
            ("metrics", new.metrics_public != old.metrics_public),
            ("grants", new.grants_default != old.grants_default),
            ("stop", new.stop_grace != old.stop_grace),
            ("health", new.health != old.health),
            ("restart", new.restart != old.restart),
            ("probe", new.probe != old.probe),
            ("usage", new.usage_every != old.usage_every),
        ];
        report.changed = live.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect();
        self.app.host().reload(new.host_config()).await?;
        self.app.replace_config(new);
        Ok(report)
    }
}

/// Makes the directories, and takes the lock that keeps a second daemon away.
/// Writes refused sign-ins to the audit trail until the daemon stops.
async fn record_refusals(app: App, mut refused: mpsc::Receiver<Refused>) {
    while let Some(Some(refused)) = app.closing().run_until_cancelled(refused.recv()).await {
        let detail = serde_json::json!({ "with": refused.with.as_str(), "count": refused.count });
        app.host().record_audit("session.refused", None, "nobody", detail);
    }
}

fn prepare_places(places: &Places) -> Result<std::fs::File, StartError> {
    make_private(&places.state_dir)?;
    make_private(&places.run_dir)?;
    if let Some(first) = places.plugins_dirs.first() {
        let failed = |error: std::io::Error| failed(first, &error);
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(first).map_err(failed)?;
    }
    let file = places.state_dir.join("lock");
    let lock = std::fs::File::create(&file).map_err(|error| failed(&file, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(StartError::AlreadyRunning { dir: places.state_dir.clone() })
        }
        Err(std::fs::TryLockError::Error(error)) => Err(failed(&file, &error)),
    }
}

/// A directory that only its owner may look into: it holds the database, tokens and sockets.
fn make_private(dir: &Path) -> Result<(), StartError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)))
        .map_err(|error| failed(dir, &error))
}

fn failed(dir: &Path, error: &std::io::Error) -> StartError {
    StartError::Directory { dir: dir.to_owned(), reason: error.to_string() }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| StartError::Listen { address, reason: error.to_string() })
}
