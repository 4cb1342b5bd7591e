//! From a platform, a store and settings to a host that runs: what is checked, taken and started, in which order.

use std::sync::Arc;

use serde_json::json;
use temps_store::HostStore;
use tokio::sync::watch;

use super::{PluginHost, Shared};
use crate::audit::{Audit, CheckError, Trail};
use crate::config::HostConfig;
use crate::configuration::Vault;
use crate::database::Databases;
use crate::egress::{Resolver, SystemResolver};
use crate::events::Events;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::platform::Platform;
use crate::plugin::logfile::LogFiles;
use crate::plugin::process::Launcher;
use crate::proxy::Proxy;
use crate::registry::Registry;
use crate::sandbox::{Policy, SandboxSpec, State, Users};
use crate::shutdown::Shutdown;
use crate::tap::Tap;
use crate::versions::ApiVersions;

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
        let groups = shared.launcher.groups().clone();
        shared.shutdown.spawn(crate::sandbox::balance(groups, shared.shutdown.told()));
        let events = Events::start(store, registry.clone(), metrics.clone(), audit, versions);
        let proxy = Proxy::new(registry, platform, metrics);
        let intake = Intake::start(&shared).await?;
        Ok(PluginHost { shared, intake, events, proxy })
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

/// Paths that mean the same wherever the process stands.
pub(super) fn absolute(mut config: HostConfig) -> Result<HostConfig, BuildError> {
    let places = config.plugins_dirs.iter_mut().chain([&mut config.state_dir, &mut config.run_dir]);
    let places = places.chain(config.launcher.as_mut());
    for path in places {
        *path = std::path::absolute(&*path)
            .map_err(|error| BuildError::Unusable(format!("{} is no place: {error}", path.display())))?;
    }
    Ok(config)
}
