//! The host: built from a platform, a store and settings; started and stopped in order.
//!
//! This is where the rooms are put together. What operators ask for is in [`crate::operate`].

mod builder;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use temps_protocol::PluginEvent;
use temps_store::{AuditFilter, AuditRecord, HostStore, Published};
use tokio::sync::{mpsc, watch};

use crate::audit::{Audit, Check, Trail};
use crate::config::HostConfig;
use crate::configuration::Vault;
use crate::database::{DatabaseView, Databases};
use crate::egress::{EgressView, Resolver, Way};
use crate::events::{DeliveryStatus, EventTail, Events};
use crate::intake::Order;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::platform::Platform;
use crate::plugin::PluginSnapshot;
use crate::plugin::logfile::LogFiles;
use crate::plugin::process::Launcher;
use crate::plugin::state::DRAIN_TIME;
use crate::proxy::Proxy;
use crate::registry::Registry;
use crate::sandbox::{Layer, Users};
use crate::shutdown::Shutdown;
use crate::tap::Tap;
use crate::versions::{ApiVersionView, ApiVersions, major_of};

use self::builder::absolute;
pub use self::builder::{BuildError, PluginHostBuilder};
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
