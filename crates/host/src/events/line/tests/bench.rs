//! A line under test, with a clock that the test moves.

use std::collections::BTreeMap;

use temps_store::{AttemptResult, DeliveryRecord, JournalEntry, OpenChange};

use super::super::*;
use crate::events::retries::IN_MEMORY;
use crate::events::tests::rig::event;

pub(super) const SURVIVE: Duration = Duration::from_secs(5);

/// A line with a clock that the test moves, and what a store would hold.
pub(super) struct Bench {
    pub(super) line: Line,
    pub(super) mode: Mode,
    pub(super) strict: bool,
    pub(super) begun: Now,
    pub(super) seconds: u64,
    pub(super) published: Seq,
    pub(super) journal: Vec<(Arc<Entry>, bool)>,
    pub(super) open: BTreeMap<Seq, DeliveryRecord>,
    pub(super) attempts: Vec<AttemptRecord>,
    /// As the store has it.
    pub(super) cursor: Seq,
}

impl Bench {
    pub(super) fn new(mode: Mode) -> Self {
        Self::ordered(mode, false)
    }

    pub(super) fn ordered(mode: Mode, strict: bool) -> Self {
        let mut bench = Self {
            line: Line::new(0, SURVIVE, strict.then(Strict::default)),
            mode,
            strict,
            begun: Now { jitter: 0.0, ..Now::read() },
            seconds: 0,
            published: 0,
            journal: Vec::new(),
            open: BTreeMap::new(),
            attempts: Vec::new(),
            cursor: 0,
        };
        bench.book();
        bench
    }

    pub(super) fn now(&self) -> Now {
        let passed = Duration::from_secs(self.seconds);
        Now { instant: self.begun.instant + passed, utc: self.begun.utc + passed, jitter: 0.0 }
    }

    pub(super) fn publish(&mut self, wanted: bool) {
        self.publish_in(wanted, None);
    }

    pub(super) fn publish_in(&mut self, wanted: bool, project_id: Option<i32>) {
        self.published += 1;
        let entry = Arc::new(Entry {
            seq: self.published,
            id: self.published.to_string(),
            event_type: "deployment.ready".into(),
            project_id,
            published_at: self.now().utc,
            json: "{}".into(),
            forms: Default::default(),
        });
        self.journal.push((entry.clone(), wanted));
        self.line.take(&entry, wanted, None);
        self.book();
    }

    /// What the delivery does between two steps: writes what happened, and reads retries.
    pub(super) fn book(&mut self) {
        let now = self.now();
        loop {
            for outcome in self.line.outcomes() {
                self.attempts.extend(outcome.attempt);
                match outcome.open {
                    Some(OpenChange::Put(record)) => drop(self.open.insert(record.seq, *record)),
                    Some(OpenChange::Clear(seq)) => drop(self.open.remove(&seq)),
                    None => {}
                }
            }
            self.cursor = self.line.cursor();
            if self.line.wants_retries(now) {
                let mut page = self.rows(|record| record.state == DeliveryState::Retrying);
                page.sort_by_key(|open| (open.record.next_attempt_at, open.record.seq));
                page.truncate(IN_MEMORY);
                self.line.take_retries(page, now);
            } else if let Some(group) = self.line.next_release() {
                let of_group = |record: &DeliveryRecord| {
                    record.project_id == group
                        && matches!(record.state, DeliveryState::Retrying | DeliveryState::Held)
                };
                let page = self.rows(of_group);
                self.line.release(group, page, now);
            } else {
                return;
            }
        }
    }

    pub(super) fn rows(&self, wanted: impl Fn(&DeliveryRecord) -> bool) -> Vec<OpenDelivery> {
        let rows = self.open.values().filter(|record| wanted(record));
        rows.map(|record| {
            let (entry, _) = &self.journal[record.seq as usize - 1];
            let mut event = event(&entry.event_type, &entry.id);
            event.project_id = entry.project_id;
            let (seq, json, published_at) = (entry.seq, entry.json.clone(), entry.published_at);
            OpenDelivery {
                record: record.clone(),
                event: Some(JournalEntry { seq, event, json, published_at }),
            }
        })
        .collect()
    }

    /// The host was killed: all that is left is what was written.
    pub(super) fn restart(&mut self) {
        let waiting = self
            .open
            .values()
            .filter(|record| matches!(record.state, DeliveryState::Retrying | DeliveryState::Held));
        let groups: Vec<Group> = waiting.map(|record| record.project_id).collect();
        self.line = Line::new(self.cursor, SURVIVE, self.strict.then(|| Strict::new(groups)));
        for at in self.cursor as usize..self.journal.len() {
            let (entry, wanted) = self.journal[at].clone();
            let attempts = self.attempts.iter().filter(|attempt| attempt.seq == entry.seq);
            let attempts = attempts.map(|attempt| attempt.attempt).max();
            let open = self.open.get(&entry.seq).map(|record| record.state);
            let known = (attempts.is_some() || open.is_some()).then(|| DeliveryHistory {
                seq: entry.seq,
                attempts: attempts.unwrap_or(0),
                open,
            });
            self.line.take(&entry, wanted, known);
        }
        self.book();
    }

    pub(super) fn send(&mut self) -> Vec<Seq> {
        let now = self.now();
        let sent = self.line.next_batch(self.mode, usize::MAX, now, |_| true);
        self.book();
        sent.iter().map(|entry| entry.seq).collect()
    }

    pub(super) fn read(&mut self) {
        let now = self.now();
        self.line.read(now);
    }

    pub(super) fn ack(&mut self, seq: Seq, outcome: Result<(), &str>) -> bool {
        let now = self.now();
        let known = self.line.acked(&seq.to_string(), outcome.map_err(str::to_owned), now);
        self.book();
        known
    }

    /// Lets time pass. Returns what was settled by it.
    pub(super) fn pass(&mut self, seconds: u64) -> Vec<Seq> {
        self.seconds += seconds;
        let before = self.attempts.len();
        let now = self.now();
        self.line.tick(self.mode, now);
        self.book();
        let new = self.attempts[before..].iter();
        new.filter(|attempt| attempt.result == AttemptResult::Settled).map(|attempt| attempt.seq).collect()
    }

    pub(super) fn crash(&mut self) {
        let now = self.now();
        self.line.crashed(now);
        self.book();
    }

    pub(super) fn state(&self, seq: Seq) -> Option<DeliveryState> {
        self.open.get(&seq).map(|record| record.state)
    }

    pub(super) fn last(&self) -> (Seq, u32, AttemptResult) {
        let last = self.attempts.last().unwrap();
        (last.seq, last.attempt, last.result)
    }
}
