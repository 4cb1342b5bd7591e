//! The audit trail as REST gives it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Place in the trail.
    pub seq: i64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What happened, for example `plugin.started`.
    pub kind: String,
    /// The plugin that it concerns, if any.
    pub plugin: Option<String>,
    /// Who did it: `host`, `plugin:<name>`, or an operator.
    pub actor: String,
    /// Everything else.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

/// Which lines of the audit trail are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Only this plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Only this kind, or with a trailing `.*` all kinds below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Most entries wanted, 1 to 500; 50 when not given.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
