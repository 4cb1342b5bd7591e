//! Retries beside the line: when a failed event is tried again, and the soonest of them in memory.
//!
//! Each retry has a row in the store, which holds it; so there may be any number of them. Only the soonest are here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use temps_protocol::limits::MAX_EVENT_BYTES;
use temps_store::{MAX_PAGE_BYTES, OpenDelivery, Seq};

use super::journal::Entry;
use super::line::{Item, Now};
use super::outcome::Tries;

/// Waits after a failed attempt. After the last one the event is a dead letter.
const WAITS: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
];

/// Share of a wait that jitter may add, so that events that failed together do not come back together.
const JITTER_SHARE: f64 = 0.2;

/// Retries that are kept in memory.
pub(super) const IN_MEMORY: usize = 512;

/// Bytes of their JSON.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Time between two looks into the store that bring nothing new.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The wait after so many failures in a row; `None` when the event is to be given up.
pub(super) fn wait_after(failures: u32, jitter: f64) -> Option<Duration> {
    let wait = WAITS.get((failures as usize).checked_sub(1)?)?;
    Some(wait.mul_f64(1.0 + JITTER_SHARE * jitter.clamp(0.0, 1.0)))
}

/// An event that is sent again.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub(super) item: Item,
    /// When it was sent, if its ack did not come in time and may still come over the same channel.
    pub(super) sent_at: Option<DateTime<Utc>>,
}

/// The soonest retries.
#[derive(Debug)]
pub(super) struct Retries {
    soonest: BTreeMap<(Instant, Seq), Retry>,
    bytes: usize,
    /// Whether the store may have further ones, and when it is looked at the earliest.
    more: Option<Option<Instant>>,
}

impl Retries {
    /// Nothing is known of what the store has.
    pub(super) fn unread() -> Self {
        Self { soonest: BTreeMap::new(), bytes: 0, more: Some(None) }
    }

    /// Whether the store is to be asked.
    pub(super) fn wants_more(&self, now: Instant) -> bool {
        self.soonest.is_empty() && self.more.is_some_and(|at| at.is_none_or(|at| at <= now))
    }

    /// When the next one is due, or the store is to be asked again.
    pub(super) fn next_due_at(&self) -> Option<Instant> {
        let soonest = self.soonest.keys().next().map(|(due, _)| *due);
        soonest.or(self.more.flatten())
    }

    /// The first that is due and that `may` go.
    pub(super) fn next_due(&self, now: Instant, may: impl Fn(&Item) -> bool) -> Option<&Retry> {
        self.soonest.range(..=(now, Seq::MAX)).map(|(_, retry)| retry).find(|retry| may(&retry.item))
    }

    /// All that are in memory.
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.soonest.values().map(|retry| &retry.item)
    }

    /// Adds one; if there are too many, those due last stay in the store only. So does one behind which the store may have
    /// others that are due before it.
    pub(super) fn push(&mut self, due: Instant, retry: Retry) {
        let last = self.soonest.keys().next_back().map(|(due, _)| *due);
        if self.more.is_some() && last.is_none_or(|last| due > last) {
            return;
        }
        self.bytes += retry.item.entry.json.len();
        self.soonest.insert((due, retry.item.entry.seq), retry);
        while self.soonest.len() > IN_MEMORY || self.bytes > MAX_BYTES && self.soonest.len() > 1 {
            let Some((_, dropped)) = self.soonest.pop_last() else { return };
            self.bytes -= dropped.item.entry.json.len();
            self.more = Some(None);
        }
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Retry> {
        self.remove_where(|retry| retry.item.entry.seq == seq)
    }

    /// Takes out the one with this event id, if its ack did not come in time.
    pub(super) fn remove_timed_out(&mut self, id: &str) -> Option<Retry> {
        self.remove_where(|retry| retry.sent_at.is_some() && retry.item.entry.id == id)
    }

    fn remove_where(&mut self, wanted: impl Fn(&Retry) -> bool) -> Option<Retry> {
        let key = self.soonest.iter().find(|(_, retry)| wanted(retry)).map(|(key, _)| *key)?;
        let retry = self.soonest.remove(&key)?;
        self.bytes -= retry.item.entry.json.len();
        Some(retry)
    }

    /// No ack will come any more for what was not acked in time.
    pub(super) fn forget_time_outs(&mut self) {
        self.soonest.values_mut().for_each(|retry| retry.sent_at = None);
    }

    /// Takes the page of the soonest, each with whether it is in flight. Returns the places of those whose event is gone.
    pub(super) fn refill(&mut self, page: Vec<(OpenDelivery, bool)>, now: Now) -> Vec<Seq> {
        let bytes: usize = page.iter().filter_map(|(open, _)| Some(open.event.as_ref()?.json.len())).sum();
        let full = page.len() >= IN_MEMORY || bytes + MAX_EVENT_BYTES > MAX_PAGE_BYTES;
        self.more = None;
        let mut lost = Vec::new();
        let mut news = false;
        for (open, _) in page.into_iter().filter(|(_, in_flight)| !in_flight) {
            match Self::read(open, now) {
                Ok((due, retry)) => {
                    news = true;
                    self.push(due, retry);
                }
                Err(seq) => lost.push(seq),
            }
        }
        if full {
            self.more = Some((!news).then(|| now.instant + LOOK_AGAIN));
        }
        lost
    }

    /// A row as a retry, and when it is due.
    pub(super) fn read(open: OpenDelivery, now: Now) -> Result<(Instant, Retry), Seq> {
        let OpenDelivery { record, event } = open;
        let entry: Entry = event.ok_or(record.seq)?.into();
        let due = record.next_attempt_at.map_or(now.instant, |at| now.instant_of(at));
        let tries = Tries {
            attempts: record.attempts,
            failures: record.failures,
            crashes: record.crashes,
            row: true,
            suspect: false,
        };
        Ok((due, Retry { item: Item { entry: Arc::new(entry), tries }, sent_at: None }))
    }
}
