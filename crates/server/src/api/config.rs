//! A plugin's configuration as REST takes and gives it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A plugin's configuration. Values of secrets are never in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginConfig {
    /// Name of the plugin.
    pub plugin: String,
    /// Counts the changes; 0 while nothing was ever set.
    pub revision: i64,
    /// When it was changed last.
    pub updated_at: Option<DateTime<Utc>>,
    /// Who changed it last.
    pub updated_by: Option<String>,
    /// The settings, by name.
    pub settings: Vec<Setting>,
    /// What keeps the plugin, or the version of it that waits, from being started.
    pub problems: Vec<ConfigProblem>,
    /// The JSON Schema that the plugin declares; `null` when it has no settings.
    #[schema(value_type = Option<Object>)]
    pub schema: Option<serde_json::Value>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it is for, in the author's words.
    pub description: Option<String>,
    /// Whether its value is a secret, which is never shown.
    pub secret: bool,
    /// Whether the plugin cannot run without it.
    pub required: bool,
    /// Whether it was set.
    pub set: bool,
    /// What was set, or else the default. Left out for a secret.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    /// Whether the plugin's present version declares it. What an earlier one declared is kept, and not given to the plugin.
    pub declared: bool,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigProblem {
    /// The setting, with `/` before each name inside of it; empty for the configuration as a whole.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Whether the setting is missing.
    pub missing: bool,
}

/// How a configuration is to be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ConfigQuery {
    /// Change it only if it has this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Whether settings may be unset that the plugin cannot run without. It is held then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}
