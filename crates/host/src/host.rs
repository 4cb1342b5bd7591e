//! The host: built from a platform, a store and settings; started and stopped in order.
//!
//! This is where the rooms are put together. What operators ask for is in [`crate::operate`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use temps_protocol::PluginEvent;
use temps_store::{AuditFilter, AuditRecord, HostStore, Published};
use tokio::sync::{mpsc, watch};

use crate::audit::{Audit, Check, CheckError, Trail};
use crate::config::HostConfig;
use crate::configuration::Vault;
use crate::database::{DatabaseView, Databases};
use crate::egress::{EgressView, Resolver, SystemResolver, Way};
use crate::events::{DeliveryStatus, EventTail, Events};
use crate::intake::{Intake, Order};
use crate::metrics::Metrics;
use crate::places::Places;
use crate::platform::Platform;
use crate::plugin::PluginSnapshot;
use crate::plugin::logfile::LogFiles;
use crate::plugin::process::Launcher;
use crate::plugin::state::DRAIN_TIME;
use crate::proxy::Proxy;
use crate::registry::Registry;
use crate::sandbox::{Layer, Policy, SandboxSpec, State, Users};
use crate::shutdown::Shutdown;
use crate::tap::Tap;
use crate::versions::{ApiVersionView, ApiVersions, major_of};

pub use crate::operate::OperateError;

/// How long the end of the host waits beyond what draining and leaving may take, for the kernel and the disk.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(10);

/// Everything that the host's rooms share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    config: Arc<watch::Sender<Arc<HostConfig>>>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) store: Arc<dyn HostStore>,
    pub(crate) registry: Registry,
    pub(crate) audit: Audit,
    pub(crate) trail: Trail,
    pub(crate) metrics: Metrics,
    pub(crate) places: Arc<Places>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) launcher: Launcher,
    pub(crate) users: Arc<Users>,
    pub(crate) databases: Databases,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) log_files: LogFiles,
    pub(crate) shutdown: Shutdown,
    pub(crate) versions: Arc<ApiVersions>,
    pub(crate) tap: Tap,
}

impl Shared {
    /// The settings as they are now.
    pub(crate) fn config(&self) -> Arc<HostConfig> {
        self.config.borrow().clone()
    }

    /// A host goes on without the end of its trail, or with another key; but it says so, in the trail as well.
    async fn tell_what_is_wrong_with_the_trail(&self) {
        match self.trail.look_at_the_end().await {
            Ok(None) => {}
            Ok(Some(reason)) => {
                tracing::error!(reason, "the audit trail is not what it was; `temps audit verify` says more");
                self.audit.record("audit.tampered", None, "host", json!({"reason": reason}));
            }
            Err(error) => tracing::error!(%error, "the end of the audit trail could not be looked at"),
        }
    }
}

/// A running plugin host. Cheap to clone; [`PluginHost::shutdown`] ends it for all clones. Without it the host runs as long as
/// its process, or its runtime, does: dropping a clone ends nothing.
#[derive(Clone)]
pub struct PluginHost {
    pub(crate) shared: Shared,
    pub(crate) intake: mpsc::Sender<Order>,
    events: Events,
    proxy: Proxy,
}

/// Collects what a [`PluginHost`] is built from.
#[derive(Default)]
pub struct PluginHostBuilder {
    config: Option<HostConfig>,
    platform: Option<Arc<dyn Platform>>,
    store: Option<Arc<dyn HostStore>>,
    resolver: Option<Arc<dyn Resolver>>,
    versions: ApiVersions,
    tap: Tap,
}

