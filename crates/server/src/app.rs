//! What all routes share: the platform, the host, who may call, and the settings in force.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use temps_host::PluginHost;
use tokio_util::sync::CancellationToken;

use crate::api::access::LoginLink;
use crate::auth::{Access, HostPolicy, TokenError};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::platform::ReferencePlatform;
use crate::probe::Prober;

/// The daemon's rooms, for its routes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    shared: Arc<Shared>,
}

struct Shared {
    platform: ReferencePlatform,
    access: Access,
    host: PluginHost,
    prober: Prober,
    metrics: Metrics,
    closing: CancellationToken,
    address: SocketAddr,
    settings: RwLock<Settings>,
}

/// The settings in force and what follows from them. Replaced as a whole by a reload.
#[derive(Clone)]
struct Settings {
    config: Arc<Config>,
    hosts: Arc<HostPolicy>,
}

impl Settings {
    fn new(config: Config, address: SocketAddr) -> Self {
        let hosts = HostPolicy::new(address, config.public_url.as_deref(), &config.allowed_hosts);
        Self { config: Arc::new(config), hosts: Arc::new(hosts) }
    }
}

impl App {
    pub(crate) fn new(
        config: Config,
        address: SocketAddr,
        platform: ReferencePlatform,
        access: Access,
        host: PluginHost,
    ) -> Self {
        let settings = RwLock::new(Settings::new(config, address));
        let (prober, metrics, closing) = (Prober::default(), Metrics::default(), CancellationToken::new());
        Self {
            shared: Arc::new(Shared { platform, access, host, prober, metrics, closing, address, settings }),
        }
    }

    pub(crate) fn platform(&self) -> &ReferencePlatform {
        &self.shared.platform
    }

    pub(crate) fn access(&self) -> &Access {
        &self.shared.access
    }

    pub(crate) fn host(&self) -> &PluginHost {
        &self.shared.host
    }

    pub(crate) fn prober(&self) -> &Prober {
        &self.shared.prober
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Cancelled when the daemon is being stopped.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.shared.closing
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        self.settings().config
    }

    pub(crate) fn host_policy(&self) -> Arc<HostPolicy> {
        self.settings().hosts
    }

    pub(crate) fn replace_config(&self, config: Config) {
        let settings = Settings::new(config, self.shared.address);
        *self.shared.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// How browsers reach the daemon, without a trailing slash.
    pub(crate) fn base_url(&self) -> String {
        if let Some(url) = &self.config().public_url {
            return url.clone();
        }
        let address = self.shared.address;
        match address.ip().is_unspecified() {
            true => format!("http://127.0.0.1:{}", address.port()),
            false => format!("http://{address}"),
        }
    }

    /// Makes a link that signs one browser in.
    pub(crate) async fn login_link(&self) -> Result<LoginLink, TokenError> {
        let (code, expires_at) = self.access().login_code().await?;
        Ok(LoginLink { url: format!("{}/login?code={code}", self.base_url()), expires_at })
    }

    fn settings(&self) -> Settings {
        self.shared.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
