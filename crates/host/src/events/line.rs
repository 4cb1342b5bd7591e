//! The line of one plugin: what waits to be sent, what was sent and is not settled, and what a crash means for it.
//!
//! It decides and does nothing: no clock, no socket, no store. The delivery asks it what to send next and tells it what
//! happened; it answers with the records to be written.
//!
//! After a crash nobody knows which of the unsettled events was to blame. So the first is sent alone, and has to be
//! survived before the next one goes out. Each time that went well the next group is twice as large, so a thousand
//! innocent events do not take an hour. A crash in a group blames nobody and begins with one again; a crash with a
//! single event in flight blames that one, and the third makes it a dead letter.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use temps_store::{DeliveryRecord, DeliveryState, Seq};

use super::journal::Entry;

/// Events that may stand in a line, waiting or unsettled. The journal keeps the others.
pub(super) const MAX_EVENTS: usize = 10_000;

/// Bytes of JSON that may stand in a line.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Events that are sent before their pong is awaited.
pub(super) const BATCH_EVENTS: usize = 512;

/// Bytes of JSON that are sent before their pong is awaited.
const BATCH_BYTES: usize = 1024 * 1024;

/// Crashes with one event in flight that make it a dead letter.
const MAX_CRASHES: u32 = 3;

/// Failed attempts after which an event is a dead letter and the line goes on.
const MAX_ATTEMPTS: u32 = 8;

/// Waits between attempts by `POST /_events`; the last one repeats.
const RETRY_WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];

/// How long a plugin may take to read what was sent before the delivery's record says that it waits for that.
const UNREAD_AFTER: Duration = Duration::from_secs(10);

/// The reason of a dead letter that crashed its plugin.
pub(super) const PLUGIN_CRASHED: &str = "plugin_crashed";

/// The two clocks at one moment: one for waiting, one for records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) utc: DateTime<Utc>,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), utc: Utc::now() }
    }
}

/// The events of one plugin from its cursor to the place that was looked at last.
#[derive(Debug)]
pub(super) struct Line {
    place: Seq,
    waiting: VecDeque<Waiting>,
    sent: VecDeque<Sent>,
    bytes: usize,
    careful: Option<Careful>,
    survive: Duration,
    /// Failed attempts of events that are not in the line yet, from an earlier life of the host.
    remembered: HashMap<Seq, Tries>,
}

/// How often an event was tried before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tries {
    /// Attempts that failed.
    pub(super) failed: u32,
    /// Those among them that ended with a crash.
    pub(super) crashed: u32,
}

#[derive(Debug)]
struct Waiting {
    entry: Arc<Entry>,
    tries: Tries,
}

#[derive(Debug)]
struct Sent {
    entry: Arc<Entry>,
    tries: Tries,
    at: Now,
    read_at: Option<Instant>,
    /// Whether a record says that it waits to be read.
    told: bool,
}

/// How events go out while one of them is suspected of having crashed the plugin.
#[derive(Debug, Clone, Copy)]
struct Careful {
    /// The last suspect.
    until: Seq,
    /// Events that go out together.
    group: usize,
}

impl Line {
    /// A line that begins after `cursor`. An event counts as handled when the plugin lived `survive` longer than it took to
    /// read it. `open` has the failed attempts of events after the cursor, as they were recorded.
    pub(super) fn new(cursor: Seq, survive: Duration, open: HashMap<Seq, Tries>) -> Self {
        let careful = open.keys().max().map(|&until| Careful { until, group: 1 });
        Self {
            place: cursor,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            bytes: 0,
            careful,
            survive,
            remembered: open,
        }
    }

    /// The place up to which the journal was looked at.
    pub(super) fn place(&self) -> Seq {
        self.place
    }

    /// The place up to which everything is settled, given up, or was not for this plugin.
    pub(super) fn cursor(&self) -> Seq {
        let sent = self.sent.front().map(|sent| sent.entry.seq);
        let waiting = self.waiting.front().map(|waiting| waiting.entry.seq);
        sent.or(waiting).map_or(self.place, |first| first - 1)
    }

