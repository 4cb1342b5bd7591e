//! What a plugin's hooks and routes are given: its name, its directory, the platform, its secret, its log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use temps_protocol::Feature;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::arguments::Launch;
use crate::auth::Secret;
use crate::platform::PlatformClient;

/// Everything that a plugin knows of its surroundings. Cheap to clone; the state of most routers.
#[derive(Debug, Clone)]
pub struct PluginContext {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    data_dir: PathBuf,
    secret: Secret,
    platform: PlatformClient,
    logger: Logger,
    api_version: Option<String>,
    database_url: Option<String>,
    host_features: Vec<Feature>,
    runtime: tokio::runtime::Handle,
    stopping: watch::Receiver<bool>,
}

impl PluginContext {
    /// Must be called inside the runtime that the plugin lives in.
    pub(crate) fn new(
        name: &str,
        launch: &Launch,
        platform: PlatformClient,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let name = launch.environment.plugin_name.clone().unwrap_or_else(|| name.to_owned());
        Self {
            inner: Arc::new(Inner {
                logger: Logger { plugin: Arc::from(name.as_str()) },
                name,
                data_dir: launch.data_dir.clone(),
                secret: launch.secret.clone(),
                platform,
                api_version: launch.environment.api_version.clone(),
                database_url: launch.environment.database_url.clone(),
                host_features: launch.environment.features.clone(),
                runtime: tokio::runtime::Handle::current(),
                stopping,
            }),
        }
    }

    /// The plugin's name, as the host knows it.
    #[must_use]
    pub fn plugin_name(&self) -> &str {
        &self.inner.name
    }

    /// The plugin's own directory. Only the plugin may enter it, and it outlives restarts and updates. It exists,
    /// unless the host named a place where this user may not make one, which is then in the log.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.inner.data_dir
    }

    /// The URL of the plugin's own database, for a plugin whose manifest has `requires_db`: `sqlite:////path/plugin.db`, or
    /// `postgresql:///name?user=name&host=/directory` where an operator gave it one on a server. Drivers take it as it is.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        self.inner.database_url.as_deref()
    }

    /// The client for platform data.
    #[must_use]
    pub fn platform(&self) -> &PlatformClient {
        &self.inner.platform
    }

    /// The auth secret of this start, which the host shows with every request. Never log it.
    #[must_use]
    pub fn auth_secret(&self) -> &str {
        self.inner.secret.expose()
    }

    /// A log whose lines carry the plugin's name. The macros of `tracing` work as well.
    #[must_use]
    pub fn logger(&self) -> &Logger {
        &self.inner.logger
    }

    /// The version of the protocol that the host speaks, if it said so.
    #[must_use]
    pub fn api_version(&self) -> Option<&str> {
        self.inner.api_version.as_deref()
    }

    /// Whether the host announced an optional ability.
    #[must_use]
    pub fn host_has(&self, feature: Feature) -> bool {
        self.inner.host_features.contains(&feature)
    }

    /// Starts work beside the current call, from asynchronous and from ordinary functions alike.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.inner.runtime.spawn(work)
    }

    /// Whether the plugin has been told to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.inner.stopping.borrow()
    }

    /// Resolves when the plugin is told to end. Long answers (streams) and background work should end with it.
    pub async fn stopping(&self) {
        let mut stopping = self.inner.stopping.clone();
        // An error means that the machinery is gone already, which is the end as well.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// A log whose lines carry the plugin's name.
#[derive(Debug, Clone)]
pub struct Logger {
    plugin: Arc<str>,
}

impl Logger {
    /// Something that only an author wants to know.
    pub fn debug(&self, message: impl std::fmt::Display) {
        tracing::debug!(plugin = &*self.plugin, "{message}");
    }

    /// Something that an operator wants to know.
    pub fn info(&self, message: impl std::fmt::Display) {
        tracing::info!(plugin = &*self.plugin, "{message}");
    }

    /// Something that will need attention if it goes on.
    pub fn warn(&self, message: impl std::fmt::Display) {
        tracing::warn!(plugin = &*self.plugin, "{message}");
    }

    /// Something that did not work.
    pub fn error(&self, message: impl std::fmt::Display) {
        tracing::error!(plugin = &*self.plugin, "{message}");
    }
}
