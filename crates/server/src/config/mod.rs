//! What the daemon is set to: defaults, then the file, then the environment, then the command line.
//!
//! Every setting is checked before anything starts, and a mistake is named with its file, its line and what was
//! probably meant. Nothing is accepted that does nothing. This module reads; it changes nothing on disk.

mod database;
mod egress;
mod file;
mod places;
mod sandbox;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use temps_host::HostConfig;
use temps_host::config::{GrantsDefault, HealthPolicy, RestartPolicy};
use temps_host::database::DatabaseSettings;
use temps_host::egress::EgressSettings;
use temps_host::sandbox::{LimitSettings, SandboxSettings};
use temps_host::secrets::Secret;
use temps_store::DatabaseAddress;

pub use places::Places;
use values::{check_host, check_public_url};
pub(crate) use values::{parse_grants_default, parse_listen};

use crate::auth::ADMIN_TOKEN_NAME;

/// Port that the daemon listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 6160;

/// Where the daemon listens unless told otherwise: this machine only.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);

/// Everything that the daemon is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directories and files.
    pub places: Places,
    /// Where the database is; `None` for a SQLite file among the state.
    pub database: Option<DatabaseAddress>,
    /// This host's name on a database that several hosts share.
    pub node: String,
    /// Whether the settings' file holds a password, so that nobody else should read it.
    pub secret_in_file: bool,
    /// Address that is listened on.
    pub listen: SocketAddr,
    /// How browsers reach the daemon when that is not `http://` and the address, without a trailing slash.
    pub public_url: Option<String>,
    /// More `Host` names that are ours, each `name` or `name:port`.
    pub allowed_hosts: Vec<String>,
    /// Whether `/metrics` answers without a token.
    pub metrics_public: bool,
    /// What a plugin without declared permissions gets.
    pub grants_default: GrantsDefault,
    /// How long a plugin has between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// Time between two measurements of what a plugin uses.
    pub usage_every: Duration,
    /// When and how often a plugin's health is asked for.
    pub health: HealthPolicy,
    /// How a crashed plugin comes back.
    pub restart: RestartPolicy,
    /// Where plugins' own databases are made.
    pub databases: DatabaseSettings,
    /// Which walls are built around plugins.
    pub sandbox: SandboxSettings,
    /// How much plugins may use.
    pub limits: LimitSettings,
    /// What plugins may reach beside what they are granted, for development and for protocols without TLS.
    pub egress: EgressSettings,
    /// How deployments are probed.
    pub probe: ProbePolicy,
    /// Executable that answers as a launcher; `None` for the running program.
    pub launcher: Option<PathBuf>,
    /// Whether the demonstration runs: a local site, deployed again and again.
    pub demo: bool,
}

/// How the daemon asks a deployment's URL whether it is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbePolicy {
    /// Time between two questions.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a deployment has to become ready, and then to become healthy, before it has failed.
    pub give_up_after: Duration,
    /// How long it must have stayed healthy to have succeeded.
    pub healthy_for: Duration,
}

impl Default for ProbePolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            give_up_after: Duration::from_secs(300),
            healthy_for: Duration::from_secs(10),
        }
    }
}

