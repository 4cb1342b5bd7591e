//! Deliveries of events to plugins as REST takes and gives them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Sent, and not yet known to be handled.
    Sent,
    /// Handled.
    Settled,
    /// Failed (or to be sent again for an operator), and waiting for its next attempt.
    Retrying,
    /// Given up.
    Dead,
    /// Waits behind a failing event of its project, because the plugin asked for strict order.
    Held,
}

/// One event to one plugin: where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// Name of the plugin.
    pub plugin: String,
    /// Place of the event in the journal.
    pub seq: i64,
    /// Identity of the event.
    pub event_id: String,
    /// Type of the event.
    pub event_type: String,
    /// Where the delivery stands.
    pub state: DeliveryStatus,
    /// Attempts that ended so far.
    pub attempts: u32,
    /// How it went over last: `channel` or `http`; `null` before the first attempt.
    pub via: Option<String>,
    /// What the plugin answered last, or why the last attempt failed.
    pub outcome: Option<String>,
    /// When it was sent last.
    pub sent_at: Option<DateTime<Utc>>,
    /// When the last attempt ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it is sent again, while it is retrying.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Milliseconds from sending to the proof that it was handled.
    pub latency_ms: Option<i64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptResult {
    /// The event was handled.
    Settled,
    /// It was not, and is tried again.
    Failed,
    /// It was not, and was given up.
    Dead,
}

/// One attempt to deliver one event to one plugin, after it ended. Recorded once and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Place among all attempts.
    pub id: i64,
    /// Name of the plugin.
    pub plugin: String,
    /// Place of the event in the journal.
    pub seq: i64,
    /// Identity of the event.
    pub event_id: String,
    /// Type of the event.
    pub event_type: String,
    /// Which attempt of its delivery, counted from 1.
    pub attempt: u32,
    /// How it went over: `channel` or `http`.
    pub via: String,
    /// How it ended.
    pub result: AttemptResult,
    /// What the plugin answered, or why the attempt failed.
    pub answer: Option<String>,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Milliseconds from sending to the proof that it was handled.
    pub latency_ms: Option<i64>,
}

/// One event to one plugin, with every attempt that is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryHistory {
    /// Where it stands; `null` when it is neither open nor settled, because it was discarded.
    pub delivery: Option<Delivery>,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

/// Which deliveries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeliveryQuery {
    /// Only to this plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Only in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryStatus>,
    /// Only of this event: its id, or its `seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Most entries wanted, 1 to 500; 50 when not given.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which attempts are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AttemptQuery {
    /// Only to this plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Only of this event: its id, or its `seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Only with this result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<AttemptResult>,
    /// Ended not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Ended before this time.
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

/// How many deliveries were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryChange {
    /// Name of the plugin.
    pub plugin: String,
    /// How many; for a replay, the events of the journal that come again, those among them that the plugin wants.
    pub changed: u64,
}

/// Why deliveries are to be paused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// A reason for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a replay begins: at a place or at a time, one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// With the event at this place in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_seq: Option<i64>,
    /// With the first event that the journal took at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

/// How far a plugin is with its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryProgress {
    /// The place in the journal up to which each event is settled, given up, not for the plugin, or retried.
    pub cursor: i64,
    /// Events of the journal behind that place, whether the plugin wants them or not.
    pub lag_events: u64,
    /// Age in seconds of the oldest event that is not settled; dead letters apart.
    pub lag_seconds: u64,
    /// Events that were sent and are not settled.
    pub unsettled: u64,
    /// Deliveries that wait for their next attempt.
    pub retrying: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries that wait behind a failing event of their project.
    pub held: u64,
    /// When the plugin last handled an event, since the daemon started.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed, if none went well since.
    pub failing: Option<String>,
    /// Why nothing is sent; `null` while deliveries are not paused.
    pub paused: Option<Pause>,
}

/// A pause of a plugin's deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// Why.
    pub reason: String,
    /// Who paused them; `host` when they failed too often.
    pub paused_by: String,
    /// Since when.
    pub since: DateTime<Utc>,
}