    /// Events that were sent and are not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.sent.len()
    }

    /// Events that are in the line and not sent.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether another event may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() + self.sent.len() < MAX_EVENTS && self.bytes < MAX_BYTES
    }

    /// Takes note of the journal's next event, and takes it in if it is `wanted`.
    pub(super) fn take(&mut self, entry: &Arc<Entry>, wanted: bool) {
        self.place = entry.seq;
        let tries = self.remembered.remove(&entry.seq).unwrap_or_default();
        if wanted {
            self.bytes += entry.json.len();
            self.waiting.push_back(Waiting { entry: entry.clone(), tries });
        }
    }

    /// What is to be sent now, in order; from then on it counts as sent. Empty while something else must happen first.
    ///
    /// What `wants` no longer allows leaves the line without a trace: the plugin has never seen it, or it was revoked.
    pub(super) fn next_batch(&mut self, now: Now, wants: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let most = self.batch_size();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < most
            && let Some(next) = self.waiting.front()
        {
            if !wants(&next.entry) {
                self.bytes -= next.entry.json.len();
                self.waiting.pop_front();
                continue;
            }
            let suspect = next.tries.crashed > 0;
            let fits = bytes + next.entry.json.len() <= BATCH_BYTES;
            if !batch.is_empty() && (suspect || !fits) || suspect && !self.sent.is_empty() {
                break;
            }
            let Some(Waiting { entry, tries }) = self.waiting.pop_front() else { break };
            bytes += entry.json.len();
            batch.push(entry.clone());
            self.sent.push_back(Sent { entry, tries, at: now, read_at: None, told: false });
            if suspect {
                break;
            }
        }
        batch
    }

    fn batch_size(&self) -> usize {
        let unread = self.sent.back().is_some_and(|last| last.read_at.is_none());
        let suspect_out = self.sent.front().is_some_and(|first| first.tries.crashed > 0);
        match self.careful {
            _ if unread || suspect_out => 0,
            Some(_) if !self.sent.is_empty() => 0,
            Some(careful) => careful.group,
            None => BATCH_EVENTS,
        }
    }

    /// Everything that was sent has been read.
    pub(super) fn read(&mut self, now: Now) {
        for sent in self.sent.iter_mut().rev().take_while(|sent| sent.read_at.is_none()) {
            sent.read_at = Some(now.instant);
        }
    }

    /// When the next event will have been survived.
    fn next_settled_at(&self) -> Option<Instant> {
        Some(self.sent.front()?.read_at? + self.survive)
    }

    /// When something is due that only time brings: [`Line::settle`] or [`Line::tell_unread`].
    pub(super) fn next_due_at(&self) -> Option<Instant> {
        let last = self.sent.back().filter(|last| last.read_at.is_none() && !last.told);
        let unread = last.map(|last| last.at.instant + UNREAD_AFTER);
        self.next_settled_at().into_iter().chain(unread).min()
    }

    /// Records of what was sent a while ago and is still not read, each once.
    pub(super) fn tell_unread(&mut self, now: Now) -> Vec<DeliveryRecord> {
        let overdue = |sent: &Sent| {
            sent.read_at.is_none() && !sent.told && sent.at.instant + UNREAD_AFTER <= now.instant
        };
        let first = self.sent.partition_point(|sent| !overdue(sent));
        let told = self.sent.range_mut(first..).map(|sent| {
            sent.told = true;
            record(&sent.entry, DeliveryState::Sent, sent.tries.failed + 1, "channel").ended(
                "sent, and not read yet".to_owned(),
                Some(sent.at.utc),
                None,
                None,
            )
        });
        told.collect()
    }

    /// Settles what was read and survived.
    pub(super) fn settle(&mut self, now: Now) -> Vec<DeliveryRecord> {
        let mut records = Vec::new();
        while self.next_settled_at().is_some_and(|at| at <= now.instant)
            && let Some(sent) = self.sent.pop_front()
        {
            self.bytes -= sent.entry.json.len();
            let latency = sent.read_at.map(|read| read.saturating_duration_since(sent.at.instant));
            let outcome = "read, and lived on".to_owned();
            records.push(
                record(&sent.entry, DeliveryState::Settled, sent.tries.failed + 1, "channel").ended(
                    outcome,
                    Some(sent.at.utc),
                    Some(now.utc),
                    latency,
                ),
            );
        }
        if let Some(last) = records.last() {
            self.survived(last.seq);
        }
        records
    }

    /// A group of suspects was survived up to `last`.
    fn survived(&mut self, last: Seq) {
        if let Some(careful) = &mut self.careful
            && self.sent.is_empty()
        {
            careful.group = (careful.group * 2).min(BATCH_EVENTS);
            if last >= careful.until {
                self.careful = None;
            }
        }
    }

    /// The plugin crashed: what was sent goes back into the line, and is sent carefully from now on.
    pub(super) fn crashed(&mut self, now: Now, via: &str) -> Option<DeliveryRecord> {
        let last = self.sent.back()?.entry.seq;
        let until = self.careful.map_or(last, |careful| careful.until.max(last));
        self.careful = Some(Careful { until, group: 1 });
        if self.sent.len() > 1 {
            self.stopped();
            return None;
        }
        self.sent.front_mut()?.tries.crashed += 1;
        self.failed_alone(now, via, PLUGIN_CRASHED.to_owned())
    }

    /// The plugin stopped in order: what was sent goes back into the line.
    pub(super) fn stopped(&mut self) {
        while let Some(Sent { entry, tries, .. }) = self.sent.pop_back() {
            self.waiting.push_front(Waiting { entry, tries });
        }
    }

    /// The channel was lost and the plugin lives: what it is not known to have read goes back into the line.
    pub(super) fn channel_lost(&mut self) {
        while self.sent.back().is_some_and(|last| last.read_at.is_none())
            && let Some(Sent { entry, tries, .. }) = self.sent.pop_back()
        {
            self.waiting.push_front(Waiting { entry, tries });
        }
    }

    /// The one event that is to be posted now; from then on it counts as sent. `None` while one is in flight.
    pub(super) fn next_post(&mut self, now: Now, wants: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        while let Some(next) = self.waiting.front() {
            if !self.sent.is_empty() {
                return None;
            }
            let wanted = wants(&next.entry);
            let Waiting { entry, tries } = self.waiting.pop_front()?;
            if wanted {
                self.sent.push_back(Sent {
                    entry: entry.clone(),
                    tries,
                    at: now,
                    read_at: None,
                    told: false,
                });
                return Some(entry);
            }
            self.bytes -= entry.json.len();
        }
        None
    }

    /// The plugin answered the post with success.
    pub(super) fn posted(&mut self, now: Now, answer: String) -> Option<DeliveryRecord> {
        let sent = self.sent.pop_front()?;
        self.bytes -= sent.entry.json.len();
        let latency = now.instant.saturating_duration_since(sent.at.instant);
        let settled = record(&sent.entry, DeliveryState::Settled, sent.tries.failed + 1, "http");
        self.survived(sent.entry.seq);
        Some(settled.ended(answer, Some(sent.at.utc), Some(now.utc), Some(latency)))
    }

    /// The post failed. Returns the record, and how long the line waits before the next try.
    pub(super) fn post_failed(&mut self, now: Now, reason: String) -> Option<(DeliveryRecord, Duration)> {
        let record = self.failed_alone(now, "http", reason)?;
        let wait = match record.state {
            DeliveryState::Dead => Duration::ZERO,
            _ => RETRY_WAITS[(record.attempts as usize - 1).min(RETRY_WAITS.len() - 1)],
        };
        Some((record, wait))
    }

    fn failed_alone(&mut self, now: Now, via: &str, reason: String) -> Option<DeliveryRecord> {
        let Sent { entry, mut tries, at, .. } = self.sent.pop_front()?;
        tries.failed += 1;
        if tries.crashed >= MAX_CRASHES || tries.failed >= MAX_ATTEMPTS {
            self.bytes -= entry.json.len();
            let dead = record(&entry, DeliveryState::Dead, tries.failed, via);
            return Some(dead.ended(reason, Some(at.utc), Some(now.utc), None));
        }
        let failed = record(&entry, DeliveryState::Retrying, tries.failed, via);
        self.waiting.push_front(Waiting { entry, tries });
        Some(failed.ended(reason, Some(at.utc), None, None))
    }
}

/// The part of a record that is known of every attempt.
struct Attempt(DeliveryRecord);

fn record(entry: &Entry, state: DeliveryState, attempts: u32, via: &str) -> Attempt {
    Attempt(DeliveryRecord {
        plugin: String::new(),
        seq: entry.seq,
        event_id: entry.id.clone(),
        state,
        attempts,
        via: via.to_owned(),
        outcome: None,
        sent_at: None,
        settled_at: None,
        latency_ms: None,
    })
}

impl Attempt {
    fn ended(
        self,
        outcome: String,
        sent_at: Option<DateTime<Utc>>,
        settled_at: Option<DateTime<Utc>>,
        latency: Option<Duration>,
    ) -> DeliveryRecord {
        let latency_ms = latency.map(|latency| i64::try_from(latency.as_millis()).unwrap_or(i64::MAX));
        DeliveryRecord { outcome: Some(outcome), sent_at, settled_at, latency_ms, ..self.0 }
    }
}

#[cfg(test)]
mod tests;