/// Why a host could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something that the host cannot do without was not given.
    #[error("the host needs {0}; give it to the builder")]
    Missing(&'static str),
    /// A setting is not usable.
    #[error("{0}")]
    Unusable(String),
    /// A directory is not usable.
    #[error(transparent)]
    Place(#[from] crate::places::PlaceError),
    /// The launcher does not answer as one.
    #[error("plugins cannot be launched: {0}")]
    Launcher(#[from] temps_sandbox::ProbeError),
    /// The audit trail cannot be sealed.
    #[error(transparent)]
    Audit(#[from] CheckError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] temps_store::StoreError),
}

/// Why an event was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The event breaks a rule of the protocol.
    #[error(transparent)]
    Invalid(#[from] temps_protocol::event::EventError),
    /// The journal could not take it.
    #[error(transparent)]
    Store(#[from] temps_store::StoreError),
}

/// One line of a plugin's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When the host read it.
    pub at: chrono::DateTime<chrono::Utc>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    /// `stderr`, `stdout`, or `host` for what the host says about the plugin.
    pub stream: &'static str,
    /// The message, without its newline.
    pub message: String,
    /// Fields of a structured line, an object; `null` for a plain one.
    pub fields: serde_json::Value,
}

impl PluginHostBuilder {
    /// Sets directories, limits and times.
    #[must_use]
    pub fn config(mut self, config: HostConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// Sets the platform whose data plugins may ask for.
    #[must_use]
    pub fn platform(mut self, platform: Arc<dyn Platform>) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Sets the store that holds the journal, grants and the audit trail.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn HostStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets how names that plugins want to reach are resolved. Without it, as every program of this machine does.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Sets the major versions that the platform's events have, with adapters to the older ones. Without it, events have the
    /// protocol's one version.
    #[must_use]
    pub fn api_versions(mut self, versions: ApiVersions) -> Self {
        self.versions = versions;
        self
    }

    /// Sets where the traffic between the host and its plugins can be watched. Without it nobody can.
    #[must_use]
    pub fn tap(mut self, tap: Tap) -> Self {
        self.tap = tap;
        self
    }

    /// Checks the places and the launcher, starts the host, and begins to take up plugins. A bad plugin never keeps it from starting.
    ///
    /// # Errors
    /// [`BuildError`] says what is missing or not usable.
    pub async fn build(self) -> Result<PluginHost, BuildError> {
        let config = self.config.ok_or(BuildError::Missing("settings (config)"))?;
        let platform = self.platform.ok_or(BuildError::Missing("a platform"))?;
        let store = self.store.ok_or(BuildError::Missing("a store"))?;
        let config = absolute(config)?;
        config.check().map_err(BuildError::Unusable)?;
        self.versions.check().map_err(BuildError::Unusable)?;
        let versions = Arc::new(self.versions);
        let databases = Databases::new(&config.databases).map_err(BuildError::Unusable)?;
        // The launcher first: an executable that is none was started once, and must not find the places taken.
        let users = Users::of(Places::data_root_of(&config), config.sandbox.first_user);
        let launcher = Launcher::prepare_for(config.launcher.as_deref(), users.of_inspection(0)).await?;
        tell_what_is_missing(&launcher, &config);
        let places = Arc::new(Places::take(&config)?);
        let metrics = Metrics::default();
        let registry = Registry::default();
        // Before anything is recorded, so that all of it is in the chain.
        let trail = Trail::begin(Arc::clone(&store), places.trail()).await?;
        let audit = Audit::start(Arc::clone(&store));
        let vault = Arc::new(Vault::at(places.config_key()));
        let shared = Shared {
            config: Arc::new(watch::channel(Arc::new(config)).0),
            platform: Arc::clone(&platform),
            store: Arc::clone(&store),
            registry: registry.clone(),
            audit: audit.clone(),
            trail: trail.clone(),
            metrics: metrics.clone(),
            places,
            vault,
            launcher,
            users: Arc::new(users),
            databases,
            resolver: self.resolver.unwrap_or_else(|| Arc::new(SystemResolver)),
            log_files: LogFiles::start(),
            shutdown: Shutdown::default(),
            versions: Arc::clone(&versions),
            tap: self.tap,
        };
        shared.audit.record("host.started", None, "host", json!({"version": env!("CARGO_PKG_VERSION")}));
        shared.tell_what_is_wrong_with_the_trail().await;
        let heads = shared.shutdown.told();
        tokio::spawn(trail.write_heads(heads));
        shared.shutdown.spawn(crate::storage::sweep(Arc::clone(&store), shared.shutdown.told()));
        let events = Events::start(store, registry.clone(), metrics.clone(), audit, versions);
        let proxy = Proxy::new(registry, platform, metrics);
        let intake = Intake::start(&shared).await?;
        Ok(PluginHost { shared, intake, events, proxy })
    }
}

impl PluginHost {
    /// Begins a host.
    #[must_use]
    pub fn builder() -> PluginHostBuilder {
        PluginHostBuilder::default()
    }

    /// Writes an event to the journal and returns once it is durable. Plugins get it afterwards; the publisher never waits for one.
    ///
    /// # Errors
    /// [`PublishError`] when the event breaks a rule or the journal could not take it; it was not published then.
    pub async fn publish(&self, event: PluginEvent) -> Result<Published, PublishError> {
        event.check()?;
        let mut published = self.shared.store.publish(vec![event]).await?;
        let published = published.pop().ok_or(PublishError::Store(temps_store::StoreError::Closed))?;
        if !published.duplicate {
            self.shared.metrics.events_published.inc();
        }
        Ok(published)
    }

    /// Follows the journal from after a place; `None` begins with the next event that is published.
    #[must_use]
    pub fn follow_events(&self, after: Option<temps_store::Seq>) -> EventTail {
        EventTail::new(Arc::clone(&self.shared.store), after)
    }

    /// How far the deliveries to a plugin are; `None` for a plugin that there is not.
    #[must_use]
    pub fn delivery_status(&self, name: &str) -> Option<DeliveryStatus> {
        self.events.status(name)
    }

    /// The routes `/api/x/{plugin}/*`, to be merged into the platform's router at its root.
    pub fn router(&self) -> axum::Router {
        self.proxy.router()
    }

    /// The deliveries of events to plugins.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// All plugins, by name, and files that are none (yet).
    #[must_use]
    pub fn plugins(&self) -> Vec<Arc<PluginSnapshot>> {
        self.shared.registry.all().into_iter().map(|(_, handle)| handle.view.borrow().clone()).collect()
    }

    /// One plugin.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<Arc<PluginSnapshot>> {
        Some(self.shared.registry.get(name)?.view.borrow().clone())
    }

    /// The database of a plugin's own, as it was last seen; `None` for a plugin that needs none, or was granted none.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<DatabaseView> {
        let handle = self.shared.registry.get(name)?;
        let needs_one = handle.view.borrow().manifest.as_ref().is_some_and(|manifest| manifest.requires_db);
        let engine = handle.grants.borrow().database.filter(|_| needs_one)?;
        Some(self.shared.databases.view(name, engine, &self.shared.places.data_path(name)))
    }

    /// What a plugin may reach, and how it gets there; `None` for a plugin that there is not.
    #[must_use]
    pub fn egress(&self, name: &str) -> Option<EgressView> {
        let handle = self.shared.registry.get(name)?;
        let view = handle.view.borrow().clone();
        let network = view.layers.iter().flat_map(|layers| layers.iter()).find(|l| l.layer == Layer::Network);
        let mut targets = handle.grants.borrow().egress.clone();
        targets.sort();
        Some(EgressView { way: Way::of(network), targets, set: self.shared.config().egress.of(name) })
    }

    /// The major version of events that a plugin was written for; `None` while its manifest is not known.
    #[must_use]
    pub fn api_version(&self, name: &str) -> Option<ApiVersionView> {
        let handle = self.shared.registry.get(name)?;
        let manifest = handle.view.borrow().manifest.clone()?;
        let major = major_of(&manifest);
        let deprecated = self.shared.versions.deprecation(major).map(str::to_owned);
        Some(ApiVersionView { major, newest: self.shared.versions.newest(), deprecated })
    }

    /// Whether every task of the host still works. If not, a bug ended one of them, and the log has its panic.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shared.shutdown.is_whole()
    }

    /// One plugin, as something that can be waited for. The sender ends with the host.
    #[must_use]
    pub fn watch_plugin(&self, name: &str) -> Option<watch::Receiver<Arc<PluginSnapshot>>> {
        Some(self.shared.registry.get(name)?.view)
    }

    /// The OpenAPI documents that running plugins announced, by plugin name.
    #[must_use]
    pub fn openapi_documents(&self) -> Vec<(String, serde_json::Value)> {
        let document = |(name, handle): (String, crate::registry::PluginHandle)| {
            let link = handle.link.borrow().clone()?;
            Some((name, link.ready.openapi.clone()?))
        };
        self.shared.registry.all().into_iter().filter_map(document).collect()
    }

    /// Looks into the audit trail. What was recorded before this call is in it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, temps_store::StoreError> {
        self.shared.audit.flush().await;
        self.shared.store.audit(filter).await
    }

    /// Changes each time that the audit trail grew.
    #[must_use]
    pub fn audit_changes(&self) -> watch::Receiver<()> {
        self.shared.audit.changes()
    }

    /// Begins to verify the audit trail for an operator, or joins the verification that is under way. It works beside
    /// everything else; [`PluginHost::last_audit_check`] shows how far it is.
    pub async fn verify_audit(&self, actor: &str) -> Check {
        self.shared.audit.flush().await;
        self.shared.trail.check(&self.shared.audit, actor)
    }

    /// The last verification of the audit trail since the host started, or the one under way.
    #[must_use]
    pub fn last_audit_check(&self) -> Option<Check> {
        self.shared.trail.last_check()
    }

    /// Records an operator's action in the audit trail.
    pub fn record_audit(
        &self,
        kind: &'static str,
        plugin: Option<&str>,
        actor: &str,
        detail: serde_json::Value,
    ) {
        self.shared.audit.record(kind, plugin, actor, detail);
    }

    /// Metrics in the Prometheus text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.shared.metrics.encode()
    }

    /// The store that the host was built with.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn HostStore> {
        &self.shared.store
    }

    /// Takes over new settings without a restart: times and policies count from the next time that they are needed. Places,
    /// plugins directories and the launcher cannot change.
    ///
    /// # Errors
    /// [`BuildError`] when the settings are not usable; the old ones stay in force then.
    pub async fn reload(&self, config: HostConfig) -> Result<(), BuildError> {
        let config = absolute(config)?;
        config.check().map_err(BuildError::Unusable)?;
        let now = self.shared.config();
        for (what, before, after) in
            [("state_dir", &now.state_dir, &config.state_dir), ("run_dir", &now.run_dir, &config.run_dir)]
        {
            if before != after {
                let why = format!(
                    "{what} cannot change while the host runs; restart it to use {}",
                    after.display()
                );
                return Err(BuildError::Unusable(why));
            }
        }
        if now.plugins_dirs != config.plugins_dirs || now.launcher != config.launcher {
            let why =
                "the plugins directories and the launcher cannot change while the host runs; restart it";
            return Err(BuildError::Unusable(why.to_owned()));
        }
        if now.sandbox.first_user != config.sandbox.first_user {
            let why = "sandbox.first_user cannot change while the host runs; restart it";
            return Err(BuildError::Unusable(why.to_owned()));
        }
        if now.databases != config.databases {
            let why = "plugin_databases cannot change while the host runs; restart it";
            return Err(BuildError::Unusable(why.to_owned()));
        }
        let changed = changed(&now, &config);
        self.shared.config.send_replace(Arc::new(config));
        self.shared.audit.record("host.reloaded", None, "host", json!({"changed": changed}));
        Ok(())
    }

    /// Stops all plugins in order, waits until nothing of them is left, and ends the host.
    ///
    /// It takes at most as long as work in flight and the time between SIGTERM and SIGKILL allow, and a few seconds more.
    pub async fn shutdown(&self) {
        let patience = DRAIN_TIME + self.shared.config().stop_grace + SHUTDOWN_SLACK;
        let all_left = self.shared.shutdown.finish(patience).await;
        if !all_left {
            tracing::error!("some plugins could not be stopped in time; they end with this process");
        }
        self.events.shutdown().await;
        self.shared.audit.record("host.stopped", None, "host", json!({}));
        self.shared.audit.flush().await;
        self.shared.trail.write_head().await;
        let files = self.shared.log_files.clone();
        // Failing means that the runtime ends at this very moment, and then nobody waits for the files.
        let _ = tokio::task::spawn_blocking(move || files.flush()).await;
        if all_left {
            self.shared.places.release();
        }
    }
}

