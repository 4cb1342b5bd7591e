//! Events as REST takes and gives them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// An event of the journal: the envelope that plugins get, and its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Place in the journal; it grows with each event.
    pub seq: i64,
    /// Identity of the event.
    pub id: String,
    /// What happened, for example `deployment.succeeded`.
    pub event_type: String,
    /// When it happened.
    pub timestamp: DateTime<Utc>,
    /// The project that it concerns, if any.
    pub project_id: Option<i32>,
    /// The payload.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
    /// When the journal took it.
    pub published_at: DateTime<Utc>,
}

/// An event to be published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    /// Identity of the event, best a UUID; made when left out. Publishing twice with one id is publishing once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What happened: dotted words in lower case.
    pub event_type: String,
    /// When it happened; now when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<DateTime<Utc>>,
    /// The project that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<i32>,
    /// The payload, an object; empty when left out.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

/// What became of a publish. Status 201 for a new event, 200 for one that was there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedEvent {
    /// Identity of the event.
    pub id: String,
    /// Place in the journal.
    pub seq: i64,
    /// Whether an event with this id was there already; nothing was written then.
    pub duplicate: bool,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Oldest first, only events after this `seq`; newest first when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Only this type, or a pattern like `deployment.*`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Most entries wanted, 1 to 500; 50 when not given.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Where a stream of events begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StreamQuery {
    /// Events after this `seq`; only new ones when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Only this type, or a pattern like `deployment.*`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
}
