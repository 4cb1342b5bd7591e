//! What is told of the deliveries to one plugin: records for the store, counts for metrics, a status for whoever asks.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use temps_store::{DeliveryRecord, DeliveryState, Seq};
use tokio::sync::{mpsc, watch};

use super::delivery::Tools;
use super::line::Line;
use super::recorder::Note;
use crate::metrics::Metrics;

/// Records in one note.
const NOTE_RECORDS: usize = 1_000;

/// How far a plugin's deliveries are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// The place in the journal up to which everything is settled, given up, or was not for the plugin.
    pub cursor: Seq,
    /// The place in the journal that was looked at last.
    pub place: Seq,
    /// Events that wait in memory for their turn.
    pub waiting: usize,
    /// Events that were sent and are not settled.
    pub unsettled: usize,
    /// Events settled since the host started.
    pub settled: u64,
    /// Attempts that failed since the host started.
    pub failed: u64,
    /// Events given up since the host started.
    pub dead: u64,
    /// When the plugin last got an event for certain.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// Why the line stands, while an event is being retried.
    pub retrying: Option<String>,
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

    /// Hands records and the cursor to the recorder, and counts.
    pub(super) async fn note(&self, line: &Line, records: impl IntoIterator<Item = DeliveryRecord>) {
        let mut records = records.into_iter().inspect(|record| self.count(record)).peekable();
        let cursor = line.cursor();
        if records.peek().is_none() && self.status.borrow().cursor == cursor {
            return;
        }
        loop {
            let chunk: Vec<_> = records.by_ref().take(NOTE_RECORDS).collect();
            let last = records.peek().is_none();
            // Chunks may be written apart, and the cursor must never be ahead of its records.
            let up_to = chunk.last().filter(|_| !last).map_or(cursor, |record| record.seq.min(cursor));
            let note = Note { plugin: self.name.clone(), records: chunk, cursor: up_to };
            // The recorder ends only after the deliveries.
            let _ = self.notes.send(note).await;
            if last {
                return;
            }
        }
    }

    fn count(&self, record: &DeliveryRecord) {
        let kind = match record.state {
            DeliveryState::Sent => return,
            DeliveryState::Settled => "settled",
            DeliveryState::Dead => "dead",
            DeliveryState::Retrying => "failed",
        };
        self.metrics.deliveries.get_or_create(&Metrics::of_and(&self.name, kind)).inc();
        if let Some(latency) = record.latency_ms {
            let seconds = latency as f64 / 1000.0;
            self.metrics.delivery_seconds.get_or_create(&Metrics::of(&self.name)).observe(seconds);
        }
        if record.state == DeliveryState::Dead {
            let reason = record.outcome.as_deref().unwrap_or_default();
            tracing::warn!(plugin = %self.name, event = record.event_id, reason, "an event was given up");
        }
        self.status.send_modify(|status| {
            status.retrying = None;
            match record.state {
                DeliveryState::Settled => {
                    status.settled += 1;
                    status.last_delivered_at = record.settled_at;
                }
                DeliveryState::Dead => status.dead += 1,
                DeliveryState::Retrying | DeliveryState::Sent => {
                    status.failed += 1;
                    status.retrying.clone_from(&record.outcome);
                }
            }
        });
    }

    /// Shows where the line stands.
    pub(super) fn show(&self, line: &Line) {
        self.status.send_if_modified(|status| {
            let (cursor, place, waiting, unsettled) =
                (line.cursor(), line.place(), line.waiting(), line.unsettled());
            let same = (status.cursor, status.place, status.waiting, status.unsettled)
                == (cursor, place, waiting, unsettled);
            (status.cursor, status.place, status.waiting, status.unsettled) =
                (cursor, place, waiting, unsettled);
            !same
        });
    }
}
