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
