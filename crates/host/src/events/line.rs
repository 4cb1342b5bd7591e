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

/// Bytes of JSON that are sent at once.
const BATCH_BYTES: usize = 1024 * 1024;

/// Events that a plugin which acks may have in hand.
pub(super) const WINDOW: usize = 64;

/// How long an ack may take, from the moment at which the plugin could have begun with the event.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// Crashes with one event in flight that make it a dead letter.
const MAX_CRASHES: u32 = 3;

/// How long a plugin may take before the delivery's record says that it was sent and nothing is known.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// The reason of an attempt that crashed the plugin.
pub(super) const PLUGIN_CRASHED: &str = "plugin_crashed";

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

/// What could be picked for sending.
enum Pick {
    Item(Item),
    Nothing,
    /// Nothing may go out until what is out has come to an end.
    Wait,
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

    /// What is to be sent now, at most `most`; from then on it counts as sent. Empty while something else must happen first.
    ///
    /// What `wants` no longer allows leaves the line without an attempt: the plugin has never seen it, or it was revoked.
    pub(super) fn next_batch(
        &mut self,
        mode: Mode,
        most: usize,
        now: Now,
        wants: impl Fn(&Entry) -> bool,
    ) -> Vec<Arc<Entry>> {
        let most = most.min(self.room(mode));
        let mut batch: Vec<Arc<Entry>> = Vec::new();
        let mut bytes = 0;
        while batch.len() < most {
            let left = if batch.is_empty() { usize::MAX } else { BATCH_BYTES.saturating_sub(bytes) };
            let Some((item, beside)) = self.pick(mode, now, left, &wants) else { break };
            let alone = item.tries.alone();
            bytes += item.entry.json.len();
            batch.push(item.entry.clone());
            self.send(item, beside, mode, now);
            if alone {
                break;
            }
        }
        batch
    }

    fn room(&mut self, mode: Mode) -> usize {
        if self.sent.is_empty() {
            let until = self.careful.map(|careful| careful.until);
            let suspected = self.waiting.front().is_some_and(|first| Some(first.entry.seq) <= until);
            self.careful = self.careful.filter(|_| suspected);
        }
        let alone_out = self.sent.front().is_some_and(|first| first.item.tries.alone());
        let unread = self.sent.back().is_some_and(|last| last.read_at.is_none());
        let room = match mode {
            Mode::Read if unread => 0,
            Mode::Read => BATCH_EVENTS,
            Mode::Ack => WINDOW.saturating_sub(self.sent.len()),
            Mode::Post => 1_usize.saturating_sub(self.sent.len()),
        };
        match self.careful {
            _ if alone_out => 0,
            Some(_) if !self.sent.is_empty() => 0,
            Some(careful) => room.min(careful.group),
            None => room,
        }
    }

    /// The next event: a retry that is due and the next of the line take turns.
    fn pick(
        &mut self,
        mode: Mode,
        now: Now,
        left: usize,
        wants: impl Fn(&Entry) -> bool,
    ) -> Option<(Item, bool)> {
        for beside in [!self.beside_last, self.beside_last] {
            let picked = match beside {
                true => self.pick_beside(mode, now, left, &wants),
                false => self.pick_first(mode, left, &wants),
            };
            match picked {
                Pick::Item(item) => return Some((item, beside)),
                Pick::Nothing => {}
                Pick::Wait => return None,
            }
        }
        None
    }

    fn pick_beside(&mut self, mode: Mode, now: Now, left: usize, wants: impl Fn(&Entry) -> bool) -> Pick {
        loop {
            let busy = |group: Group| mode != Mode::Read && self.is_busy(group);
            let Some(retry) = self.beside.next_due(now.instant, |item| !busy(item.entry.project_id)) else {
                return Pick::Nothing;
            };
            if retry.item.tries.alone() && !self.sent.is_empty() || retry.item.entry.json.len() > left {
                return Pick::Wait;
            }
            let seq = retry.item.entry.seq;
            let Some(Retry { item, .. }) = self.beside.remove(seq) else { return Pick::Nothing };
            if wants(&item.entry) {
                return Pick::Item(item);
            }
            self.forget(&item);
            self.came_to_an_end(item.entry.project_id);
        }
    }

    fn pick_first(&mut self, mode: Mode, left: usize, wants: impl Fn(&Entry) -> bool) -> Pick {
        let mut at = 0;
        while let Some(item) = self.waiting.get(at) {
            let group = item.entry.project_id;
            let wanted = wants(&item.entry);
            if wanted && mode == Mode::Ack && self.is_busy(group) {
                at += 1;
                if at < Strict::LOOK_AHEAD {
                    continue;
                }
                return Pick::Nothing;
            }
            if wanted && item.entry.json.len() > left {
                return Pick::Wait;
            }
            let Some(item) = self.waiting.remove(at) else { break };
            if wanted {
                return Pick::Item(item);
            }
            self.bytes -= item.entry.json.len();
            self.forget(&item);
        }
        Pick::Nothing
    }

