//! Programs that always use their processor time up, put behind all others.
//!
//! A quota alone does not keep a program that computes from being noticed: whenever it may run, others that wake on the same
//! processor can have to wait for the next tick of the kernel's clock, some milliseconds. So such a program goes to the background:
//! it keeps to the last few processors, as many as the quotas of all programs in the background add up to (`cpuset.cpus`), so that it
//! loses nothing while others rest; the kernel takes the processor from it whenever anybody else wants it (`cpu.idle`); and its quota
//! is counted over a longer span, since each new span is a moment in which the kernel may let it go first all the same. What the
//! kernel does not have is left out.
//!
//! One that spends its time on starting processes which the kernel refuses has a part of its quota only. What the kernel throws away after
//! each refusal is cleaned up later and in nobody's name, so no group and no place behind others holds it back.
//!
//! What starts again and again is noise, too: a program starts in the background when its last run ended there, or was short and ended by
//! itself, and its [launcher](behind_others) as well. Somebody else's work on a busy machine must not hold up its start for ever, nor
//! its end: until it is ready, others come first for a second at most, and once it is asked to end they do so no more.

mod appetite;
mod processors;
mod program;
mod refusals;
mod start;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::processors::Processors;
pub(super) use self::program::Program;
pub(crate) use self::start::come_forward;
pub use self::start::{behind_others, bring_forward};

/// Time between two looks at the programs of a host: two or three of the spans that quotas are counted over.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the end of a short run, or of one in the background, is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A run that ended sooner was short.
const SHORT_RUN: Duration = Duration::from_secs(10);

/// Who of a host's programs is in the background.
#[derive(Debug)]
pub(super) struct Background {
    processors: Processors,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    programs: BTreeMap<u64, Program>,
    /// The names of programs that are to start in the background, and when they ended.
    ended: HashMap<String, Instant>,
}

/// What changes for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalanceChange {
    /// It always uses its quota up, and goes to the background; or it leaves it.
    Background(bool),
    /// It uses its quota up on processes that are refused, and has a part of it only; or it has all of it again.
    Part(bool),
}

impl Background {
    /// `processors` is the kernel's list of those that programs may have.
    pub(super) fn new(processors: Option<&str>) -> Self {
        let processors = processors.map(Processors::parse).unwrap_or_default();
        Self { processors, members: Mutex::default() }
    }

    /// Takes a program up, in the background where it was noisy a short while ago.
    pub(super) fn add(&self, number: u64, mut program: Program) {
        let mut members = self.lock();
        let ended = members.ended.remove(&program.name);
        // What is left of the run before may be cleared away behind this start.
        let still_there =
            members.programs.values().any(|it| it.name == program.name && it.appetite.background);
        let background = still_there || ended.is_some_and(|ended| ended.elapsed() < REMEMBERED);
        program.appetite.background = background;
        members.programs.insert(number, program);
        if background {
            self.place(&mut members, Some(number));
        }
    }

    /// Notes that a program has a quota now, in percent of one processor, or has none any more.
    pub(super) fn set_quota(&self, number: u64, percent: Option<u32>) {
        let mut members = self.lock();
        let Some(program) = members.programs.get_mut(&number) else { return };
        program.quota = percent.unwrap_or(program.quota);
        program.restricted = percent.is_some();
        if program.appetite.background {
            self.place(&mut members, Some(number));
        }
    }

    /// Notes that somebody asks a program to end. It gives way no more, so that it can end in time; and a start after it is no noise,
    /// however short the run was.
    pub(super) fn stops(&self, number: u64) {
        if let Some(program) = self.lock().programs.get_mut(&number) {
            program.stops = true;
            program.give_way();
        }
    }

    pub(super) fn remove(&self, number: u64) {
        let mut members = self.lock();
        members.ended.retain(|_, ended| ended.elapsed() < REMEMBERED);
        let Some(program) = members.programs.remove(&number) else { return };
        let was_short = program.quota > 0 && !program.stops && program.started.elapsed() < SHORT_RUN;
        if program.appetite.background || was_short {
            members.ended.insert(program.name, Instant::now());
        }
        if program.appetite.background {
            self.place(&mut members, None);
        }
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.lock().programs.get(&number).is_some_and(|program| program.appetite.background)
    }

    pub(super) fn balance(&self) -> Vec<(String, BalanceChange)> {
        let mut members = self.lock();
        let (mut moved, mut changes) = (Vec::new(), Vec::new());
        for (number, program) in &mut members.programs {
            for change in program.look() {
                changes.push((program.name.clone(), change));
                if matches!(change, BalanceChange::Background(_)) {
                    moved.push(*number);
                }
            }
        }
        moved.iter().for_each(|number| self.place(&mut members, Some(*number)));
        changes
    }

