//! The journal: every event that was published, in the order of the commits.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
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

/// The events that were published.
///
/// Every write is durable when its future resolves.
#[async_trait]
pub trait JournalStore: Send + Sync + 'static {
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
}

/// An event in the form in which the journal holds it, made before the writer's turn. Each engine writes it.
pub(crate) struct Encoded {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) project_id: Option<i32>,
    pub(crate) json: String,
}

impl Encoded {
    /// Encodes an event. The caller has checked it (`PluginEvent::check`).
    pub(crate) fn new(event: &PluginEvent) -> Result<Self, StoreError> {
        let json = serde_json::to_string(event)
            .map_err(|e| StoreError::Database { action: "encode an event", reason: e.to_string() })?;
        Ok(Self {
            id: event.id.clone(),
            event_type: event.event_type.clone(),
            project_id: event.project_id,
            json,
        })
    }
}

impl JournalEntry {
    /// An entry from what the journal holds.
    pub(crate) fn decode(seq: Seq, json: String, published_at: DateTime<Utc>) -> Result<Self, StoreError> {
        let event = serde_json::from_str(&json).map_err(|e| StoreError::Database {
            action: "read an event of the journal",
            reason: format!("the event at {seq} is damaged: {e}"),
        })?;
        Ok(Self { seq, event, json: json.into(), published_at })
    }
}
