//! One program: what the kernel counts of it, and what the kernel is told about it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::BalanceChange;
use super::appetite::{Appetite, Counted};
use super::processors::Processors;
use super::refusals::Refusals;
use crate::limits::group::{Group, Place, field, quota_and_period, write};

/// The span that the quota of a program in the background is counted over, in microseconds, where its own is not that long: the
/// kernel's default.
const LONG_SPAN_US: u64 = 100_000;

/// Of a quota that is used up on processes which are refused, the part that is left.
const PART_OF_THE_INSISTENT: u32 = 5;

/// How long others come before a program that is not ready yet.
pub(super) const LONGEST_WAIT_OF_A_START: Duration = Duration::from_secs(1);

/// One program as it is seen here.
#[derive(Debug)]
pub(in crate::limits) struct Program {
    pub(super) name: String,
    pub(super) started: Instant,
    /// In percent of one processor, since it had one; an inspected program never has.
    pub(super) quota: u32,
    /// Whether it has its quota now.
    pub(super) restricted: bool,
    /// Whether the kernel was told that others come first.
    pub(super) gives_way: bool,
    /// Whether somebody asks it to end.
    pub(super) stops: bool,
    pub(super) counters: Option<File>,
    pub(super) cpu: Option<Place>,
    pub(super) idle: Option<PathBuf>,
    pub(super) cpuset: Option<Place>,
    pub(super) appetite: Appetite,
    /// Where the kernel counts the processes that it has refused.
    pub(super) refused: Option<File>,
    pub(super) refusals: Refusals,
}

impl Program {
    pub(in crate::limits) fn of(name: &str, group: &Group) -> Self {
        let cpu = group.place("cpu").cloned();
        let idle = cpu.as_ref().map(|place| place.path.join("cpu.idle")).filter(|path| path.exists());
        Self {
            name: name.to_owned(),
            started: Instant::now(),
            quota: 0,
            restricted: false,
            gives_way: false,
            stops: false,
            counters: cpu.as_ref().and_then(|place| File::open(place.path.join("cpu.stat")).ok()),
            idle,
            cpu,
            cpuset: group.place("cpuset").cloned(),
            appetite: Appetite::default(),
            refused: group.place("pids").and_then(|place| File::open(place.path.join("pids.events")).ok()),
            refusals: Refusals::default(),
        }
    }

    /// On which processors it runs: these, or all.
    pub(super) fn keep_to(&self, some: Option<&String>, all: &Processors) {
        let Some(cpuset) = &self.cpuset else { return };
        let list = match some {
            Some(some) => some.clone(),
            // Nothing said: those of the group above.
            None if cpuset.unified => "\n".to_owned(),
            None => all.all(),
        };
        let _ = write(&cpuset.path.join("cpuset.cpus"), &list);
    }

    /// Looks at what the kernel has counted since the last look. Whoever is told that it goes to the background or leaves it, says so
    /// to the kernel for all programs; the rest is said here.
    pub(super) fn look(&mut self) -> Vec<BalanceChange> {
        let moves = self.counted().is_some_and(|counted| self.appetite.look(counted));
        let insists_anew = self.look_at_refusals();
        if insists_anew || self.gives_way != self.has_to_give_way() {
            self.give_way();
        }
        let moved = moves.then_some(BalanceChange::Background(self.appetite.background));
        let part = insists_anew.then_some(BalanceChange::Part(self.refusals.insists));
        moved.into_iter().chain(part).collect()
    }

    /// Whether it begins or stops to insist on processes that are refused. Only who uses its quota up is looked at: who is content with it
    /// is left alone, however often it is refused.
    fn look_at_refusals(&mut self) -> bool {
        if !self.appetite.background {
            return std::mem::take(&mut self.refusals).insists;
        }
        self.refused().is_some_and(|refused| self.refusals.look(refused))
    }

    fn has_to_give_way(&self) -> bool {
        let starts = self.started.elapsed() < LONGEST_WAIT_OF_A_START;
        self.appetite.background && !self.stops && (self.restricted || starts)
    }

    /// Tells the kernel whether to take the processor from it when anybody else wants it, and how much it may have.
    pub(super) fn give_way(&mut self) {
        let gives_way = self.has_to_give_way();
        self.gives_way = gives_way;
        if let Some(idle) = &self.idle {
            let _ = write(idle, if gives_way { "1" } else { "0" });
        }
        if let Some(cpu) = self.cpu.as_ref().filter(|_| self.restricted) {
            let part = if gives_way && self.refusals.insists { PART_OF_THE_INSISTENT } else { 1 };
            let (quota, span) = quota_and_period(self.quota / part);
            let factor = if gives_way { (LONG_SPAN_US / span).max(1) } else { 1 };
            let _ = cpu.restrict((quota * factor, span * factor));
        }
    }

    fn counted(&self) -> Option<Counted> {
        Counted::parse(std::str::from_utf8(read(self.counters.as_ref()?, &mut [0; 1024])?).ok()?)
    }

    fn refused(&self) -> Option<u64> {
        field(std::str::from_utf8(read(self.refused.as_ref()?, &mut [0; 1024])?).ok()?, "max")
    }
}

/// What one of the kernel's short files says now.
fn read<'a>(file: &File, text: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = file.read_at(text, 0).ok()?;
    text.get(..length)
}