/// What the command line says; whatever is `None` (or `false`, or empty) says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`: the file to read; it must exist then.
    pub config_file: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--plugins-dir`, once or more; replaces all others.
    pub plugins_dirs: Vec<PathBuf>,
    /// `--public-url`.
    pub public_url: Option<String>,
    /// `--demo`.
    pub demo: bool,
    /// `--allow-loopback`, once or more: a plugin and an address of this machine's loopback.
    pub allow_loopback: Vec<(String, std::net::SocketAddrV4)>,
    /// Executable that answers as a launcher.
    pub launcher: Option<PathBuf>,
}

/// Everything outside the file that settings come from. A value, so that tests need no environment of their own.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The environment's variables.
    pub env: BTreeMap<String, String>,
    /// Whether the daemon runs as root.
    pub root: bool,
    /// What the command line says.
    pub overrides: Overrides,
}

impl Surroundings {
    /// This process's surroundings, with what its command line says. `root` is whether the effective user id is 0.
    #[must_use]
    pub fn of_process(root: bool, overrides: Overrides) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("TEMPS_") || name == "HOME")
            .collect();
        Self { env, root, overrides }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file exists and cannot be read, or was named and does not exist.
    #[error("cannot read the settings in {}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A line of the file is wrong.
    #[error("{}:{line}: {message}", file.display())]
    InFile {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A value of the environment or the command line is wrong.
    #[error("{source_name}: {message}")]
    InValue {
        /// The variable, the flag or the setting.
        source_name: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// Neither `TEMPS_HOME` nor `HOME` says where things are kept.
    #[error("neither TEMPS_HOME nor HOME is set; set TEMPS_HOME to the directory that temps may use")]
    NoHome,
}

impl Config {
    /// Puts the settings together: defaults, then the file, then `TEMPS_*` variables, then the command line.
    ///
    /// Variables: `TEMPS_HOME` (all places below one directory), `TEMPS_CONFIG` (the file), `TEMPS_LISTEN`, `TEMPS_PUBLIC_URL`,
    /// `TEMPS_ALLOWED_HOSTS` and `TEMPS_PLUGINS_DIRS` (separated by commas and colons), `TEMPS_GRANTS_DEFAULT`, `TEMPS_LAUNCHER`,
    /// `TEMPS_DATABASE` or `TEMPS_DATABASE_FILE` (an address, or a file that holds it), `TEMPS_NODE`,
    /// `TEMPS_PLUGIN_DATABASES_URL` (the PostgreSQL server for plugins' databases).
    ///
    /// # Errors
    /// [`ConfigError`] names the first mistake.
    pub fn load(from: &Surroundings) -> Result<Self, ConfigError> {
        let mut places = Places::find(&from.env, from.root)?;
        let named =
            from.overrides.config_file.clone().or_else(|| from.env.get("TEMPS_CONFIG").map(PathBuf::from));
        let must_exist = named.is_some();
        if let Some(file) = named {
            places.config_file = file;
        }
        let mut config = Self::defaults(places);
        file::read(&mut config, must_exist)?;
        config.take_environment(&from.env)?;
        config.take_overrides(&from.overrides)?;
        config.check()?;
        Ok(config)
    }

    /// The defaults for these places.
    #[must_use]
    pub fn defaults(places: Places) -> Self {
        let host = HostConfig::for_places(PathBuf::new(), PathBuf::new(), PathBuf::new());
        Self {
            places,
            database: None,
            node: database::host_name(),
            secret_in_file: false,
            listen: DEFAULT_LISTEN,
            public_url: None,
            allowed_hosts: Vec::new(),
            metrics_public: false,
            grants_default: host.grants_default,
            stop_grace: host.stop_grace,
            usage_every: host.usage_every,
            health: host.health,
            restart: host.restart,
            databases: host.databases,
            sandbox: host.sandbox,
            limits: host.limits,
            egress: host.egress,
            probe: ProbePolicy::default(),
            launcher: None,
            demo: false,
        }
    }

    /// Where the database is.
    #[must_use]
    pub fn database(&self) -> DatabaseAddress {
        self.database.clone().unwrap_or_else(|| DatabaseAddress::Sqlite(self.places.database_file()))
    }

    /// Name of the token whose secret stands in this host's file. Hosts that share a database have one each.
    #[must_use]
    pub fn admin_token_name(&self) -> String {
        match self.database() {
            DatabaseAddress::Sqlite(_) => ADMIN_TOKEN_NAME.to_owned(),
            DatabaseAddress::Postgres(_) => format!("{ADMIN_TOKEN_NAME}@{}", self.node),
        }
    }

    /// The plugin host's share of the settings.
    #[must_use]
    pub fn host_config(&self) -> HostConfig {
        let mut host = HostConfig::for_places(
            PathBuf::new(),
            self.places.state_dir.clone(),
            self.places.run_dir.clone(),
        );
        host.plugins_dirs = self.places.plugins_dirs.clone();
        host.launcher = self.launcher.clone();
        host.grants_default = self.grants_default;
        host.stop_grace = self.stop_grace;
        host.health = self.health;
        host.restart = self.restart;
        host.usage_every = self.usage_every;
        host.databases = self.databases.clone();
        host.sandbox = self.sandbox.clone();
        host.limits = self.limits.clone();
        host.egress = self.egress.clone();
        host
    }

    fn take_environment(&mut self, env: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        let wrong =
            |name: &str, message: String| ConfigError::InValue { source_name: name.to_owned(), message };
        if let Some(text) = env.get("TEMPS_LISTEN") {
            self.listen = parse_listen(text).map_err(|message| wrong("TEMPS_LISTEN", message))?;
        }
        if let Some(text) = env.get("TEMPS_DATABASE") {
            let address = database::parse_address(text);
            self.database = Some(address.map_err(|message| wrong("TEMPS_DATABASE", message))?);
        }
        if let Some(text) = env.get("TEMPS_DATABASE_FILE") {
            if env.contains_key("TEMPS_DATABASE") {
                return Err(wrong(
                    "TEMPS_DATABASE_FILE",
                    "is set beside TEMPS_DATABASE; set one of them".into(),
                ));
            }
            let address = database::read_address(text.as_ref());
            self.database = Some(address.map_err(|message| wrong("TEMPS_DATABASE_FILE", message))?);
        }
        if let Some(text) = env.get("TEMPS_NODE") {
            self.node = database::parse_node(text).map_err(|message| wrong("TEMPS_NODE", message))?;
        }
        if let Some(text) = env.get("TEMPS_PUBLIC_URL") {
            self.public_url = Some(text.clone());
        }
        if let Some(text) = env.get("TEMPS_ALLOWED_HOSTS") {
            self.allowed_hosts =
                text.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned).collect();
        }
        if let Some(text) = env.get("TEMPS_PLUGINS_DIRS") {
            self.places.plugins_dirs = std::env::split_paths(text).collect();
        }
        if let Some(text) = env.get("TEMPS_GRANTS_DEFAULT") {
            self.grants_default =
                parse_grants_default(text).map_err(|message| wrong("TEMPS_GRANTS_DEFAULT", message))?;
        }
        if let Some(text) = env.get("TEMPS_PLUGIN_DATABASES_URL") {
            self.databases.postgres_url = Some(Secret::new(text.clone()));
        }
        if let Some(text) = env.get("TEMPS_LAUNCHER") {
            self.launcher = Some(PathBuf::from(text));
        }
        Ok(())
    }

    fn take_overrides(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        if let Some(listen) = overrides.listen {
            self.listen = listen;
        }
        if !overrides.plugins_dirs.is_empty() {
            self.places.plugins_dirs = overrides.plugins_dirs.clone();
        }
        if let Some(url) = &overrides.public_url {
            self.public_url = Some(url.clone());
        }
        if let Some(launcher) = &overrides.launcher {
            self.launcher = Some(launcher.clone());
        }
        for (plugin, address) in &overrides.allow_loopback {
            self.egress.plugins.entry(plugin.clone()).or_default().allow_loopback.push(*address);
        }
        self.demo |= overrides.demo;
        Ok(())
    }

    /// Checks what cannot be checked value by value.
    fn check(&mut self) -> Result<(), ConfigError> {
        let wrong =
            |name: &str, message: String| ConfigError::InValue { source_name: name.to_owned(), message };
        if let Some(url) = &mut self.public_url {
            *url = check_public_url(url).map_err(|message| wrong("public_url", message))?;
        }
        for host in &self.allowed_hosts {
            check_host(host).map_err(|message| wrong("allowed_hosts", message))?;
        }
        if self.places.plugins_dirs.is_empty() {
            return Err(wrong("plugins_dirs", "names no directory; leave it out for the default".into()));
        }
        if let Some(relative) = self.places.plugins_dirs.iter().find(|dir| !dir.is_absolute()) {
            let message = format!("{} must begin with \"/\"", relative.display());
            return Err(wrong("plugins_dirs", message));
        }
        if self.restart.backoff_min > self.restart.backoff_max {
            return Err(wrong("restart.backoff_min", "is longer than restart.backoff_max".into()));
        }
        self.sandbox.check().map_err(|message| wrong("sandbox", message))?;
        self.limits.check().map_err(|message| wrong("limits", message))?;
        self.egress.check().map_err(|message| wrong("egress", message))?;
        self.databases.check().map_err(|message| wrong("plugin_databases", message))?;
        if self.probe.healthy_for >= self.probe.give_up_after {
            return Err(wrong("probe.healthy_for", "must be shorter than probe.give_up_after".into()));
        }
        Ok(())
    }
}
