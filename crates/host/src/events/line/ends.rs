//! How what was sent comes to an end: read, acked, answered, timed out, crashed, or given back.

use std::borrow::Cow;

use super::*;

/// How long an ack may take, from the moment at which the plugin could have begun with the event.
pub(in crate::events) const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// Crashes with one event in flight that make it a dead letter.
const MAX_CRASHES: u32 = 3;

/// How long a plugin may take before the delivery's record says that it was sent and nothing is known.
pub(super) const TELL_AFTER: Duration = Duration::from_secs(10);

/// The reason of an attempt that crashed the plugin.
pub(in crate::events) const PLUGIN_CRASHED: &str = "plugin_crashed";

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

impl Line {
    /// Everything that was sent has been read.
    pub(in crate::events) fn read(&mut self, now: Now) {
        for sent in self.sent.iter_mut().rev().take_while(|sent| sent.read_at.is_none()) {
            sent.read_at = Some(now.instant);
        }
    }

    /// When something is due that only time brings, at a plugin with this mode.
    pub(in crate::events) fn next_due_at(&self, mode: Mode, now: Now) -> Option<Instant> {
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
    pub(in crate::events) fn tick(&mut self, mode: Mode, now: Now) {
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
    pub(in crate::events) fn acked(&mut self, id: &str, outcome: Result<(), String>, now: Now) -> bool {
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
    pub(in crate::events) fn posted(&mut self, now: Now, answer: String) {
        if let Some(sent) = self.sent.pop_front() {
            self.settled(&sent, now, now.instant, answer.into());
        }
    }

    /// The post failed.
    pub(in crate::events) fn post_failed(&mut self, now: Now, reason: String) {
        if !self.sent.is_empty() {
            self.failed(0, now, reason, Failure::Refused);
        }
    }

    fn settled(&mut self, sent: &Sent, now: Now, proven: Instant, answer: Cow<'static, str>) {
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

    /// The plugin crashed: what was sent goes back, and is sent carefully from now on.
    pub(in crate::events) fn crashed(&mut self, now: Now) {
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
    pub(in crate::events) fn stopped(&mut self, now: Now) {
        self.return_all(now, |_| true);
    }

    /// The channel was lost and the plugin lives: what it is not known to have read goes back.
    pub(in crate::events) fn channel_lost(&mut self, now: Now) {
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
}
