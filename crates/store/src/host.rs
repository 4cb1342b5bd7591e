//! The door of the plugin host: journal, deliveries, plugin records, grants, inspections, audit trail, wire ids.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use temps_protocol::PluginEvent;
use tokio::sync::watch;

use crate::StoreError;

/// Place of an event in the journal. It grows with each commit and never goes back.
pub type Seq = i64;

/// Bytes of JSON in one page of the journal. A page is shorter than its limit when its events are large, so that a reader's
/// memory is bounded whatever was published; one event always fits.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// One event as the journal holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// Place in the journal.
    pub seq: Seq,
    /// The event.
    pub event: PluginEvent,
    /// The event's JSON as it goes over the wire, kept so that it is encoded once.
    pub json: std::sync::Arc<str>,
    /// When the journal took it.
    pub published_at: DateTime<Utc>,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Place of the event in the journal.
    pub seq: Seq,
    /// Whether an event with this id was there already; nothing was written then.
    pub duplicate: bool,
}

/// Where a delivery (one event to one plugin) stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// Sent, and not yet known to be handled.
    Sent,
    /// Handled.
    Settled,
    /// Failed, and waiting for its next attempt.
    Retrying,
    /// Given up; kept for the operator.
    Dead,
}

/// One event to one plugin, with its attempts. This is also the audit trail's record of the dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Name of the plugin.
    pub plugin: String,
    /// Place of the event in the journal.
    pub seq: Seq,
    /// Id of the event.
    pub event_id: String,
    /// Where the delivery stands.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// How it went over: `channel` or `http`.
    pub via: String,
    /// What the plugin answered last, or why the last attempt failed.
    pub outcome: Option<String>,
    /// When it was sent last.
    pub sent_at: Option<DateTime<Utc>>,
    /// When it was settled or given up.
    pub settled_at: Option<DateTime<Utc>>,
    /// Milliseconds from sending to the proof that it was handled.
    pub latency_ms: Option<i64>,
}

/// A plugin's name and the file that holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginRecord {
    /// Name of the plugin.
    pub name: String,
    /// The file or directory in the plugins directory that holds the name.
    pub file: String,
    /// SHA-256 of what was taken up last, in hexadecimal.
    pub hash: Option<String>,
    /// Manifest that was read last, as JSON.
    pub manifest: Option<Value>,
    /// Whether the operator lets it run.
    pub enabled: bool,
    /// When the name was first held.
    pub first_seen_at: DateTime<Utc>,
    /// Last event that was in the journal when the plugin was first taken up: deliveries begin after it.
    pub subscribed_from: Seq,
}

/// One permission that was given to a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    /// Name of the plugin.
    pub plugin: String,
    /// Kind of permission: `method`, `event`, `project`, `egress`, `public_path`, `limit`, `database`.
    pub kind: String,
    /// What exactly, for example `get_project`, `deployment.*`, `*`, `hooks.slack.com:443`, `memory_max=512M`.
    pub value: String,
    /// Who gave it: `default` for the default policy, otherwise the operator.
    pub granted_by: String,
    /// When it was given.
    pub granted_at: DateTime<Utc>,
}

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

/// How much is kept, and for how long. What is older or beyond the size goes, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The time that ages are counted from.
    pub now: DateTime<Utc>,
    /// Age after which an event goes, with its deliveries.
    pub journal_age: chrono::Duration,
    /// Bytes of events (as JSON) that are kept.
    pub journal_bytes: u64,
    /// Age after which an audit record goes.
    pub audit_age: chrono::Duration,
    /// Bytes of audit details (as JSON) that are kept.
    pub audit_bytes: u64,
}

impl Retention {
    /// The defaults: a week or 1 GiB of events, 30 days or 1 GiB of audit trail.
    #[must_use]
    pub fn standard(now: DateTime<Utc>) -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            now,
            journal_age: chrono::Duration::days(7),
            journal_bytes: GIB,
            audit_age: chrono::Duration::days(30),
            audit_bytes: GIB,
        }
    }
}

