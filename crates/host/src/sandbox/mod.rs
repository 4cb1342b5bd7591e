//! The sandbox as operators set it: which layers, how much each plugin may use, and what else it may read.
//!
//! Settings and grants go in, what one plugin is to get comes out. Nothing here knows how a layer is built.

mod balance;
mod disk;
mod explain;
mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::grants;

pub use explain::Explanation;
pub use temps_sandbox::{Access, Layer, LayerReport, Limits, Mount, Policies, Policy, State, Step};

pub(crate) use balance::balance;
pub(crate) use disk::used_by;
pub(crate) use users::{Users, own};

/// Least memory that a limit may leave, in bytes: less does not even load an interpreter.
const LEAST_MEMORY: u64 = 16 << 20;

/// Least processes and threads that a limit may leave.
const LEAST_TASKS: u64 = 4;

/// Least open files that a limit may leave: output, socket, channel, and some to work with.
const LEAST_FILES: u64 = 16;

/// The first of the users that plugins run as, where the operator names no other. No system gives accounts this number.
const FIRST_USER: u32 = 1_900_000_000;

/// What operators set about the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSettings {
    /// For every plugin.
    pub all: PluginSandbox,
    /// For single plugins, in front of the others.
    pub plugins: BTreeMap<String, PluginSandbox>,
    /// The first of the user ids from which plugins of a host that is root get theirs. A host takes 1000 of the 60 million from
    /// the default on, by where its data lies; where another first one is set, the 1000 from there on.
    pub first_user: u32,
}

/// What is set about the sandbox of some plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSandbox {
    /// The layers for which something is said.
    pub policies: Policies,
    /// Files and directories that plugins may read and execute beside the system's.
    pub read_only_paths: Vec<PathBuf>,
}

/// What operators set about limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// For every plugin.
    pub all: SomeLimits,
    /// For single plugins, in front of everything else.
    pub plugins: BTreeMap<String, SomeLimits>,
}

/// Limits, of which some are said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SomeLimits {
    /// Memory of all processes of a plugin together, in bytes.
    pub memory_max: Option<u64>,
    /// Processor time, in percent of one processor.
    pub cpu_quota: Option<u32>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
    /// Open files of one process.
    pub nofile: Option<u64>,
    /// The data directory and each file, in bytes.
    pub disk_max: Option<u64>,
    /// Temporary files, in bytes.
    pub tmp_max: Option<u64>,
}

/// What one plugin is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The policy of each layer.
    pub policies: Policies,
    /// How much it may use.
    pub limits: Limits,
    /// What it may read and execute beside the system's programs and its own.
    pub read_only_paths: Vec<PathBuf>,
    /// User and group to run as, where the machine can do that.
    pub user: Option<(u32, u32)>,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self { all: PluginSandbox::default(), plugins: BTreeMap::new(), first_user: FIRST_USER }
    }
}

impl Default for PluginSandbox {
    fn default() -> Self {
        Self { policies: Policies::unset(), read_only_paths: Vec::new() }
    }
}

impl SandboxSettings {
    /// Checks what cannot work.
    ///
    /// # Errors
    /// Which setting is wrong, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        for (of, set) in
            std::iter::once(("", &self.all)).chain(self.plugins.iter().map(|(n, s)| (n.as_str(), s)))
        {
            if let Some(path) = set.read_only_paths.iter().find(|path| !path.is_absolute()) {
                return Err(format!("sandbox.{of}read_only_paths: {} must begin with \"/\"", path.display()));
            }
        }
        if self.first_user < 1000 {
            return Err("sandbox.first_user is below 1000, where a system's own users are".to_owned());
        }
        if self.first_user.checked_add(users::OF_ONE_HOST).is_none() {
            return Err(format!("sandbox.first_user leaves no room for {} users", users::OF_ONE_HOST));
        }
        Ok(())
    }

    /// What is wanted of the layers for a plugin.
    #[must_use]
    pub fn policies(&self, plugin: &str) -> Policies {
        let own = self.plugins.get(plugin).map_or_else(Policies::unset, |own| own.policies.clone());
        Policies::default().overridden_by(&self.all.policies).overridden_by(&own)
    }

    fn read_only_paths(&self, plugin: &str) -> Vec<PathBuf> {
        let own = self.plugins.get(plugin).into_iter().flat_map(|own| own.read_only_paths.iter());
        let mut all: Vec<PathBuf> = self.all.read_only_paths.iter().chain(own).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

impl LimitSettings {
    /// Checks what cannot work.
    ///
    /// # Errors
    /// Which setting is wrong, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        self.plugins.values().chain([&self.all]).try_for_each(SomeLimits::check)
    }
}

impl SomeLimits {
    fn check(&self) -> Result<(), String> {
        let at_least = |name: &str, value: Option<u64>, least: u64| match value {
            Some(value) if value < least => {
                Err(format!("limits.{name} is {value}; no plugin can run with less than {least}"))
            }
            _ => Ok(()),
        };
        at_least("memory_max", self.memory_max, LEAST_MEMORY)?;
        at_least("cpu_quota", self.cpu_quota.map(u64::from), 1)?;
        at_least("tasks_max", self.tasks_max, LEAST_TASKS)?;
        at_least("nofile", self.nofile, LEAST_FILES)?;
        at_least("disk_max", self.disk_max, 1 << 20)?;
        at_least("tmp_max", self.tmp_max, 1 << 20)
    }