/// A host goes on where the machine can do less than is wanted; but it says so.
fn tell_what_is_missing(launcher: &Launcher, config: &HostConfig) {
    let wanted = SandboxSpec::of_plugin(config, "", &[]).policies;
    for report in launcher.tried().iter().filter(|report| report.state != State::InForce) {
        if wanted.of(report.layer) != Policy::Off {
            let (layer, why) = (report.layer.as_str(), report.evidence.as_str());
            tracing::warn!(
                layer,
                state = report.state.as_str(),
                why,
                "a layer of the sandbox is not to be had in full"
            );
        }
    }
    if launcher.tried().is_empty() {
        tracing::warn!(
            "plugins run without a sandbox, because nothing of it works on this machine; `temps doctor` says why"
        );
    }
}

/// The settings that a reload changed.
fn changed(before: &HostConfig, after: &HostConfig) -> Vec<&'static str> {
    let settings = [
        ("grants_default", before.grants_default != after.grants_default),
        ("handshake_timeout", before.handshake_timeout != after.handshake_timeout),
        ("stop_grace", before.stop_grace != after.stop_grace),
        ("health", before.health != after.health),
        ("restart", before.restart != after.restart),
        ("usage_every", before.usage_every != after.usage_every),
        ("sandbox", before.sandbox != after.sandbox),
        ("limits", before.limits != after.limits),
    ];
    settings.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

/// Paths that mean the same wherever the process stands.
fn absolute(mut config: HostConfig) -> Result<HostConfig, BuildError> {
    let places = config.plugins_dirs.iter_mut().chain([&mut config.state_dir, &mut config.run_dir]);
    let places = places.chain(config.launcher.as_mut());
    for path in places {
        *path = std::path::absolute(&*path)
            .map_err(|error| BuildError::Unusable(format!("{} is no place: {error}", path.display())))?;
    }
    Ok(config)
}