/// What retention dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events.
    pub events: u64,
    /// Events among them that some plugin that is let run had not settled: a reason for an alarm.
    pub unsettled: u64,
    /// Audit records.
    pub audit: u64,
}

/// What the plugin host keeps.
///
/// Every write is durable when its future resolves.
#[async_trait]
pub trait HostStore: Send + Sync + 'static {
    /// Writes events to the journal in one commit, in order. An id that is there already is not written again.
    async fn publish(&self, events: Vec<PluginEvent>) -> Result<Vec<Published>, StoreError>;

    /// The journal's last place, updated after each commit, whoever published.
    fn head(&self) -> watch::Receiver<Seq>;

    /// Events after `after`, oldest first, at most `limit` and at most [`MAX_PAGE_BYTES`]. Only an empty page is the end.
    async fn events_after(&self, after: Seq, limit: usize) -> Result<Vec<JournalEntry>, StoreError>;

    /// Events before `before`, newest first, at most `limit` and at most [`MAX_PAGE_BYTES`]. Only an empty page is the end.
    async fn events_before(&self, before: Seq, limit: usize) -> Result<Vec<JournalEntry>, StoreError>;

    /// One event by its id.
    async fn event(&self, id: &str) -> Result<Option<JournalEntry>, StoreError>;

    /// The place up to which a plugin's deliveries are all settled (or were not for it); `None` if it has none yet.
    async fn cursor(&self, plugin: &str) -> Result<Option<Seq>, StoreError>;

    /// Writes the state of deliveries and moves the plugin's cursor, in one commit.
    async fn record_deliveries(
        &self,
        plugin: &str,
        records: Vec<DeliveryRecord>,
        cursor: Option<Seq>,
    ) -> Result<(), StoreError>;

    /// Deliveries of a plugin (or of all) after a place, oldest first, at most `limit`, in `state` if given.
    ///
    /// For all plugins, every delivery of the page's last event is there, also beyond `limit`, so that the next page
    /// can begin after it.
    async fn deliveries(
        &self,
        plugin: Option<&str>,
        state: Option<DeliveryState>,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<DeliveryRecord>, StoreError>;

    /// All plugin records.
    async fn plugins(&self) -> Result<Vec<PluginRecord>, StoreError>;

    /// Writes a plugin record, replacing the one with its name.
    async fn put_plugin(&self, record: PluginRecord) -> Result<(), StoreError>;

    /// Grants of a plugin.
    async fn grants(&self, plugin: &str) -> Result<Vec<GrantRecord>, StoreError>;

    /// Adds grants; those that are there already stay as they are.
    async fn add_grants(&self, grants: Vec<GrantRecord>) -> Result<(), StoreError>;

    /// Takes a grant back. Returns whether it was there.
    async fn revoke_grant(&self, plugin: &str, kind: &str, value: &str) -> Result<bool, StoreError>;

    /// The manifest that an executable with this hash declared when it was inspected.
    async fn inspection(&self, hash: &str) -> Result<Option<Value>, StoreError>;

    /// Remembers the manifest that an executable with this hash declared.
    async fn put_inspection(&self, hash: &str, manifest: Value) -> Result<(), StoreError>;

    /// Appends to the audit trail.
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreError>;

    /// Looks into the audit trail.
    async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, StoreError>;

    /// The integer that stands on the wire for a platform's own id, made if there is none yet.
    async fn wire_id(&self, kind: &str, external_id: &str) -> Result<i32, StoreError>;

    /// The platform's own id behind an integer on the wire.
    async fn external_id(&self, kind: &str, wire_id: i32) -> Result<Option<String>, StoreError>;

    /// Drops what `retention` no longer keeps. It works in small commits, so publishes go on meanwhile.
    async fn prune(&self, retention: Retention) -> Result<Pruned, StoreError>;
}
