//! Deliveries: what became of each event at each plugin.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Seq;
use crate::StoreError;

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

/// Deliveries, and how far each plugin is.
///
/// Every write is durable when its future resolves.
#[async_trait]
pub trait DeliveryStore: Send + Sync + 'static {
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
}
