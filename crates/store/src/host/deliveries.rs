//! Deliveries: what became of each event at each plugin.
//!
//! An attempt that ended is one row that is appended and never changed: the record of the dispatch. Beside it there is a
//! row only for a delivery that is still open. So an event that was settled at its first attempt costs one row.

use std::borrow::Cow;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{JournalEntry, Seq};
use crate::StoreError;

/// Where a delivery (one event to one plugin) stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// Sent, and not yet known to be handled.
    Sent,
    /// Handled.
    Settled,
    /// Failed (or to be sent again for an operator), and waiting for its next attempt.
    Retrying,
    /// Given up; kept for the operator.
    Dead,
    /// Waits behind a failing event of its project, because the plugin asked for strict order.
    Held,
}

/// How an event went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// Over the channel.
    Channel,
    /// As `POST /_events`.
    Http,
}

impl Via {
    /// The word for it: `channel` or `http`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Via::Channel => "channel",
            Via::Http => "http",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptResult {
    /// The event was handled.
    Settled,
    /// It was not, and will be tried again.
    Failed,
    /// It was not, and was given up.
    Dead,
}

/// One attempt to deliver one event to one plugin, after it ended. Appended and never changed: this is the audit trail's
/// record of the dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Place among all attempts, in the order in which they were written; 0 before it is written.
    pub id: i64,
    /// Name of the plugin.
    pub plugin: String,
    /// Place of the event in the journal.
    pub seq: Seq,
    /// Id of the event.
    pub event_id: String,
    /// Type of the event.
    pub event_type: String,
    /// Which attempt of its delivery, counted from 1.
    pub attempt: u32,
    /// How it went over.
    pub via: Via,
    /// How it ended.
    pub result: AttemptResult,
    /// What the plugin answered, or why it failed.
    pub answer: Option<Cow<'static, str>>,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Milliseconds from sending to the proof that it was handled.
    pub latency_ms: Option<i64>,
}

/// One event to one plugin: where it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Name of the plugin.
    pub plugin: String,
    /// Place of the event in the journal.
    pub seq: Seq,
    /// Id of the event.
    pub event_id: String,
    /// Type of the event.
    pub event_type: String,
    /// Project of the event; known while the delivery is open.
    pub project_id: Option<i32>,
    /// Where the delivery stands.
    pub state: DeliveryState,
    /// Attempts that ended so far.
    pub attempts: u32,
    /// Failed attempts since the event was first sent, or since an operator had it sent again. They set the next wait.
    pub failures: u32,
    /// Those among them that ended with a crash of the plugin while this event alone was in flight.
    pub crashes: u32,
    /// How it went over last; `None` before its first attempt.
    pub via: Option<Via>,
    /// What the plugin answered last, or why the last attempt failed.
    pub outcome: Option<Cow<'static, str>>,
    /// When it was sent last.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the last attempt ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it is sent again, while it is [`DeliveryState::Retrying`].
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Milliseconds from sending to the proof that it was handled, for a settled one.
    pub latency_ms: Option<i64>,
}

/// A change to the open deliveries of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenChange {
    /// Writes an open delivery, replacing the one of its event. Never [`DeliveryState::Settled`].
    Put(Box<DeliveryRecord>),
    /// The delivery of this event is no longer open.
    Clear(Seq),
}

/// How a cursor moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorMove {
    /// On to this place; a cursor that is further already stays.
    On(Seq),
    /// To this place, also back: everything after it is delivered again.
    To(Seq),
}

/// What happened to a plugin's deliveries, written in one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryNews {
    /// Attempts that ended, in order.
    pub attempts: Vec<AttemptRecord>,
    /// Changes to the open deliveries, in order.
    pub open: Vec<OpenChange>,
    /// Where the cursor goes.
    pub cursor: Option<CursorMove>,
}

/// What is known of one event at one plugin before it is (perhaps) sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryHistory {
    /// Place of the event in the journal.
    pub seq: Seq,
    /// Attempts that ended so far.
    pub attempts: u32,
    /// Where its delivery stands, if it is open.
    pub open: Option<DeliveryState>,
}

/// An open delivery with its event.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenDelivery {
    /// Where it stands.
    pub record: DeliveryRecord,
    /// Its event; `None` when retention has dropped it.
    pub event: Option<JournalEntry>,
}

/// Which deliveries of a plugin an operator means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// That of one event.
    Event(Seq),
    /// All dead letters.
    AllDead,
}

/// How many deliveries of a plugin are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenCounts {
    /// Waiting for their next attempt.
    pub retrying: u64,
    /// Given up.
    pub dead: u64,
    /// Waiting behind a failing event of their project.
    pub held: u64,
    /// When the journal took the oldest event that is retried or held; `None` when there is none.
    pub oldest_published_at: Option<DateTime<Utc>>,
}

