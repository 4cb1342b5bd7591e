//! What an operator can turn, with defaults, units and reasons.

use std::path::PathBuf;
use std::time::Duration;

use crate::database::DatabaseSettings;
use crate::egress::EgressSettings;
use crate::sandbox::{LimitSettings, SandboxSettings};

/// Settings of the host. [`HostConfig::for_places`] gives the defaults for a set of directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Directories whose executables are plugins. The first is where the CLI installs.
    pub plugins_dirs: Vec<PathBuf>,
    /// Where the host keeps plugins' data, logs and the artifacts that it runs.
    pub state_dir: PathBuf,
    /// Where sockets live; 0700, and short, because a socket's path has at most 107 bytes.
    pub run_dir: PathBuf,
    /// Executable that answers as a launcher; `None` for the running program itself.
    pub launcher: Option<PathBuf>,
    /// What a plugin without declared permissions gets.
    pub grants_default: GrantsDefault,
    /// How long a plugin has for each handshake line.
    pub handshake_timeout: Duration,
    /// How long a plugin has between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// When and how often a plugin's health is asked for.
    pub health: HealthPolicy,
    /// How a crashed plugin comes back.
    pub restart: RestartPolicy,
    /// Time between two measurements of what a plugin uses.
    pub usage_every: Duration,
    /// Where plugins' own databases are made.
    pub databases: DatabaseSettings,
    /// Which walls are built around plugins.
    pub sandbox: SandboxSettings,
    /// What plugins may reach beside what they are granted.
    pub egress: EgressSettings,
    /// How much plugins may use.
    pub limits: LimitSettings,
}

/// What a plugin without declared permissions gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantsDefault {
    /// Its events, all read methods, and HTTPS to any public name; audited.
    Allow,
    /// Nothing: it is held until an operator grants.
    Hold,
}

/// When and how often a plugin's health is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Time between two questions.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row after which the plugin is restarted.
    pub failures: u32,
}

/// How a crashed plugin comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// First wait; each further crash doubles it.
    pub backoff_min: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
    /// Time up after which the wait begins again at its minimum.
    pub reset_after: Duration,
    /// Crashes within `window` that put the plugin in quarantine; 0 turns quarantine off.
    pub quarantine_after: u32,
    /// The time in which crashes are counted.
    pub window: Duration,
    /// Time between two tries of a quarantined plugin.
    pub half_open_every: Duration,
}

impl HostConfig {
    /// The defaults for these places.
    #[must_use]
    pub fn for_places(plugins_dir: PathBuf, state_dir: PathBuf, run_dir: PathBuf) -> Self {
        Self {
            plugins_dirs: vec![plugins_dir],
            state_dir,
            run_dir,
            launcher: None,
            grants_default: GrantsDefault::Allow,
            handshake_timeout: temps_protocol::limits::HANDSHAKE_TIMEOUT,
            stop_grace: Duration::from_secs(10),
            health: HealthPolicy {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(2),
                failures: 3,
            },
            restart: RestartPolicy {
                backoff_min: Duration::from_millis(500),
                backoff_max: Duration::from_secs(60),
                reset_after: Duration::from_secs(60),
                quarantine_after: 5,
                window: Duration::from_secs(300),
                half_open_every: Duration::from_secs(600),
            },
            usage_every: Duration::from_secs(30),
            databases: DatabaseSettings::default(),
            sandbox: SandboxSettings::default(),
            egress: EgressSettings::default(),
            limits: LimitSettings::default(),
        }
    }

    /// Checks what cannot work.
    ///
    /// # Errors
    /// Which setting is wrong, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        if self.plugins_dirs.is_empty() {
            return Err("plugins_dirs is empty; name at least one directory".to_owned());
        }
        let times = [
            ("handshake_timeout", self.handshake_timeout),
            ("health.interval", self.health.interval),
            ("health.timeout", self.health.timeout),
            ("restart.backoff_min", self.restart.backoff_min),
            ("restart.half_open_every", self.restart.half_open_every),
            ("usage_every", self.usage_every),
        ];
        for (name, time) in times {
            if time.is_zero() {
                return Err(format!("{name} is zero; it must be longer"));
            }
        }
        if self.health.failures == 0 {
            return Err("health.failures is 0; it must be at least 1".to_owned());
        }
        if self.restart.backoff_max < self.restart.backoff_min {
            return Err("restart.backoff_max is shorter than restart.backoff_min".to_owned());
        }
        self.sandbox.check()?;
        self.limits.check()?;
        self.egress.check()?;
        self.databases.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_usable_and_nonsense_is_named() {
        let config = HostConfig::for_places("p".into(), "s".into(), "r".into());
        assert_eq!(config.check(), Ok(()));
        let mut wrong = config.clone();
        wrong.health.interval = Duration::ZERO;
        assert!(wrong.check().unwrap_err().contains("health.interval"));
        let mut wrong = config;
        wrong.plugins_dirs.clear();
        assert!(wrong.check().unwrap_err().contains("plugins_dirs"));
    }
}
