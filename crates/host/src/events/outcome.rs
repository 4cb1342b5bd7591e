//! What became of an event, as it is written: the attempt that ended, and what is open after it.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use temps_store::{AttemptRecord, AttemptResult, DeliveryRecord, DeliveryState, OpenChange, Seq, Via};

use super::line::Item;

/// How often an event was tried before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tries {
    /// Attempts that ended.
    pub(super) attempts: u32,
    /// Failed ones since it was first sent, or since an operator had it sent again.
    pub(super) failures: u32,
    /// Those among them that ended with a crash while it was alone in flight.
    pub(super) crashes: u32,
    /// Whether the store has an open delivery of it.
    pub(super) row: bool,
    /// Whether it was one of several that were in flight at a crash.
    pub(super) suspect: bool,
}

impl Tries {
    /// Whether it must be the only one in flight.
    pub(super) fn alone(&self) -> bool {
        self.crashes > 0 || self.suspect
    }
}

/// What is to be written together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) attempt: Option<AttemptRecord>,
    pub(super) open: Option<OpenChange>,
}

impl Outcome {
    /// The event was handled.
    pub(super) fn settled(
        item: &Item,
        via: Via,
        sent_at: DateTime<Utc>,
        ended_at: DateTime<Utc>,
        latency: Duration,
        answer: Cow<'static, str>,
        has_row: bool,
    ) -> Self {
        let mut attempt = attempt(item, item.tries.attempts + 1, via, sent_at, ended_at);
        attempt.answer = Some(answer);
        attempt.latency_ms = Some(i64::try_from(latency.as_millis()).unwrap_or(i64::MAX));
        Self { attempt: Some(attempt), open: has_row.then_some(OpenChange::Clear(item.entry.seq)) }
    }

    /// The event was handled, although its attempt counts as failed already.
    pub(super) fn settled_late(
        item: &Item,
        sent_at: DateTime<Utc>,
        ended_at: DateTime<Utc>,
        latency: TimeDelta,
        answer: Cow<'static, str>,
    ) -> Self {
        let mut attempt = attempt(item, item.tries.attempts, Via::Channel, sent_at, ended_at);
        attempt.answer = Some(answer);
        attempt.latency_ms = Some(latency.num_milliseconds());
        Self { attempt: Some(attempt), open: Some(OpenChange::Clear(item.entry.seq)) }
    }

    /// The attempt failed; the event is tried again at `next`, or given up. The item counts this attempt already.
    pub(super) fn failed(
        item: &Item,
        via: Via,
        sent_at: DateTime<Utc>,
        ended_at: DateTime<Utc>,
        reason: String,
        next: Option<DateTime<Utc>>,
    ) -> Self {
        let reason: Cow<'static, str> = reason.into();
        let mut attempt = attempt(item, item.tries.attempts, via, sent_at, ended_at);
        attempt.answer = Some(reason.clone());
        let state = match next {
            Some(_) => DeliveryState::Retrying,
            None => DeliveryState::Dead,
        };
        attempt.result = if next.is_some() { AttemptResult::Failed } else { AttemptResult::Dead };
        let mut open = delivery(item, state);
        open.via = Some(via);
        open.outcome = Some(reason);
        open.sent_at = Some(sent_at);
        open.ended_at = Some(ended_at);
        open.next_attempt_at = next;
        Self { attempt: Some(attempt), open: Some(OpenChange::Put(open)) }
    }

    /// The event was sent a while ago, and nothing is known yet.
    pub(super) fn sent(item: &Item, via: Via, sent_at: DateTime<Utc>, what: &'static str) -> Self {
        let mut open = delivery(item, DeliveryState::Sent);
        open.via = Some(via);
        open.outcome = Some(what.into());
        open.sent_at = Some(sent_at);
        Self { attempt: None, open: Some(OpenChange::Put(open)) }
    }

    /// The event waits behind another one of its project.
    pub(super) fn held(item: &Item) -> Self {
        let mut open = delivery(item, DeliveryState::Held);
        open.outcome = Some("waits behind a failing event of its project".into());
        Self { attempt: None, open: Some(OpenChange::Put(open)) }
    }

    /// The event waits no longer behind another one.
    pub(super) fn released(item: &Item, at: DateTime<Utc>) -> Self {
        let mut open = delivery(item, DeliveryState::Retrying);
        open.next_attempt_at = Some(at);
        Self { attempt: None, open: Some(OpenChange::Put(open)) }
    }

    /// The event is not to be sent (again), and is not open.
    pub(super) fn cleared(seq: Seq) -> Self {
        Self { attempt: None, open: Some(OpenChange::Clear(seq)) }
    }
}

/// Plugin names are filled in where the records are written.
fn attempt(
    item: &Item,
    number: u32,
    via: Via,
    sent_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
) -> AttemptRecord {
    AttemptRecord {
        id: 0,
        plugin: String::new(),
        seq: item.entry.seq,
        event_id: item.entry.id.clone(),
        event_type: item.entry.event_type.clone(),
        attempt: number,
        via,
        result: AttemptResult::Settled,
        answer: None,
        sent_at,
        ended_at,
        latency_ms: None,
    }
}

fn delivery(item: &Item, state: DeliveryState) -> Box<DeliveryRecord> {
    Box::new(DeliveryRecord {
        plugin: String::new(),
        seq: item.entry.seq,
        event_id: item.entry.id.clone(),
        event_type: item.entry.event_type.clone(),
        project_id: item.entry.project_id,
        state,
        attempts: item.tries.attempts,
        failures: item.tries.failures,
        crashes: item.tries.crashes,
        via: None,
        outcome: None,
        sent_at: None,
        ended_at: None,
        next_attempt_at: None,
        latency_ms: None,
    })
}
