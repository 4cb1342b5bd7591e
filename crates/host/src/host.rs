//! The host: built from a platform, a store and settings; started and stopped in order.

use std::sync::Arc;

use temps_protocol::PluginEvent;
use temps_store::{AuditFilter, AuditRecord, GrantRecord, HostStore, Published};
use tokio::sync::broadcast;

use crate::audit::Audit;
use crate::config::HostConfig;
use crate::metrics::Metrics;
use crate::platform::Platform;
use crate::plugin::PluginSnapshot;
use crate::proxy::Proxy;
use crate::registry::Registry;

/// Everything that the host's rooms share.
#[derive(Clone)]
#[expect(dead_code, reason = "the rooms that use it follow")]
pub(crate) struct Shared {
    pub(crate) config: Arc<HostConfig>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) store: Arc<dyn HostStore>,
    pub(crate) registry: Registry,
    pub(crate) audit: Audit,
    pub(crate) metrics: Metrics,
    pub(crate) proxy: Proxy,
}

/// A running plugin host. Cheap to clone; [`PluginHost::shutdown`] ends it for all clones.
#[derive(Clone)]
pub struct PluginHost {
    shared: Shared,
}

/// Collects what a [`PluginHost`] is built from.
#[derive(Default)]
pub struct PluginHostBuilder {
    config: Option<HostConfig>,
    platform: Option<Arc<dyn Platform>>,
    store: Option<Arc<dyn HostStore>>,
}

/// Why a host could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something that the host cannot do without was not given.
    #[error("the host needs {0}; give it to the builder")]
    Missing(&'static str),
    /// A directory or the launcher is not usable.
    #[error("{0}")]
    Unusable(String),
}

/// Why something that an operator asked for was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There is no plugin of this name.
    #[error("there is no plugin named {0:?}; `temps plugin list` shows all")]
    UnknownPlugin(String),
    /// The plugin's state does not allow it.
    #[error("{plugin} is {state}: {hint}")]
    NotNow {
        /// Name of the plugin.
        plugin: String,
        /// State that it is in.
        state: &'static str,
        /// What can be done instead.
        hint: String,
    },
    /// What was given makes no sense.
    #[error("{0}")]
    Invalid(String),
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

    /// Checks the places and the launcher, starts the host, and begins to take up plugins. A bad plugin never keeps it from starting.
    ///
    /// # Errors
    /// [`BuildError`] says what is missing or not usable.
    pub async fn build(self) -> Result<PluginHost, BuildError> {
        let store = self.store.ok_or(BuildError::Missing("a store"))?;
        let platform = self.platform.ok_or(BuildError::Missing("a platform"))?;
        let (registry, metrics) = (Registry::default(), Metrics::default());
        let shared = Shared {
            config: Arc::new(self.config.ok_or(BuildError::Missing("settings (config)"))?),
            proxy: Proxy::new(registry.clone(), platform.clone(), metrics.clone()),
            platform,
            registry,
            audit: Audit::start(store.clone()),
            store,
            metrics,
        };
        Ok(PluginHost { shared })
    }
}

#[expect(unused_variables, reason = "bodies follow with the supervision room")]
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
        published.pop().ok_or(PublishError::Store(temps_store::StoreError::Closed))
    }

    /// The routes `/api/x/{plugin}/*`, to be merged into the platform's router at its root.
    pub fn router(&self) -> axum::Router {
        self.shared.proxy.router()
    }

    /// All plugins, by name.
    #[must_use]
    pub fn plugins(&self) -> Vec<Arc<PluginSnapshot>> {
        self.shared.registry.all().into_iter().map(|(_, handle)| handle.view.borrow().clone()).collect()
    }

    /// One plugin.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<Arc<PluginSnapshot>> {
        Some(self.shared.registry.get(name)?.view.borrow().clone())
    }

    /// Starts a plugin that is stopped, in backoff or quarantined. Returns once the attempt was begun.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn start_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// Stops a plugin until it is started again or the host restarts. Returns once it is stopped.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn stop_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// Stops and starts a plugin. Returns once the new start was begun.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn restart_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// Lets a plugin run again, now and after each start of the host.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn enable_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// Stops a plugin and keeps it off, also after a restart of the host.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn disable_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// Suspends health checks (and everything else that would kill a paused process), or takes them up again.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn debug_plugin(&self, name: &str, on: bool, actor: &str) -> Result<(), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// Grants of a plugin, and what it asks for beyond them, as (given, missing).
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn grants(
        &self,
        name: &str,
    ) -> Result<(Vec<GrantRecord>, Vec<(String, String)>), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// Gives grants, each (kind, value); with an empty list everything that the plugin asks for. Works at once.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn grant(
        &self,
        name: &str,
        grants: Vec<(String, String)>,
        actor: &str,
    ) -> Result<(), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// Takes grants back, each (kind, value). Works at once.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn revoke(
        &self,
        name: &str,
        grants: Vec<(String, String)>,
        actor: &str,
    ) -> Result<(), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// Gives a plugin's name, with its data and grants, to another file that claims it.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn adopt(&self, name: &str, file: Option<&str>, actor: &str) -> Result<(), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// The last `count` lines of a plugin's log, oldest first, and a receiver for those that follow.
    ///
    /// # Errors
    /// [`OperateError::UnknownPlugin`].
    pub fn logs(
        &self,
        name: &str,
        count: usize,
    ) -> Result<(Vec<LogLine>, broadcast::Receiver<LogLine>), OperateError> {
        Err(OperateError::UnknownPlugin(name.into()))
    }

    /// The OpenAPI documents that running plugins announced, by plugin name.
    #[must_use]
    pub fn openapi_documents(&self) -> Vec<(String, serde_json::Value)> {
        Vec::new()
    }

    /// Looks into the audit trail.
    ///
    /// # Errors
    /// What the store says.
    pub async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, temps_store::StoreError> {
        self.shared.store.audit(filter).await
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

    /// Takes over new settings without a restart: times and policies apply to the next start of each plugin. Places cannot change.
    ///
    /// # Errors
    /// [`BuildError`] when the settings are not usable; the old ones stay in force then.
    pub async fn reload(&self, config: HostConfig) -> Result<(), BuildError> {
        Ok(())
    }

    /// Stops all plugins in order, waits until nothing of them is left, and ends the host.
    pub async fn shutdown(&self) {}
}
