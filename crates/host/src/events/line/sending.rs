//! What goes out next: how much room there is, and which events take it.

use std::sync::Arc;

use super::ends::TELL_AFTER;
use super::*;

/// Bytes of JSON that are sent at once.
const BATCH_BYTES: usize = 1024 * 1024;

/// What could be picked for sending.
enum Pick {
    Item(Item),
    Nothing,
    /// Nothing may go out until what is out has come to an end.
    Wait,
}

impl Line {
    /// What is to be sent now, at most `most`; from then on it counts as sent. Empty while something else must happen first.
    ///
    /// What `wants` no longer allows leaves the line without an attempt: the plugin has never seen it, or it was revoked.
    pub(in crate::events) fn next_batch(
        &mut self,
        mode: Mode,
        most: usize,
        now: Now,
        wants: impl Fn(&Arc<Entry>) -> bool,
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
        wants: impl Fn(&Arc<Entry>) -> bool,
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

    fn pick_beside(
        &mut self,
        mode: Mode,
        now: Now,
        left: usize,
        wants: impl Fn(&Arc<Entry>) -> bool,
    ) -> Pick {
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

    fn pick_first(&mut self, mode: Mode, left: usize, wants: impl Fn(&Arc<Entry>) -> bool) -> Pick {
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
}
