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
    /// Only what this actor did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Only what is about this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
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

/// Which lines of the audit trail are followed or exported, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditStreamQuery {
    /// Only this plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Only this kind, or with a trailing `.*` all kinds below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only what this actor did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Only what is about this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Only what stands behind this place. Following begins with new lines when neither this nor `since` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

/// A verification of the audit trail, as far as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditCheck {
    /// `running`, `intact`, `tampered`, or `failed` when it could not be carried out.
    pub state: AuditCheckState,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Links of the chain that were checked and are good.
    pub links: u64,
    /// Number of the last good link, of `newest`: how far it is.
    pub last_link: Option<i64>,
    /// Number of the chain's newest link when it began.
    pub newest_link: i64,
    /// Audit records that were found as they were written.
    pub records: u64,
    /// Delivery attempts that were found as they were written.
    pub attempts: u64,
    /// When the first link that is kept was made.
    pub since: Option<DateTime<Utc>>,
    /// When the last good link was made.
    pub until: Option<DateTime<Utc>>,
    /// Heads outside of the database that the chain agrees with.
    pub heads: u64,
    /// When the last of them was written down.
    pub last_head_at: Option<DateTime<Utc>>,
    /// The first wrong place, when there is one.
    pub wrong: Option<AuditWrong>,
    /// Why it could not be carried out to its end.
    pub failure: Option<String>,
    /// What it does not prove, whatever it found.
    pub cannot_prove: Vec<String>,
}

/// How a verification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditCheckState {
    /// It goes on.
    Running,
    /// Nothing is wrong.
    Intact,
    /// Something is not as it was written.
    Tampered,
    /// It could not be carried out.
    Failed,
}

/// A wrong place of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditWrong {
    /// What is wrong, and where, in words.
    pub message: String,
    /// The link.
    pub link: Option<i64>,
    /// When the link was made, as far as that can be believed.
    pub at: Option<DateTime<Utc>>,
    /// `audit records` or `delivery attempts`, when it is about rows.
    pub rows: Option<String>,
    /// Place of the first row in question.
    pub first_seq: Option<i64>,
    /// Place of the last row in question.
    pub last_seq: Option<i64>,
}
