//! The audit trail: what happened, appended and never changed.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::StoreError;

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Place in the trail; 0 before it is written.
    pub seq: i64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What happened, for example `plugin.started`.
    pub kind: String,
    /// The plugin that it concerns, if any.
    pub plugin: Option<String>,
    /// Who did it: `host`, a plugin, or an operator's token name.
    pub actor: String,
    /// Everything else, an object. Never a secret.
    pub detail: Value,
}

/// Narrows down a look into the audit trail; whatever is `None` does not narrow.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only this plugin.
    pub plugin: Option<String>,
    /// Only this kind, or with a trailing `.*` all kinds below it.
    pub kind: Option<String>,
    /// Not before this time.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only records after this place.
    pub after_seq: Option<i64>,
    /// Only records before this place (for newest-first paging).
    pub before_seq: Option<i64>,
    /// At most this many.
    pub limit: usize,
    /// Newest first instead of oldest first.
    pub newest_first: bool,
}

/// The audit trail.
///
/// Every write is durable when its future resolves.
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Appends to the audit trail.
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreError>;

    /// Looks into the audit trail.
    async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, StoreError>;
}