/// Why nothing is sent to a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseRecord {
    /// Name of the plugin.
    pub plugin: String,
    /// Why.
    pub reason: String,
    /// Who paused it: an operator, or `host` when it failed too often.
    pub paused_by: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Hash of the program that failed too often. Another program is tried at once.
    pub hash: Option<String>,
}

/// Narrows down a look at deliveries; whatever is `None` does not narrow.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only to this plugin.
    pub plugin: Option<String>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only of this event.
    pub seq: Option<Seq>,
    /// Only of events after this place.
    pub after: Seq,
    /// At most this many.
    pub limit: usize,
}

/// Narrows down a look at attempts; whatever is `None` does not narrow.
#[derive(Debug, Clone, Default)]
pub struct AttemptFilter {
    /// Only to this plugin.
    pub plugin: Option<String>,
    /// Only of this event.
    pub seq: Option<Seq>,
    /// Only with this result.
    pub result: Option<AttemptResult>,
    /// Ended not before this time.
    pub since: Option<DateTime<Utc>>,
    /// Ended before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only those behind this one in the order of the page: its end and its id.
    pub after: Option<(DateTime<Utc>, i64)>,
    /// At most this many.
    pub limit: usize,
}

/// Deliveries, and how far each plugin is.
///
/// Every write is durable when its future resolves.
#[async_trait]
pub trait DeliveryStore: Send + Sync + 'static {
    /// The place up to which each event is settled, given up, not for the plugin, or has an open delivery of its own;
    /// `None` if the plugin has none yet.
    async fn cursor(&self, plugin: &str) -> Result<Option<Seq>, StoreError>;

    /// Appends attempts, changes open deliveries and moves the cursor, in one commit. The plugin's name in the records is
    /// not looked at: all are of `plugin`.
    async fn record_deliveries(&self, plugin: &str, news: DeliveryNews) -> Result<(), StoreError>;

    /// What is known of the plugin's events after `after` and up to `up_to`, in order; nothing of those that were never
    /// attempted and are not open.
    async fn delivery_history(
        &self,
        plugin: &str,
        after: Seq,
        up_to: Seq,
    ) -> Result<Vec<DeliveryHistory>, StoreError>;

    /// Deliveries that are retrying, those due soonest first, at most `limit` and at most [`super::MAX_PAGE_BYTES`] of
    /// events, one at least. Only an empty page says that there is none.
    async fn retries(&self, plugin: &str, limit: usize) -> Result<Vec<OpenDelivery>, StoreError>;

    /// Deliveries of events of one project (`None`: of no project) that are retrying or held, oldest event first, bounded
    /// as [`DeliveryStore::retries`].
    async fn retries_of_project(
        &self,
        plugin: &str,
        project_id: Option<i32>,
        limit: usize,
    ) -> Result<Vec<OpenDelivery>, StoreError>;

    /// The projects (`None`: no project) that have retrying or held deliveries, at most `limit`.
    async fn retrying_projects(&self, plugin: &str, limit: usize) -> Result<Vec<Option<i32>>, StoreError>;

    /// Held deliveries become retrying ones that are due at `at`. Returns how many.
    async fn release_held(&self, plugin: &str, at: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Makes deliveries due at `at`, as if they had not failed before: a dead letter, a retrying one, or one that was settled,
    /// as long as the journal has the event. Returns how many.
    async fn redeliver(&self, plugin: &str, which: Which, at: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Closes deliveries without another attempt: a dead letter, or one that is retrying or held. Returns how many.
    async fn discard(&self, plugin: &str, which: Which) -> Result<u64, StoreError>;

    /// How many deliveries of a plugin are open.
    async fn open_counts(&self, plugin: &str) -> Result<OpenCounts, StoreError>;

    /// Deliveries, by event and then by plugin. Every delivery of the page's last event is there, also beyond the limit,
    /// so that the next page can begin after it.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError>;

    /// Attempts, by the time at which they ended and then by id.
    async fn attempts(&self, filter: AttemptFilter) -> Result<Vec<AttemptRecord>, StoreError>;

    /// All pauses.
    async fn pauses(&self) -> Result<Vec<PauseRecord>, StoreError>;

    /// Writes a pause, replacing that of its plugin.
    async fn put_pause(&self, pause: PauseRecord) -> Result<(), StoreError>;

    /// Lifts a pause. Returns whether there was one.
    async fn lift_pause(&self, plugin: &str) -> Result<bool, StoreError>;
}
