//! The line of one plugin: what waits to be sent, what was sent and is not settled, and what a failure or a crash means.
//!
//! It decides and does nothing: no clock, no socket, no store. The delivery asks it what to send next and tells it what
//! happened; what is to be written collects in it as [`Outcome`]s.
//!
//! First attempts go in the order of the journal. An event that failed leaves the line and waits beside it ([`Retries`])
//! while later ones go on; its row in the store holds it, so the cursor may pass.
//!
//! After a crash nobody knows which of the unsettled events was to blame. So the first is sent alone, and has to go well
//! before the next one goes out. Each time that it did the next group is twice as large, so a thousand innocent events do
//! not take an hour. A crash in a group blames nobody and begins with one again; a crash with a single event in flight
//! blames that one, and the third makes it a dead letter.

mod ends;
mod sending;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use temps_store::{AttemptRecord, DeliveryHistory, DeliveryState, OpenDelivery, Seq, Via};

use super::journal::Entry;
use super::outcome::{Outcome, Tries};
use super::retries::{Retries, Retry, wait_after};
use super::strict::{Group, Strict};

/// Events that may stand in a line, waiting or unsettled. The journal keeps the others.
pub(super) const MAX_EVENTS: usize = 10_000;

/// Bytes of JSON that may stand in a line.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Events that are sent before their pong is awaited, to a plugin that does not ack.
pub(super) const BATCH_EVENTS: usize = 512;

/// Events that a plugin which acks may have in hand.
pub(super) const WINDOW: usize = 64;

/// One moment: a clock for waiting, one for records, and the dice for what happens at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) utc: DateTime<Utc>,
    /// In `0.0..1.0`.
    pub(super) jitter: f64,
}

impl Now {
    pub(super) fn read() -> Self {
        let utc = Utc::now();
        // The digits below a microsecond are as good as dice for spreading retries.
        let jitter = f64::from(utc.timestamp_subsec_nanos() % 1_000) / 1_000.0;
        Self { instant: Instant::now(), utc, jitter }
    }

    /// The moment on the waiting clock that corresponds to a time of a record.
    pub(super) fn instant_of(&self, at: DateTime<Utc>) -> Instant {
        self.instant + (at - self.utc).to_std().unwrap_or_default()
    }
}

/// How a plugin gets its events, and how it shows that it handled them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Over the channel; a pong proves that a batch was read, and the plugin has to live on.
    Read,
    /// Over the channel; each event is acked.
    Ack,
    /// One post after the other.
    Post,
}

impl Mode {
    fn via(self) -> Via {
        match self {
            Mode::Read | Mode::Ack => Via::Channel,
            Mode::Post => Via::Http,
        }
    }
}

/// The events of one plugin from its cursor to the place that was looked at last, and those that failed before.
#[derive(Debug)]
pub(super) struct Line {
    place: Seq,
    waiting: VecDeque<Item>,
    /// In the order of sending.
    sent: VecDeque<Sent>,
    beside: Retries,
    strict: Option<Strict>,
    /// Of first attempts, waiting or sent.
    bytes: usize,
    careful: Option<Careful>,
    survive: Duration,
    /// Whether the last event that went out was a retry; both kinds take turns.
    beside_last: bool,
    /// When something sent is to be told, if it is not settled by then.
    tell_at: Option<Instant>,
    /// Events in a row that became dead letters by crashes, with nothing settled in between.
    crashed_in_a_row: u32,
    outcomes: Vec<Outcome>,
}

/// An event with what is known of earlier attempts.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) entry: Arc<Entry>,
    pub(super) tries: Tries,
}

#[derive(Debug)]
struct Sent {
    item: Item,
    /// Whether it is a retry, which has a row of its own and does not hold the cursor.
    beside: bool,
    via: Via,
    at: Now,
    read_at: Option<Instant>,
    /// The moment at which the plugin could have begun with it.
    clock: Instant,
    /// Whether a record says that it was sent.
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
    /// A line that begins after `cursor`. An event to a plugin that does not ack counts as handled when the plugin lived
    /// `survive` longer than it took to read it. `strict` holds back events behind a failing one of their project.
    pub(super) fn new(cursor: Seq, survive: Duration, strict: Option<Strict>) -> Self {
        Self {
            place: cursor,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            beside: Retries::unread(),
            strict,
            bytes: 0,
            careful: None,
            survive,
            beside_last: false,
            tell_at: None,
            crashed_in_a_row: 0,
            outcomes: Vec::new(),
        }
    }