    /// Whether an event of the group is in flight, where that matters.
    fn is_busy(&self, group: Group) -> bool {
        self.strict.is_some() && self.sent.iter().any(|sent| sent.item.entry.project_id == group)
    }

    fn send(&mut self, item: Item, beside: bool, mode: Mode, now: Now) {
        self.beside_last = beside;
        self.tell_at.get_or_insert(now.instant + TELL_AFTER);
        let via = mode.via();
        let clock = now.instant;
        self.sent.push_back(Sent { item, beside, via, at: now, read_at: None, clock, told: false });
    }

    /// Everything that was sent has been read.
    pub(super) fn read(&mut self, now: Now) {
        for sent in self.sent.iter_mut().rev().take_while(|sent| sent.read_at.is_none()) {
            sent.read_at = Some(now.instant);
        }
    }

    /// When something is due that only time brings, at a plugin with this mode.
    pub(super) fn next_due_at(&self, mode: Mode, now: Now) -> Option<Instant> {
        let first = self.sent.front();
        let ends = match mode {
            Mode::Read => first.and_then(|first| first.read_at).map(|read| read + self.survive),
            Mode::Ack => first.map(|first| first.clock + ACK_TIMEOUT),
            Mode::Post => None,
        };
        let retry = self.beside.next_due_at().filter(|at| *at > now.instant);
        ends.into_iter().chain(retry).chain(self.tell_at.filter(|_| mode != Mode::Post)).min()
    }

    /// Does what time brings: settles what was read and survived, fails what was not acked in time, and tells what was sent
    /// a while ago and about which nothing is known.
    pub(super) fn tick(&mut self, mode: Mode, now: Now) {
        match mode {
            Mode::Read => self.settle(now),
            Mode::Ack => self.time_out(now),
            Mode::Post => return,
        }
        if self.tell_at.is_some_and(|at| at <= now.instant) {
            self.tell(mode, now);
        }
    }

    fn settle(&mut self, now: Now) {
        while let Some(read_at) = self.sent.front().and_then(|first| first.read_at)
            && read_at + self.survive <= now.instant
        {
            let Some(sent) = self.sent.pop_front() else { return };
            self.settled(&sent, now, read_at, "read, and lived on".into());
        }
    }

    /// An earlier event's end, also by time-out, is the moment at which the plugin could begin with the next.
    fn time_out(&mut self, now: Now) {
        if self.sent.front().is_some_and(|first| first.clock + ACK_TIMEOUT <= now.instant) {
            let reason = format!("no ack within {} s", ACK_TIMEOUT.as_secs());
            self.failed(0, now, reason, Failure::TimeOut);
            self.restart_clocks(0, now);
        }
    }

    fn restart_clocks(&mut self, from: usize, now: Now) {
        self.sent.range_mut(from..).for_each(|sent| sent.clock = now.instant);
    }

    fn tell(&mut self, mode: Mode, now: Now) {
        self.tell_at = None;
        for sent in self.sent.iter_mut().rev().take_while(|sent| sent.read_at.is_none()) {
            let at = sent.at.instant + TELL_AFTER;
            if sent.told {
                continue;
            }
            if at > now.instant {
                self.tell_at = Some(self.tell_at.map_or(at, |earlier| earlier.min(at)));
                continue;
            }
            sent.told = true;
            if !sent.beside {
                sent.item.tries.row = true;
                let what =
                    if mode == Mode::Ack { "sent, and not acked yet" } else { "sent, and not read yet" };
                self.outcomes.push(Outcome::sent(&sent.item, sent.via, sent.at.utc, what));
            }
        }
    }

    /// The plugin acked an event. Returns whether that was an event that it had in hand, or one whose time-out it missed.
    pub(super) fn acked(&mut self, id: &str, outcome: Result<(), String>, now: Now) -> bool {
        let Some(index) = self.sent.iter().position(|sent| sent.item.entry.id == id) else {
            return outcome.is_ok() && self.acked_late(id, now);
        };
        match outcome {
            Ok(()) => {
                let Some(sent) = self.sent.remove(index) else { return false };
                self.settled(&sent, now, now.instant, "acked".into());
            }
            Err(reason) => self.failed(index, now, reason, Failure::Refused),
        }
        self.restart_clocks(index, now);
        true
    }

    /// An ack behind its time-out proves as well that the event was handled; its retry is saved.
    fn acked_late(&mut self, id: &str, now: Now) -> bool {
        let Some(Retry { item, sent_at, .. }) = self.beside.remove_timed_out(id) else { return false };
        let latency = sent_at.map(|sent_at| now.utc - sent_at).unwrap_or_default();
        let answer = "acked, after the time for it was over".into();
        let sent_at = now.utc - latency;
        self.outcomes.push(Outcome::settled_late(&item, sent_at, now.utc, latency, answer));
        self.came_to_an_end(item.entry.project_id);
        true
    }

