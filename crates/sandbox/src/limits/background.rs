//! Programs that always use their processor time up, put behind all others.
//!
//! A quota alone does not keep a program that computes from being noticed: whenever it may run, others that wake on the same
//! processor can have to wait for the next tick of the kernel's clock, some milliseconds. So such a program goes to the background:
//! it keeps to the last few processors, as many as the quotas of all programs in the background add up to (`cpuset.cpus`), so that it
//! loses nothing while others rest; the kernel takes the processor from it whenever anybody else wants it (`cpu.idle`); and its quota
//! is counted over a longer span, since each new span is a moment in which the kernel may let it go first all the same. What the
//! kernel does not have is left out.
//!
//! What starts again and again is noise, too: a program starts in the background when its last run ended there, or was short. As
//! long as it has no quota, that is until it is ready, it only keeps to its processors: somebody else's work on a busy machine must
//! not hold up its start for ever.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::group::{Group, Place, quota_and_period, write};

/// Time between two looks at the programs of a host: two or three of the spans that quotas are counted over.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks in a row at which a program has to be content with its time before it leaves the background: ten seconds.
const CALM_LOOKS: u32 = 200;

/// How long the end of a short run, or of one in the background, is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The span that the quota of a program in the background is counted over, in microseconds, where its own is not that long: the
/// kernel's default.
const LONG_SPAN_US: u64 = 100_000;

/// A run that ended sooner was short.
const SHORT_RUN: Duration = Duration::from_secs(10);

/// Spans that are judged together.
const JUDGED_SPANS: u64 = 2;

/// Looks after which spans are counted anew: enough for two of the longest ones.
const JUDGED_LOOKS: u32 = 5;

/// Of the spans that are judged together, a hungry program is held back in every second one at least.
const HELD_BACK_SHARE: u64 = 2;

/// Spans in a row, of twenty milliseconds mostly, in which a program has to be hungry. One that works off what
/// has piled up before it is held back in some, and must not be put behind others for that, which would make more pile up.
const HUNGRY_SPANS: u64 = 10;

/// Who of a host's programs is in the background.
#[derive(Debug)]
pub(super) struct Background {
    processors: Vec<u32>,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    programs: BTreeMap<u64, Program>,
    /// The names of programs that are to start in the background, and when they ended.
    ended: HashMap<String, Instant>,
}

/// One program as it is seen here.
#[derive(Debug)]
struct Program {
    name: String,
    started: Instant,
    /// In percent of one processor, since it had one; an inspected program never has.
    quota: u32,
    /// Whether it has its quota now.
    restricted: bool,
    counters: Option<File>,
    cpu: Option<Place>,
    idle: Option<PathBuf>,
    cpus: Option<Cpus>,
    appetite: Appetite,
}

/// The file that says on which processors a program runs.
#[derive(Debug)]
struct Cpus {
    path: PathBuf,
    unified: bool,
}

/// What the kernel counts of a quota: the spans that have passed, and those in which the program was held back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    spans: u64,
    held_back: u64,
}

/// Whether a program always wants more processor time than it may have.
#[derive(Debug, Default)]
struct Appetite {
    background: bool,
    /// What had been counted when it was judged last, and the looks since then.
    judged: Counted,
    looks: u32,
    /// Spans in a row in which it was hungry.
    hungry: u64,
    /// Looks since it was so for long.
    calm: u32,
}

impl Background {
    /// `processors` is the kernel's list of those that programs may have.
    pub(super) fn new(processors: Option<&str>) -> Self {
        let processors = processors.and_then(parse_list).unwrap_or_default();
        Self { processors, members: Mutex::default() }
    }

    pub(super) fn add(&self, number: u64, name: &str, group: &Group) {
        let cpu = group.place("cpu").cloned();
        let there = |path: PathBuf| path.exists().then_some(path);
        let cpus = group
            .place("cpuset")
            .map(|place| Cpus { path: place.path.join("cpuset.cpus"), unified: place.unified });
        let program = Program {
            name: name.to_owned(),
            started: Instant::now(),
            quota: 0,
            restricted: false,
            counters: cpu.as_ref().and_then(|place| File::open(place.path.join("cpu.stat")).ok()),
            idle: cpu.as_ref().and_then(|place| there(place.path.join("cpu.idle"))),
            cpu,
            cpus,
            appetite: Appetite::default(),
        };
        let mut members = self.lock();
        members.programs.insert(number, program);
        if members.ended.remove(name).is_some_and(|ended| ended.elapsed() < REMEMBERED)
            && let Some(program) = members.programs.get_mut(&number)
        {
            program.appetite.background = true;
            self.place(&members, Some(number));
        }
    }