    fn over(&self, other: Limits) -> Limits {
        Limits {
            memory_max: self.memory_max.unwrap_or(other.memory_max),
            cpu_quota: self.cpu_quota.unwrap_or(other.cpu_quota),
            tasks_max: self.tasks_max.unwrap_or(other.tasks_max),
            nofile: self.nofile.unwrap_or(other.nofile),
            disk_max: self.disk_max.unwrap_or(other.disk_max),
            tmp_max: self.tmp_max.unwrap_or(other.tmp_max),
        }
    }
}

/// How much a plugin may use: what is set for it alone; or else the larger of what is set for all and what it was granted.
///
/// A grant of no more than the built-in default raises nothing: the policy gives such grants by itself.
#[must_use]
pub fn limits(settings: &LimitSettings, plugin: &str, granted: &[String]) -> Limits {
    let mut limits = settings.all.over(Limits::default());
    for grant in granted {
        grants::raise(&mut limits, grant);
    }
    settings.plugins.get(plugin).map_or(limits, |own| own.over(limits))
}

impl SandboxSpec {
    /// What a plugin gets at its start.
    #[must_use]
    pub fn of_plugin(config: &crate::HostConfig, plugin: &str, granted: &[String]) -> Self {
        Self {
            policies: config.sandbox.policies(plugin),
            limits: limits(&config.limits, plugin, granted),
            read_only_paths: config.sandbox.read_only_paths(plugin),
            user: None,
        }
    }

    /// What a program gets that only has to say who it is: everything that the machine can do, no network, small limits. A
    /// layer that the operator turned off is off here as well, because it may stand in the way; the network is not.
    #[must_use]
    pub fn of_inspection(config: &crate::HostConfig) -> Self {
        let policies = config.sandbox.policies("");
        let network = match policies.of(Layer::Network) {
            Policy::Off => Policy::default(),
            policy => policy,
        };
        Self {
            policies: policies.with(Layer::Network, network),
            limits: Limits::of_inspection(),
            read_only_paths: config.sandbox.read_only_paths(""),
            user: None,
        }
    }

    /// A program whose processes are kept together, and which is not kept from anything else.
    #[must_use]
    pub fn processes_only() -> Self {
        Self {
            policies: Policies::processes_only(),
            limits: Limits::default(),
            read_only_paths: Vec::new(),
            user: None,
        }
    }

    /// The same, as a user of its own.
    #[must_use]
    pub fn as_user(self, user: Option<(u32, u32)>) -> Self {
        Self { user, ..self }
    }
}

/// The user that tries the sandbox where no host is there that would set one aside. Nothing belongs to it.
#[must_use]
pub fn trial_user(settings: &SandboxSettings) -> (u32, u32) {
    let user = match settings.first_user {
        FIRST_USER => FIRST_USER - 1,
        chosen => chosen.saturating_add(users::OF_ONE_HOST - 1),
    };
    (user, user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_own_limits_stand_before_grants_and_those_before_what_is_set_for_all() {
        let settings = LimitSettings {
            all: SomeLimits { memory_max: Some(128 << 20), tasks_max: Some(100), ..SomeLimits::default() },
            plugins: BTreeMap::from([(
                "own".to_owned(),
                SomeLimits { memory_max: Some(64 << 20), ..SomeLimits::default() },
            )]),
        };
        let granted = ["memory_max=512M".to_owned(), "cpu_quota=50%".to_owned(), "tasks_max=80".to_owned()];
        let other = limits(&settings, "other", &granted);
        assert_eq!((other.memory_max, other.cpu_quota, other.tasks_max), (512 << 20, 50, 100));
        assert_eq!(limits(&settings, "own", &granted).memory_max, 64 << 20);
        // The default policy gives such a grant without asking, so it must not undo what the operator set.
        assert_eq!(limits(&settings, "other", &["memory_max=256M".to_owned()]).memory_max, 128 << 20);
        assert_eq!(limits(&LimitSettings::default(), "any", &[]), Limits::default());
    }

    #[test]
    fn an_inspection_has_no_network_whatever_is_set() {
        let mut config = crate::HostConfig::for_places("p".into(), "s".into(), "r".into());
        config.sandbox.all.policies =
            Policies::unset().with(Layer::Network, Policy::Off).with(Layer::Landlock, Policy::Off);
        let spec = SandboxSpec::of_inspection(&config);
        assert_eq!(spec.policies.of(Layer::Network), Policy::Strict);
        assert_eq!(spec.policies.of(Layer::Landlock), Policy::Off);
        config.sandbox.all.policies = Policies::unset().with(Layer::Network, Policy::Require);
        assert_eq!(SandboxSpec::of_inspection(&config).policies.of(Layer::Network), Policy::Require);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_name() {
        let limits = LimitSettings {
            all: SomeLimits { memory_max: Some(1 << 20), ..SomeLimits::default() },
            ..LimitSettings::default()
        };
        assert!(limits.check().unwrap_err().contains("limits.memory_max"));
        let mut settings = SandboxSettings::default();
        settings.all.read_only_paths = vec!["opt".into()];
        assert!(settings.check().unwrap_err().contains("read_only_paths"));
    }
}