    /// The place up to which the journal was looked at.
    pub(super) fn place(&self) -> Seq {
        self.place
    }

    /// The place up to which everything is settled, given up, not for this plugin, or held by a row of its own.
    pub(super) fn cursor(&self) -> Seq {
        let mut firsts = self.sent.iter().filter(|sent| !sent.beside).map(|sent| sent.item.entry.seq);
        // With strict order later ones may have gone first.
        let sent = if self.is_strict() { firsts.min() } else { firsts.next() };
        let waiting = self.waiting.front().map(|waiting| waiting.entry.seq);
        sent.into_iter().chain(waiting).min().map_or(self.place, |first| first - 1)
    }

    /// When the journal took the oldest event that is in the line and not settled.
    pub(super) fn oldest(&self) -> Option<DateTime<Utc>> {
        let sent = self.sent.iter().find(|sent| !sent.beside).map(|sent| &sent.item);
        let items = sent.into_iter().chain(self.waiting.front());
        items.map(|item| item.entry.published_at).min()
    }

    /// Events that were sent and are not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.sent.len()
    }

    /// Events that are in the line and not sent.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether an event is in the line, for its first attempt or in flight.
    pub(super) fn has(&self, seq: Seq) -> bool {
        self.is_in_flight(seq) || self.waiting.iter().any(|item| item.entry.seq == seq)
    }

    /// Whether an event was sent and nothing is known yet.
    pub(super) fn is_in_flight(&self, seq: Seq) -> bool {
        self.sent.iter().any(|sent| sent.item.entry.seq == seq)
    }

    /// Whether the journal is worth another look: there is room for many events. A line that is kept full would otherwise cost
    /// a page of the journal for each event that leaves it.
    pub(super) fn wants_more(&self) -> bool {
        self.waiting.len() + self.sent.len() <= MAX_EVENTS / 4 * 3
            && self.bytes <= MAX_BYTES / 4 * 3
            && self.strict.as_ref().is_none_or(Strict::has_room)
    }

    /// Whether another event may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() + self.sent.len() < MAX_EVENTS
            && self.bytes < MAX_BYTES
            && self.strict.as_ref().is_none_or(Strict::has_room)
    }

    /// Whether a crash at this moment would be blamed on one event. Not when another event was blamed before and nothing
    /// went well since: then it is the plugin.
    pub(super) fn would_blame(&self) -> bool {
        self.sent.len() == 1 && self.crashed_in_a_row == 0
    }

    /// Whether events wait behind failing ones of their project.
    pub(super) fn is_strict(&self) -> bool {
        self.strict.is_some()
    }

    /// The attempts that ended since [`Line::outcomes`] was called last.
    pub(super) fn ended_attempts(&self) -> impl Iterator<Item = &AttemptRecord> {
        self.outcomes.iter().filter_map(|outcome| outcome.attempt.as_ref())
    }

    /// What happened since the last call, to be written.
    pub(super) fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Takes note of the journal's next event, and takes it in if it is `wanted` and not open already: a retry, a dead letter
    /// and a held event are on their own way.
    pub(super) fn take(&mut self, entry: &Arc<Entry>, wanted: bool, known: Option<DeliveryHistory>) {
        self.place = entry.seq;
        let open = known.and_then(|known| known.open);
        if open.is_some_and(|state| state != DeliveryState::Sent) {
            return;
        }
        let attempts = known.map_or(0, |known| known.attempts);
        let item =
            Item { entry: entry.clone(), tries: Tries { attempts, row: open.is_some(), ..Tries::default() } };
        if !wanted {
            self.forget(&item);
        } else if self.strict.as_ref().is_some_and(|strict| strict.is_blocked(entry.project_id)) {
            self.outcomes.push(Outcome::held(&item));
        } else {
            self.bytes += entry.json.len();
            self.waiting.push_back(item);
        }
    }

    /// An event failed or is sent again: with strict order those of its project wait from now on, held by their rows.
    fn block(&mut self, group: Group) {
        let Some(strict) = &mut self.strict else { return };
        strict.block(group);
        self.hold(|item| item.entry.project_id == group);
    }

    fn hold(&mut self, waits: impl Fn(&Item) -> bool) {
        let (outcomes, bytes) = (&mut self.outcomes, &mut self.bytes);
        self.waiting.retain(|item| {
            let waits = waits(item);
            if waits {
                *bytes -= item.entry.json.len();
                outcomes.push(Outcome::held(item));
            }
            !waits
        });
    }

    /// A delivery that may have held others of its project is over.
    fn came_to_an_end(&mut self, group: Group) {
        if let Some(strict) = &mut self.strict {
            strict.ended(group);
        }
    }

    /// An event leaves without an attempt; a row that says something of it goes, too.
    fn forget(&mut self, item: &Item) {
        if item.tries.row {
            self.outcomes.push(Outcome::cleared(item.entry.seq));
        }
    }

    /// Begins again after `place`, for a replay. Retries stay; what the plugin has in hand may come to it once more.
    pub(super) fn rewind(&mut self, place: Seq) {
        self.waiting.clear();
        self.sent.retain(|sent| sent.beside);
        self.bytes = 0;
        self.careful = None;
        self.place = place;
    }

    /// Whether retries are to be read from the store.
    pub(super) fn wants_retries(&self, now: Now) -> bool {
        self.beside.wants_more(now.instant)
    }

    /// Takes in retries as the store has them, soonest first. Those whose event is gone are over.
    pub(super) fn take_retries(&mut self, page: Vec<OpenDelivery>, now: Now) {
        let page = page.into_iter().map(|open| {
            let in_flight = self.is_in_flight(open.record.seq);
            (open, in_flight)
        });
        let page: Vec<_> = page.collect();
        for lost in self.beside.refill(page, now) {
            self.outcomes.push(Outcome::cleared(lost));
        }
        if self.is_strict() {
            let groups: Vec<Group> = self.beside.items().map(|item| item.entry.project_id).collect();
            groups.into_iter().for_each(|group| self.block(group));
        }
    }

    /// Retries were changed in the store: everything that is known of them is read anew.
    pub(super) fn retries_changed(&mut self) {
        self.beside = Retries::unread();
    }

    /// A project whose failing event came to an end, so that those behind it may go on.
    pub(super) fn next_release(&mut self) -> Option<Group> {
        self.strict.as_mut()?.next_release()
    }

    /// The store could not be asked for a project; it will be asked again.
    pub(super) fn release_later(&mut self, group: Group) {
        self.came_to_an_end(group);
    }

    /// An operator closed the open delivery of an event that is not in flight.
    pub(super) fn discarded(&mut self, seq: Seq) {
        if let Some(retry) = self.beside.remove(seq) {
            self.came_to_an_end(retry.item.entry.project_id);
        } else if let Some(strict) = &mut self.strict {
            strict.all_ended();
        }
    }

    /// Takes what the store has of a project's retrying and held deliveries, oldest first, after [`Line::next_release`]: the
    /// next one is due, or the project is free.
    pub(super) fn release(&mut self, group: Group, page: Vec<OpenDelivery>, now: Now) {
        let Some(strict) = &mut self.strict else { return };
        if page.is_empty() {
            return strict.free(group);
        }
        if page.iter().any(|open| open.record.state == DeliveryState::Retrying) {
            return;
        }
        if let Some(first) = page.into_iter().next() {
            match Retries::read(first, now) {
                Ok((_, retry)) => {
                    self.outcomes.push(Outcome::released(&retry.item, now.utc));
                    self.beside.push(now.instant, retry);
                }
                Err(lost) => {
                    strict.ended(group);
                    self.outcomes.push(Outcome::cleared(lost));
                }
            }
        }
    }
}