    /// Notes that a program has a quota now, in percent of one processor, or has none any more.
    pub(super) fn set_quota(&self, number: u64, percent: Option<u32>) {
        let mut members = self.lock();
        let Some(program) = members.programs.get_mut(&number) else { return };
        program.quota = percent.unwrap_or(program.quota);
        program.restricted = percent.is_some();
        if program.appetite.background {
            self.place(&members, Some(number));
        }
    }

    pub(super) fn remove(&self, number: u64) {
        let mut members = self.lock();
        members.ended.retain(|_, ended| ended.elapsed() < REMEMBERED);
        let Some(program) = members.programs.remove(&number) else { return };
        let was_short = program.quota > 0 && program.started.elapsed() < SHORT_RUN;
        if program.appetite.background || was_short {
            members.ended.insert(program.name, Instant::now());
        }
        if program.appetite.background {
            self.place(&members, None);
        }
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.lock().programs.get(&number).is_some_and(|program| program.appetite.background)
    }

    pub(super) fn balance(&self) -> Vec<(String, bool)> {
        let mut members = self.lock();
        let look = |(number, program): (&u64, &mut Program)| {
            let counted = program.counted()?;
            program.appetite.look(counted).then_some(*number)
        };
        let moved: Vec<u64> = members.programs.iter_mut().filter_map(look).collect();
        moved.iter().for_each(|number| self.place(&members, Some(*number)));
        let said =
            |number: &u64| members.programs.get(number).map(|it| (it.name.clone(), it.appetite.background));
        moved.iter().filter_map(said).collect()
    }

