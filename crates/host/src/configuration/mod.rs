//! Configuration of plugins: what a manifest declares, what operators set, and what a plugin gets.
//!
//! A manifest's `config` is a JSON Schema ([`ConfigSchema`]). What was set stands in the store, secrets sealed by the
//! [`Vault`]. Each plugin's actor decides what follows from a change; here is what it decides with. A secret leaves this room
//! only as part of [`Injected`], towards the plugin that declared it. Nothing here knows of REST or of channels.

mod change;
mod operate;
mod schema;
mod vault;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use temps_protocol::Configuration;
use temps_store::{Revision, StoreError};

use crate::operate::OperateError;

pub use change::ConfigChange;
pub(crate) use change::{Settings, is_secret, opened, stored, verdict};
pub(crate) use schema::ConfigSchema;
pub use schema::SchemaError;
pub(crate) use vault::Vault;
pub use vault::VaultError;

/// Most bytes of one plugin's settings as JSON. They travel in one frame, and are settings, not data.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// A plugin's configuration as it gets it, secrets among it. `Debug` shows none of it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Injected(Arc<Configuration>);

impl Injected {
    pub(crate) fn new(config: Map<String, Value>, revision: Revision) -> Self {
        Self(Arc::new(Configuration { config, revision }))
    }

    /// The configuration itself. Every call is a place where a secret could leak.
    #[must_use]
    pub fn expose(&self) -> &Configuration {
        &self.0
    }
}

impl std::fmt::Debug for Injected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Injected").field("revision", &self.0.revision).finish_non_exhaustive()
    }
}

/// One thing that is wrong with a plugin's configuration. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where: the setting's name, with `/` before each name inside of it. Empty for the configuration as a whole.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Whether a setting is missing that must be there.
    pub missing: bool,
}

impl ConfigProblem {
    /// The setting that it is about; empty for the whole.
    #[must_use]
    pub fn setting(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }
}

impl std::fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// One setting as operators may see it.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingView {
    /// Its name.
    pub name: String,
    /// What it is for, in the author's words.
    pub description: Option<String>,
    /// Whether its value is a secret, which nobody is shown.
    pub secret: bool,
    /// Whether the plugin cannot run without it.
    pub required: bool,
    /// Whether an operator set it.
    pub is_set: bool,
    /// Its value: what was set, or else the default. Never there for a secret.
    pub value: Option<Value>,
    /// Whether the plugin's present version declares it. What an earlier one declared is kept, and not given to the plugin.
    pub declared: bool,
}

/// A plugin's configuration as operators may see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigView {
    /// Counts the changes; 0 while nothing was ever set.
    pub revision: Revision,
    /// When it was changed last.
    pub updated_at: Option<DateTime<Utc>>,
    /// Who changed it last.
    pub updated_by: Option<String>,
    /// The settings, by name.
    pub settings: Vec<SettingView>,
    /// What keeps the plugin (or the version that waits) from being started.
    pub problems: Vec<ConfigProblem>,
    /// The schema that the manifest declares.
    pub schema: Option<Value>,
}

/// Why a configuration was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The plugin cannot be asked.
    #[error(transparent)]
    Operate(#[from] OperateError),
    /// The values break the schema.
    #[error("the configuration was not changed: {}", list(.0))]
    Invalid(Vec<ConfigProblem>),
    /// It would take away what the plugin needs.
    #[error(
        "the configuration was not changed: {plugin} needs {}; give another value, or force it, and {plugin} is held until it is set again",
        .settings.join(", ")
    )]
    Needed {
        /// Name of the plugin.
        plugin: String,
        /// The settings.
        settings: Vec<String>,
    },
    /// Somebody else changed it meanwhile.
    #[error("the configuration has revision {current} by now; look at it again, and repeat the change")]
    Conflict {
        /// The revision that it has.
        current: Revision,
    },
    /// Secrets cannot be sealed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(problems: &[ConfigProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
