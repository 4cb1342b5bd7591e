//! The audit trail: what happened, appended and never changed.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{ChainPage, Link, Seal};
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
    /// Only what this actor did.
    pub actor: Option<String>,
    /// Only what is about this event: whose detail has it as `event_id`.
    pub event_id: Option<String>,
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

    /// From now on every commit that adds audit records or delivery attempts ends with a link of the chain, in the same
    /// transaction. What is there already and in no link stays outside of the chain. A second seal is not taken.
    async fn seal_audit(&self, seal: Arc<dyn Seal>) -> Result<(), StoreError>;

    /// Name of the node whose chain this is.
    fn audit_node(&self) -> &str;

    /// The newest link of this node's chain, or the one with a number.
    async fn audit_link(&self, number: Option<i64>) -> Result<Option<Link>, StoreError>;

    /// The links of this node's chain after link `after` (-1 for the beginning), at most `limit`, with what lies in their
    /// ranges now, all in one snapshot. A page may be shorter than its limit; only one whose `after` is there is the end.
    async fn audit_chain(
        &self,
        seal: Arc<dyn Seal>,
        after: i64,
        limit: usize,
    ) -> Result<ChainPage, StoreError>;
}