    /// Tells the kernel where `moved` belongs now, and on which processors everybody in the background runs. What the kernel
    /// refuses, because the program has just ended or the machine does not allow it, is no loss to anybody but neighbours.
    fn place(&self, members: &Members, moved: Option<u64>) {
        let all = members.programs.values();
        let quota: u32 = all.filter(|it| it.appetite.background).map(|it| it.quota).sum();
        let last = last_of(&self.processors, quota);
        for (number, program) in &members.programs {
            let is_moved = moved == Some(*number);
            if is_moved {
                program.give_way(program.appetite.background && program.restricted);
            }
            if let Some(cpus) = &program.cpus
                && !self.processors.is_empty()
                && (is_moved || program.appetite.background)
            {
                let list = match (program.appetite.background, cpus.unified) {
                    (true, _) => words_of(last),
                    (false, false) => words_of(&self.processors),
                    // Nothing said: those of the group above.
                    (false, true) => "\n".to_owned(),
                };
                let _ = write(&cpus.path, &list);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Program {
    /// Whether the kernel takes the processor from it when anybody else wants it.
    fn give_way(&self, gives_way: bool) {
        if let Some(idle) = &self.idle {
            let _ = write(idle, if gives_way { "1" } else { "0" });
        }
        if let Some(cpu) = self.cpu.as_ref().filter(|_| self.restricted) {
            let (quota, span) = quota_and_period(self.quota);
            let factor = if gives_way { (LONG_SPAN_US / span).max(1) } else { 1 };
            // Version 1 takes the quota back before it sets another one, and must not be left at that.
            let _ = cpu.restrict((quota * factor, span * factor)).or_else(|_| cpu.restrict((quota, span)));
        }
    }

    fn counted(&self) -> Option<Counted> {
        let mut text = [0; 1024];
        let length = self.counters.as_ref()?.read_at(&mut text, 0).ok()?;
        Counted::parse(std::str::from_utf8(text.get(..length)?).ok()?)
    }
}

impl Counted {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        };
        Some(Self { spans: field("nr_periods")?, held_back: field("nr_throttled")? })
    }
}

impl Appetite {
    /// Takes what the kernel has counted up to now. Returns whether the program changes places.
    fn look(&mut self, now: Counted) -> bool {
        let spans = now.spans.saturating_sub(self.judged.spans);
        let held_back = now.held_back.saturating_sub(self.judged.held_back);
        self.looks += 1;
        if spans >= JUDGED_SPANS || self.looks >= JUDGED_LOOKS {
            let hungry = spans >= JUDGED_SPANS && held_back * HELD_BACK_SHARE >= spans;
            self.hungry = if hungry { self.hungry + spans } else { 0 };
            (self.judged, self.looks) = (now, 0);
        }
        let always = self.hungry >= HUNGRY_SPANS;
        self.calm = if always { 0 } else { self.calm.saturating_add(1) };
        let before = self.background;
        self.background = always || (before && self.calm < CALM_LOOKS);
        self.background != before
    }
}

/// The last processors, as many as it takes for this much processor time, and one at least.
fn last_of(processors: &[u32], percent: u32) -> &[u32] {
    let needed = percent.div_ceil(100).max(1) as usize;
    &processors[processors.len().saturating_sub(needed)..]
}

/// Reads a list of the kernel's, such as `0-3,8`.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut all: Vec<u32> = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

fn words_of(processors: &[u32]) -> String {
    processors.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(spans: u64, held_back: u64) -> Counted {
        Counted { spans, held_back }
    }

    /// Looks, in each of which so many spans pass; `true` for those after which the program has changed places.
    fn looks(appetite: &mut Watched, spans: u64, held_back: u64, looks: u32) -> Vec<bool> {
        let next = |_| {
            appetite.counted.spans += spans;
            appetite.counted.held_back += held_back;
            appetite.appetite.look(appetite.counted)
        };
        (0..looks).map(next).collect()
    }

    #[derive(Default)]
    struct Watched {
        appetite: Appetite,
        counted: Counted,
    }

    #[test]
    fn who_is_always_held_back_goes_to_the_background() {
        let mut appetite = Watched::default();
        assert_eq!(looks(&mut appetite, 2, 1, 6), [false, false, false, false, true, false]);
        assert!(appetite.appetite.background);
    }

    #[test]
    fn who_works_off_what_has_piled_up_stays() {
        let mut appetite = Watched::default();
        for _ in 0..10 {
            assert_eq!(looks(&mut appetite, 2, 2, 4), [false; 4]);
            assert_eq!(looks(&mut appetite, 2, 0, 1), [false]);
        }
        // Held back in every third span, for ever.
        assert!(!looks(&mut appetite, 3, 1, 100).contains(&true));
    }

    #[test]
    fn long_spans_are_judged_like_short_ones() {
        let mut appetite = Watched::default();
        // One span of two looks each, as a small quota has.
        for _ in 0..9 {
            assert_eq!(
                (looks(&mut appetite, 1, 1, 1), looks(&mut appetite, 0, 0, 1)),
                (vec![false], vec![false])
            );
        }
        assert_eq!(looks(&mut appetite, 1, 1, 1), [true]);
    }

    #[test]
    fn peaks_with_a_rest_between_them_are_peaks() {
        let mut appetite = Watched::default();
        for _ in 0..50 {
            assert_eq!(looks(&mut appetite, 1, 1, 1), [false]);
            assert!(!looks(&mut appetite, 0, 0, JUDGED_LOOKS).contains(&true));
        }
    }

    #[test]
    fn who_is_content_for_long_comes_back_and_may_go_again() {
        let mut appetite = Watched::default();
        looks(&mut appetite, 2, 2, 10);
        // The count of hungry spans ends with the first calm look; so does that of the calm ones with a hungry one.
        looks(&mut appetite, 2, 0, CALM_LOOKS - 1);
        looks(&mut appetite, 2, 2, 5);
        assert_eq!(looks(&mut appetite, 2, 0, CALM_LOOKS - 1), [false; CALM_LOOKS as usize - 1]);
        assert_eq!(looks(&mut appetite, 2, 0, 1), [true]);
        assert!(!appetite.appetite.background);
        assert!(looks(&mut appetite, 2, 2, 5)[4]);
    }

    #[test]
    fn both_versions_counters_are_read() {
        let v1 = "nr_periods 7\nnr_throttled 3\nthrottled_time 12\nnr_bursts 0\nburst_time 0\n";
        assert_eq!(Counted::parse(v1), Some(counted(7, 3)));
        let v2 = "usage_usec 9\nuser_usec 9\nsystem_usec 0\nnr_periods 4\nnr_throttled 1\nthrottled_usec 2\n";
        assert_eq!(Counted::parse(v2), Some(counted(4, 1)));
        assert_eq!(Counted::parse("usage_usec 9\n"), None);
    }

    #[test]
    fn the_background_has_as_many_processors_as_its_quotas_need() {
        let four = [0, 1, 2, 7];
        assert_eq!(last_of(&four, 25), [7]);
        assert_eq!(last_of(&four, 100), [7]);
        assert_eq!(last_of(&four, 125), [2, 7]);
        assert_eq!(last_of(&four, 900), four);
        assert_eq!(last_of(&[0], 25), [0]);
        assert_eq!(parse_list("0-2,7\n"), Some(four.to_vec()));
        assert_eq!(parse_list("\n"), None);
    }

    /// Two programs in directories that look like groups, version 1.
    fn two(place: &std::path::Path) -> Background {
        let background = Background::new(Some("0-3"));
        for (number, name) in [(1, "first"), (2, "second")] {
            let directory = place.join(name);
            std::fs::create_dir(&directory).unwrap();
            for (file, text) in [("cpu.stat", ""), ("cpu.idle", "0"), ("cpu.max", ""), ("cpuset.cpus", "0-3")]
            {
                std::fs::write(directory.join(file), text).unwrap();
            }
            let program = Program {
                name: name.to_owned(),
                started: Instant::now(),
                quota: 80,
                restricted: true,
                counters: Some(File::open(directory.join("cpu.stat")).unwrap()),
                cpu: Some(Place {
                    unified: true,
                    controllers: vec!["cpu".to_owned()],
                    path: directory.clone(),
                }),
                idle: Some(directory.join("cpu.idle")),
                cpus: Some(Cpus { path: directory.join("cpuset.cpus"), unified: false }),
                appetite: Appetite::default(),
            };
            background.lock().programs.insert(number, program);
        }
        background
    }

    fn count(place: &std::path::Path, name: &str, spans: u64, held_back: u64) {
        let text = format!("nr_periods {spans}\nnr_throttled {held_back}\n");
        std::fs::write(place.join(name).join("cpu.stat"), text).unwrap();
    }

    fn said(place: &std::path::Path, name: &str) -> [String; 2] {
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
        assert_eq!(background.balance(), [("first".to_owned(), true)]);
        assert_eq!(said(place, "first"), ["1", "3"]);
        assert_eq!(said(place, "second"), ["0", "0"]);
        // Two of them need more room, both of them get it; one alone needs less again.
        count(place, "second", 20, 10);
        assert_eq!(background.balance(), [("second".to_owned(), true)]);
        assert_eq!(
            (said(place, "first"), said(place, "second")),
            (["1", "2"].map(Into::into), ["1", "2"].map(Into::into))
        );
        background.remove(1);
        assert_eq!(said(place, "second"), ["1", "3"]);
        for _ in 0..CALM_LOOKS + JUDGED_LOOKS {
            background.balance();
        }
        assert_eq!(said(place, "second"), ["0", "0"]);
        assert!(!background.contains(2));
    }

    #[test]
    fn a_program_gives_way_only_while_it_has_a_quota() {
        let place = tempfile::tempdir().unwrap();
        let background = two(place.path());
        count(place.path(), "first", 10, 10);
        background.balance();
        let max = || std::fs::read_to_string(place.path().join("first/cpu.max")).unwrap();
        assert_eq!(max(), "80000 100000", "its span is longer");
        background.set_quota(1, None);
        assert_eq!(said(place.path(), "first"), ["0", "3"]);
        background.set_quota(1, Some(300));
        assert_eq!(said(place.path(), "first"), ["1", "1"]);
        assert_eq!(max(), "300000 100000");
    }
}
