//! What is told of the deliveries to one plugin: records for the store, counts for metrics, a status for whoever asks.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use temps_store::{AttemptRecord, AttemptResult, CursorMove, DeliveryNews, PauseRecord, Seq, failpoint};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::delivery::Tools;
use super::line::Line;
use super::recorder::Note;
use crate::metrics::Metrics;

/// Outcomes in one note.
const NOTE_OUTCOMES: usize = 1_000;

/// How long an order waits for the records before it. Longer means that the store refuses.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How far a plugin's deliveries are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// The place in the journal up to which each event is settled, given up, was not for the plugin, or is retried beside
    /// the line.
    pub cursor: Seq,
    /// The place in the journal that was looked at last.
    pub place: Seq,
    /// Events that wait in memory for their turn.
    pub waiting: usize,
    /// Events that were sent and are not settled.
    pub unsettled: usize,
    /// When the journal took the oldest event that is in memory and not settled.
    pub oldest: Option<DateTime<Utc>>,
    /// Events settled since the host started.
    pub settled: u64,
    /// Attempts that failed since the host started.
    pub failed: u64,
    /// Events given up since the host started.
    pub dead: u64,
    /// When the plugin last got an event for certain.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed, if none went well since.
    pub failing: Option<String>,
    /// Why nothing is sent, if deliveries are paused.
    pub paused: Option<PauseRecord>,
}

/// The account of one plugin's deliveries.
pub(super) struct Account {
    name: Arc<str>,
    notes: mpsc::Sender<Note>,
    metrics: Metrics,
    status: watch::Sender<DeliveryStatus>,
}

impl Account {
    pub(super) fn new(name: Arc<str>, tools: &Tools, status: watch::Sender<DeliveryStatus>) -> Self {
        Self { name, notes: tools.notes.clone(), metrics: tools.metrics.clone(), status }
    }

    /// Hands outcomes and the cursor to the recorder, and counts.
    pub(super) async fn note(&self, line: &mut Line) {
        let cursor = line.cursor();
        let outcomes = line.outcomes();
        outcomes
            .iter()
            .filter_map(|outcome| outcome.attempt.as_ref())
            .for_each(|attempt| self.count(attempt));
        if outcomes.is_empty() && self.status.borrow().cursor == cursor {
            return;
        }
        let mut outcomes = outcomes.into_iter().peekable();
        loop {
            let mut news = DeliveryNews::default();
            for outcome in outcomes.by_ref().take(NOTE_OUTCOMES) {
                news.attempts.extend(outcome.attempt);
                news.open.extend(outcome.open);
            }
            // Notes may be written apart, and the cursor must never be ahead of its records.
            let last = outcomes.peek().is_none();
            news.cursor = last.then_some(CursorMove::On(cursor));
            self.send(news, None).await;
            failpoint!("record.queued");
            if last {
                return;
            }
        }
    }

    /// Moves the cursor, also back.
    pub(super) async fn move_cursor(&self, to: Seq) {
        self.send(DeliveryNews { cursor: Some(CursorMove::To(to)), ..DeliveryNews::default() }, None).await;
    }

    /// Waits until everything that was noted is in the store. `false` when the store refuses.
    pub(super) async fn flush(&self) -> bool {
        let (done, written) = oneshot::channel();
        self.send(DeliveryNews::default(), Some(done)).await;
        timeout(FLUSH_TIMEOUT, written).await.is_ok_and(|written| written.is_ok())
    }

    async fn send(&self, news: DeliveryNews, written: Option<oneshot::Sender<()>>) {
        let note = Note { plugin: self.name.clone(), news, written };
        // The recorder ends only after the deliveries.
        let _ = self.notes.send(note).await;
    }

    fn count(&self, attempt: &AttemptRecord) {
        failpoint!("delivery.retry", if attempt.result == AttemptResult::Failed);
        failpoint!("delivery.dead", if attempt.result == AttemptResult::Dead);
        let kind = match attempt.result {
            AttemptResult::Settled => "settled",
            AttemptResult::Dead => "dead",
            AttemptResult::Failed => "failed",
        };
        self.metrics.deliveries.get_or_create(&Metrics::of_and(&self.name, kind)).inc();
        if let Some(latency) = attempt.latency_ms {
            let seconds = latency as f64 / 1000.0;
            self.metrics.delivery_seconds.get_or_create(&Metrics::of(&self.name)).observe(seconds);
        }
        let reason = attempt.answer.as_deref().unwrap_or_default();
        if attempt.result == AttemptResult::Dead {
            tracing::warn!(plugin = %self.name, event = attempt.event_id, reason, "an event was given up");
        }
        self.status.send_modify(|status| match attempt.result {
            AttemptResult::Settled => {
                status.settled += 1;
                status.last_delivered_at = Some(attempt.ended_at);
                status.failing = None;
            }
            AttemptResult::Dead | AttemptResult::Failed => {
                match attempt.result {
                    AttemptResult::Dead => status.dead += 1,
                    _ => status.failed += 1,
                }
                status.failing = Some(reason.to_owned());
            }
        });
    }

    /// An ack came that belongs to no event that was in hand.
    pub(super) fn count_stray_ack(&self) {
        self.metrics.delivery_stray_acks.get_or_create(&Metrics::of(&self.name)).inc();
    }

    /// Shows where the line stands.
    pub(super) fn show(&self, line: &Line, paused: Option<&PauseRecord>) {
        self.status.send_if_modified(|status| {
            let shown = (line.cursor(), line.place(), line.waiting(), line.unsettled(), line.oldest());
            let same = (status.cursor, status.place, status.waiting, status.unsettled, status.oldest)
                == shown
                && status.paused.as_ref() == paused;
            (status.cursor, status.place, status.waiting, status.unsettled, status.oldest) = shown;
            if !same {
                status.paused = paused.cloned();
            }
            !same
        });
    }
}
