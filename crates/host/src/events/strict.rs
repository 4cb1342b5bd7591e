//! Strict order: behind a failing event the others of its project wait, those of other projects go on.
//!
//! Events that wait so are held by rows in the store, not by memory; here are only the projects that wait. Events without
//! a project are one group.

use std::collections::{HashSet, VecDeque};

/// A project, or all events that have none.
pub(super) type Group = Option<i32>;

/// Projects that may wait at a time. With more the whole line waits: a plugin that fails so widely is broken.
pub(super) const MAX_GROUPS: usize = 10_000;

/// The projects that wait.
#[derive(Debug, Default)]
pub(super) struct Strict {
    blocked: HashSet<Group>,
    ended: VecDeque<Group>,
}

impl Strict {
    /// Events that are looked at for one whose project has none in flight.
    pub(super) const LOOK_AHEAD: usize = 256;

    /// Strict order with projects that wait already. Each is looked at once: its failing event may have ended meanwhile.
    pub(super) fn new(waiting: Vec<Group>) -> Self {
        Self { blocked: waiting.iter().copied().collect(), ended: waiting.into() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.blocked.len() < MAX_GROUPS
    }

    pub(super) fn is_blocked(&self, group: Group) -> bool {
        self.blocked.contains(&group)
    }

    /// An event of the group failed.
    pub(super) fn block(&mut self, group: Group) {
        self.blocked.insert(group);
    }

    /// An event of the group that may have held others is over.
    pub(super) fn ended(&mut self, group: Group) {
        if self.blocked.contains(&group) && !self.ended.contains(&group) {
            self.ended.push_back(group);
        }
    }

    /// It is not known which group's event is over.
    pub(super) fn all_ended(&mut self) {
        self.ended = self.blocked.iter().copied().collect();
    }

    /// The next group to be looked at.
    pub(super) fn next_release(&mut self) -> Option<Group> {
        self.ended.pop_front()
    }

    /// Nothing of the group waits any more.
    pub(super) fn free(&mut self, group: Group) {
        self.blocked.remove(&group);
    }
}