    /// The plugin answered the post with success.
    pub(super) fn posted(&mut self, now: Now, answer: String) {
        if let Some(sent) = self.sent.pop_front() {
            self.settled(&sent, now, now.instant, answer.into());
        }
    }

    /// The post failed.
    pub(super) fn post_failed(&mut self, now: Now, reason: String) {
        if !self.sent.is_empty() {
            self.failed(0, now, reason, Failure::Refused);
        }
    }

    fn settled(&mut self, sent: &Sent, now: Now, proven: Instant, answer: std::borrow::Cow<'static, str>) {
        let latency = proven.saturating_duration_since(sent.at.instant);
        let has_row = sent.beside || sent.item.tries.row;
        self.outcomes.push(Outcome::settled(
            &sent.item,
            sent.via,
            sent.at.utc,
            now.utc,
            latency,
            answer,
            has_row,
        ));
        self.crashed_in_a_row = 0;
        self.left_flight(sent);
        if sent.beside {
            self.came_to_an_end(sent.item.entry.project_id);
        }
    }

    /// An attempt failed: the event goes beside the line, or is given up.
    fn failed(&mut self, index: usize, now: Now, reason: String, how: Failure) {
        let Some(mut sent) = self.sent.remove(index) else { return };
        self.left_flight(&sent);
        let tries = &mut sent.item.tries;
        tries.attempts += 1;
        tries.failures += 1;
        tries.crashes += u32::from(how == Failure::Crash);
        let wait = wait_after(tries.failures, now.jitter).filter(|_| tries.crashes < MAX_CRASHES);
        let next = wait.map(|wait| now.utc + TimeDelta::from_std(wait).unwrap_or_default());
        self.outcomes.push(Outcome::failed(&sent.item, sent.via, sent.at.utc, now.utc, reason, next));
        let group = sent.item.entry.project_id;
        match wait {
            Some(wait) => {
                self.block(group);
                sent.item.tries.suspect = false;
                sent.item.tries.row = true;
                let sent_at = (how == Failure::TimeOut).then_some(sent.at.utc);
                self.beside.push(now.instant + wait, Retry { item: sent.item, sent_at });
            }
            None => {
                self.crashed_in_a_row += u32::from(how == Failure::Crash);
                self.came_to_an_end(group);
            }
        }
    }

    fn left_flight(&mut self, sent: &Sent) {
        if !sent.beside {
            self.bytes -= sent.item.entry.json.len();
        }
        if self.sent.is_empty()
            && let Some(careful) = &mut self.careful
        {
            careful.group = (careful.group * 2).min(BATCH_EVENTS);
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

    /// The plugin crashed: what was sent goes back, and is sent carefully from now on.
    pub(super) fn crashed(&mut self, now: Now) {
        if self.sent.len() == 1 {
            self.failed(0, now, PLUGIN_CRASHED.to_owned(), Failure::Crash);
            if let Some(careful) = &mut self.careful {
                careful.group = 1;
            }
            return;
        }
        let last = self.sent.iter().filter(|sent| !sent.beside).map(|sent| sent.item.entry.seq).max();
        let until = last.max(self.careful.map(|careful| careful.until));
        self.careful = until.map(|until| Careful { until, group: 1 });
        self.sent.iter_mut().filter(|sent| sent.beside).for_each(|sent| sent.item.tries.suspect = true);
        self.return_all(now, |_| true);
    }

    /// The plugin stopped in order: what was sent goes back.
    pub(super) fn stopped(&mut self, now: Now) {
        self.return_all(now, |_| true);
    }

    /// The channel was lost and the plugin lives: what it is not known to have read goes back.
    pub(super) fn channel_lost(&mut self, now: Now) {
        self.return_all(now, |sent| sent.read_at.is_none());
    }

    fn return_all(&mut self, now: Now, goes_back: impl Fn(&Sent) -> bool) {
        let mut firsts = false;
        for sent in std::mem::take(&mut self.sent) {
            if !goes_back(&sent) {
                self.sent.push_back(sent);
            } else if sent.beside {
                self.beside.push(now.instant, Retry { item: sent.item, sent_at: None });
            } else {
                firsts = true;
                self.waiting.push_back(sent.item);
            }
        }
        if firsts {
            self.waiting.make_contiguous().sort_unstable_by_key(|item| item.entry.seq);
            if let Some(strict) = self.strict.take() {
                self.hold(|item| strict.is_blocked(item.entry.project_id));
                self.strict = Some(strict);
            }
        }
        self.beside.forget_time_outs();
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

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The plugin said so.
    Refused,
    /// It said nothing in time.
    TimeOut,
    /// It crashed with this event alone in flight.
    Crash,
}

#[cfg(test)]
mod tests;