    /// Tells the kernel where `moved` belongs now, and on which processors everybody in the background runs. What the kernel
    /// refuses, because the program has just ended or the machine does not allow it, is no loss to anybody but neighbours.
    fn place(&self, members: &mut Members, moved: Option<u64>) {
        let all = members.programs.values();
        let quota: u32 = all.filter(|it| it.appetite.background).map(|it| it.quota).sum();
        let last = self.processors.last(quota);
        for (number, program) in &mut members.programs {
            let is_moved = moved == Some(*number);
            if is_moved {
                program.give_way();
            }
            if (is_moved || program.appetite.background) && !self.processors.is_empty() {
                program.keep_to(program.appetite.background.then_some(&last), &self.processors);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::appetite::Appetite;
    use super::program::LONGEST_WAIT_OF_A_START;
    use super::refusals::Refusals;
    use super::*;
    use crate::limits::group::Place;

    /// A program whose groups are a directory: version 1, but for the quota, which is one file.
    fn program(place: &Path, name: &str) -> Program {
        let path = place.join(name);
        std::fs::create_dir_all(&path).unwrap();
        for (file, text) in [
            ("cpu.stat", ""),
            ("cpu.idle", "0"),
            ("cpu.max", ""),
            ("cpuset.cpus", "0-3"),
            ("pids.events", "max 0\n"),
        ] {
            std::fs::write(path.join(file), text).unwrap();
        }
        let of = |controller: &str, unified| Place {
            unified,
            controllers: vec![controller.to_owned()],
            path: path.clone(),
        };
        Program {
            name: name.to_owned(),
            started: Instant::now(),
            quota: 80,
            restricted: true,
            gives_way: false,
            stops: false,
            counters: Some(File::open(path.join("cpu.stat")).unwrap()),
            idle: Some(path.join("cpu.idle")),
            cpu: Some(of("cpu", true)),
            cpuset: Some(of("cpuset", false)),
            appetite: Appetite::default(),
            refused: Some(File::open(path.join("pids.events")).unwrap()),
            refusals: Refusals::default(),
        }
    }

    fn two(place: &Path) -> Background {
        let background = Background::new(Some("0-3"));
        background.add(1, program(place, "first"));
        background.add(2, program(place, "second"));
        background
    }

    /// The same when the first of them has used its quota up for long.
    fn one_behind(place: &Path) -> Background {
        let background = two(place);
        count(place, "first", 10, 10);
        assert_eq!(background.balance(), [("first".to_owned(), BalanceChange::Background(true))]);
        background
    }

    fn count(place: &Path, name: &str, spans: u64, held_back: u64) {
        let text = format!("nr_periods {spans}\nnr_throttled {held_back}\n");
        std::fs::write(place.join(name).join("cpu.stat"), text).unwrap();
    }

    fn quota(place: &Path, name: &str) -> String {
        std::fs::read_to_string(place.join(name).join("cpu.max")).unwrap()
    }

    fn said(place: &Path, name: &str) -> [String; 2] {
        ["cpu.idle", "cpuset.cpus"]
            .map(|file| std::fs::read_to_string(place.join(name).join(file)).unwrap()[..1].to_owned())
    }

    #[test]
    fn the_kernel_is_told_who_is_where() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let background = two(place);
        count(place, "first", 10, 10);
        count(place, "second", 10, 0);
        assert_eq!(background.balance(), [("first".to_owned(), BalanceChange::Background(true))]);
        assert_eq!(said(place, "first"), ["1", "3"]);
        assert_eq!(said(place, "second"), ["0", "0"]);
        // Two of them need more room, both of them get it; one alone needs less again.
        count(place, "second", 20, 10);
        assert_eq!(background.balance(), [("second".to_owned(), BalanceChange::Background(true))]);
        assert_eq!(
            (said(place, "first"), said(place, "second")),
            (["1", "2"].map(Into::into), ["1", "2"].map(Into::into))
        );
        background.remove(1);
        assert_eq!(said(place, "second"), ["1", "3"]);
        let back = (0..1_000).find_map(|_| background.balance().pop());
        assert_eq!(back, Some(("second".to_owned(), BalanceChange::Background(false))));
        assert_eq!(said(place, "second"), ["0", "0"]);
        assert!(!background.contains(2));
    }

    #[test]
    fn a_program_gives_way_while_it_has_a_quota() {
        let place = tempfile::tempdir().unwrap();
        let background = one_behind(place.path());
        let max = || quota(place.path(), "first");
        assert_eq!(max(), "80000 100000", "its span is longer");
        background.lock().programs.get_mut(&1).unwrap().started -= LONGEST_WAIT_OF_A_START;
        background.set_quota(1, None);
        assert_eq!(said(place.path(), "first"), ["0", "3"]);
        background.set_quota(1, Some(300));
        assert_eq!(said(place.path(), "first"), ["1", "1"]);
        assert_eq!(max(), "300000 100000");
    }

    #[test]
    fn who_uses_its_quota_up_on_refused_processes_has_a_part_of_it() {
        let place = tempfile::tempdir().unwrap();
        let background = two(place.path());
        let max = |name| quota(place.path(), name);
        let refuse = |name: &str, times: u64| {
            let file = place.path().join(name).join("pids.events");
            std::fs::write(file, format!("max {times}\n")).unwrap();
        };
        let part = |name: &str, has_part| (name.to_owned(), BalanceChange::Part(has_part));
        count(place.path(), "first", 10, 10);
        background.balance();
        let changes: Vec<_> = (1..=4)
            .flat_map(|times| {
                refuse("first", times);
                refuse("second", times);
                background.balance()
            })
            .collect();
        assert_eq!(changes, [part("first", true)], "the other one is content with its quota");
        assert_eq!(max("first"), "16000 100000");
        assert_eq!(max("second"), "", "nothing was ever said");
        // It stays where it is, because it is still hungry, and tries no more.
        let changes: Vec<_> = (1..=200)
            .flat_map(|look| {
                count(place.path(), "first", 10 + look * 2, 10 + look * 2);
                background.balance()
            })
            .collect();
        assert_eq!(changes, [part("first", false)]);
        assert_eq!(max("first"), "80000 100000");
    }

    #[test]
    fn who_is_asked_to_end_gives_way_no_more_and_has_all_of_its_quota() {
        let place = tempfile::tempdir().unwrap();
        let background = one_behind(place.path());
        for refused in 1..=4 {
            std::fs::write(place.path().join("first/pids.events"), format!("max {refused}\n")).unwrap();
            background.balance();
        }
        assert_eq!(quota(place.path(), "first"), "16000 100000");
        // A file of the kernel is written anew each time; this one keeps what stood behind.
        std::fs::write(place.path().join("first/cpu.max"), "").unwrap();
        background.stops(1);
        assert_eq!(quota(place.path(), "first"), "16000 20000");
        assert_eq!(said(place.path(), "first"), ["0", "3"]);
        background.balance();
        assert_eq!(said(place.path(), "first"), ["0", "3"], "it stays so");
        assert!(background.contains(1), "its next start is there, too");
    }

    #[test]
    fn a_start_in_the_background_gives_way_for_a_moment_and_again_once_it_has_a_quota() {
        let place = tempfile::tempdir().unwrap();
        let background = Background::new(Some("0-3"));
        background.lock().ended.insert("again".to_owned(), Instant::now());
        background.add(1, Program { restricted: false, ..program(place.path(), "again") });
        assert_eq!(said(place.path(), "again"), ["1", "3"]);
        background.lock().programs.get_mut(&1).unwrap().started -= LONGEST_WAIT_OF_A_START;
        assert_eq!(background.balance(), [], "it does not leave the background");
        assert_eq!(said(place.path(), "again"), ["0", "3"], "it is not to wait for ever");
        background.set_quota(1, Some(80));
        assert_eq!(said(place.path(), "again"), ["1", "3"]);
    }

    #[test]
    fn a_start_before_the_last_run_is_cleared_away_is_in_the_background_as_well() {
        let place = tempfile::tempdir().unwrap();
        let background = one_behind(place.path());
        background.add(3, program(place.path(), "first"));
        background.add(4, program(place.path(), "second"));
        assert!(background.contains(3) && !background.contains(4));
    }

    /// Where a program starts whose last run was this.
    fn next_start(last: Program) -> bool {
        let place = tempfile::tempdir().unwrap();
        let background = Background::new(Some("0-3"));
        let name = last.name.clone();
        background.add(1, last);
        background.remove(1);
        background.add(2, program(place.path(), &name));
        let seen = background.contains(2);
        assert_eq!(said(place.path(), &name), if seen { ["1", "3"] } else { ["0", "0"] });
        seen
    }

    #[test]
    fn the_start_after_a_short_run_is_in_the_background_and_no_other() {
        let place = tempfile::tempdir().unwrap();
        let run = |seconds, quota| {
            let started = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
            Program { started, quota, ..program(place.path(), "again") }
        };
        assert!(next_start(run(1, 25)));
        assert!(!next_start(run(11, 25)), "a long run");
        assert!(!next_start(run(1, 0)), "an inspection");
        assert!(!next_start(Program { stops: true, ..run(1, 25) }), "it was asked to end");
    }

    #[test]
    fn who_ended_in_the_background_is_remembered_for_a_while() {
        let place = tempfile::tempdir().unwrap();
        let background = one_behind(place.path());
        background.lock().programs.get_mut(&1).unwrap().started -= SHORT_RUN;
        background.remove(1);
        *background.lock().ended.get_mut("first").unwrap() -= REMEMBERED;
        background.add(3, program(place.path(), "first"));
        assert!(!background.contains(3), "it is long ago");
        count(place.path(), "first", 10, 10);
        background.balance();
        background.lock().programs.get_mut(&3).unwrap().started -= SHORT_RUN;
        background.remove(3);
        background.add(4, program(place.path(), "first"));
        assert!(background.contains(4));
    }
}
