//! Processes: what the kernel tells of each one below a launcher, summed up.
//!
//! Reading `/proc` and making sense of it are apart; the latter are functions of texts.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// What the processes of a plugin use. A part that could not be read of any one of them is not known at all: a sum without
/// it would look like less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Resources {
    /// Processor time, with that of children which ended and were waited for.
    pub(crate) cpu: Option<Duration>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) processes: Option<u32>,
    pub(crate) tasks: Option<u32>,
    pub(crate) descriptors: Option<u32>,
    /// Of the process that has the most.
    pub(crate) most_descriptors: Option<u32>,
    /// Of its data directory.
    pub(crate) disk_bytes: Option<u64>,
}

/// Measures all processes of a plugin: those in its control group, or those below its launcher where no group lists them. Those of the
/// launcher itself are left out, because a plugin's limits do not count them.
///
/// What the group counts by itself is not measured once more. Above all the kernel walks through all memory of a process to tell its
/// share; where there are many, others would notice that.
pub(crate) fn measure(launcher: u32, listed: Option<Vec<u32>>, counted: &temps_sandbox::Usage) -> Resources {
    let own = executable(launcher);
    let mut sum = Sum { memory_bytes: counted.memory.is_none().then_some(0), ..Sum::default() };
    for pid in listed.unwrap_or_else(|| temps_sandbox::descendants(launcher)) {
        if own.is_none() || executable(pid) != own {
            sum.add(pid);
        }
    }
    sum.finish().counted_by(counted)
}

/// The file that a process executes, by its device and its number there; a link to it may lead elsewhere in another root.
fn executable(pid: u32) -> Option<(u64, u64)> {
    let file = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((file.dev(), file.ino()))
}

impl Resources {
    /// The same with what the plugin's control group counts, which misses no process that came and went.
    #[must_use]
    fn counted_by(mut self, group: &temps_sandbox::Usage) -> Self {
        self.cpu = group.cpu_us.map(Duration::from_micros).or(self.cpu);
        self.memory_bytes = group.memory.or(self.memory_bytes);
        self
    }
}

/// What was read of one process: `Err` when it may not be read, `None` when the process is gone.
type Read<T> = Result<Option<T>, Unreadable>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unreadable;

#[derive(Debug)]
struct Sum {
    processes: u32,
    ticks: Option<u64>,
    tasks: Option<u32>,
    memory_bytes: Option<u64>,
    descriptors: Option<u32>,
    most_descriptors: u32,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            processes: 0,
            ticks: Some(0),
            tasks: Some(0),
            memory_bytes: Some(0),
            descriptors: Some(0),
            most_descriptors: 0,
        }
    }
}

impl Sum {
    fn add(&mut self, pid: u32) {
        let stat =
            text(pid, "stat").and_then(|text| text.map(|text| stat(&text).ok_or(Unreadable)).transpose());
        if stat.is_ok_and(|stat| stat.is_none_or(|stat| stat.ended)) {
            return;
        }
        self.processes += 1;
        add(&mut self.ticks, stat.map(|stat| stat.map(|stat| stat.ticks)));
        add(&mut self.tasks, stat.map(|stat| stat.map(|stat| stat.tasks)));
        if self.memory_bytes.is_some() {
            add(&mut self.memory_bytes, memory(pid));
        }
        let descriptors = descriptors(pid);
        if let Ok(Some(count)) = descriptors {
            self.most_descriptors = self.most_descriptors.max(count);
        }
        add(&mut self.descriptors, descriptors);
    }

    /// A plugin has a process as long as it runs; none that can be seen means that nothing can be seen.
    fn finish(self) -> Resources {
        if self.processes == 0 {
            return Resources::default();
        }
        let per_second = rustix::param::clock_ticks_per_second();
        let cpu = |ticks: u64| Duration::from_millis(ticks.saturating_mul(1000) / per_second.max(1));
        Resources {
            cpu: self.ticks.map(cpu),
            memory_bytes: self.memory_bytes,
            processes: Some(self.processes),
            tasks: self.tasks,
            descriptors: self.descriptors,
            most_descriptors: self.descriptors.map(|_| self.most_descriptors),
            disk_bytes: None,
        }
    }
}

trait Add: Copy {
    fn plus(self, more: Self) -> Self;
}

impl Add for u32 {
    fn plus(self, more: Self) -> Self {
        self.saturating_add(more)
    }
}

impl Add for u64 {
    fn plus(self, more: Self) -> Self {
        self.saturating_add(more)
    }
}

/// A process that is gone adds nothing; one that cannot be read makes the sum unknown.
fn add<T: Add>(sum: &mut Option<T>, more: Read<T>) {
    match more {
        Ok(None) => {}
        Ok(Some(more)) => *sum = sum.map(|sum| sum.plus(more)),
        Err(Unreadable) => *sum = None,
    }
}

fn text(pid: u32, file: &str) -> Read<String> {
    there(std::fs::read_to_string(format!("/proc/{pid}/{file}")))
}

/// Tells a process that is gone from one that may not be read.
fn there<T>(read: io::Result<T>) -> Read<T> {
    const NO_SUCH_PROCESS: i32 = 3;
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_SUCH_PROCESS) =>
        {
            Ok(None)
        }
        Err(_) => Err(Unreadable),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    /// Whether it only waits to be reaped.
    ended: bool,
    ticks: u64,
    tasks: u32,
}

/// Reads `/proc/PID/stat`.
fn stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, also parentheses: what follows the last one is fixed. The state is field 3
    // of the whole line and so 0 here.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = [14, 15, 16, 17].into_iter().map(number).sum::<Option<u64>>()?;
    let ended = matches!(*fields.first()?, "Z" | "X");
    Some(Stat { ended, ticks, tasks: u32::try_from(number(20)?).ok()? })
}

/// The proportional share of memory, or all resident memory where the kernel does not tell the share.
fn memory(pid: u32) -> Read<u64> {
    match text(pid, "smaps_rollup") {
        Ok(Some(text)) if proportional(&text).is_some() => Ok(proportional(&text)),
        Ok(None) => Ok(None),
        _ => match text(pid, "statm")? {
            Some(text) => resident(&text, rustix::param::page_size() as u64).map(Some).ok_or(Unreadable),
            None => Ok(None),
        },
    }
}

/// Reads `/proc/PID/smaps_rollup`.
fn proportional(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Reads `/proc/PID/statm`.
fn resident(text: &str, page_size: u64) -> Option<u64> {
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_size))
}

/// Kernels since 6.2 tell the number of descriptors as the size of their directory. Others have to list them.
fn descriptors(pid: u32) -> Read<u32> {
    let directory = format!("/proc/{pid}/fd");
    let count = match there(std::fs::metadata(&directory))? {
        Some(directory) if directory.len() > 0 => Some(directory.len()),
        _ => there(std::fs::read_dir(&directory))?.map(|entries| entries.count() as u64),
    };
    Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_of_the_program_is() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194560 900 0 0 0 100 20 3 4 20 0 7 0 5000 1 2 3";
        assert_eq!(stat(line), Some(Stat { ended: false, ticks: 127, tasks: 7 }));
        assert!(stat(&line.replace(") S", ") Z")).unwrap().ended);
        for damaged in ["", "42 (a", "42 (a) S 1", "42 (a) S 1 42 42 0 -1 1 1 1 1 1 x 20 3 4 20 0 7"] {
            assert_eq!(stat(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn memory_is_read_from_both_files() {
        let rollup = "5581a000-7ffd5000 ---p 00000000 00:00 0 [rollup]\nRss:   2000 kB\nPss:    1500 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(proportional(rollup), Some(1500 * 1024));
        assert_eq!(proportional("Rss: 1 kB\n"), None);
        assert_eq!(resident("1000 25 12 1 0 40 0\n", 4096), Some(25 * 4096));
        assert_eq!(resident("1000", 4096), None);
    }

    #[test]
    fn what_cannot_be_read_of_one_process_is_unknown_for_all() {
        let mut sum = Some(5_u64);
        add(&mut sum, Ok(Some(2)));
        add(&mut sum, Ok(None));
        assert_eq!(sum, Some(7));
        add(&mut sum, Err(Unreadable));
        add(&mut sum, Ok(Some(1)));
        assert_eq!(sum, None);
        assert_eq!(there::<()>(Err(io::ErrorKind::PermissionDenied.into())), Err(Unreadable));
        assert_eq!(there::<()>(Err(io::ErrorKind::NotFound.into())), Ok(None));
    }

    #[test]
    fn real_processes_are_measured_and_none_is_not_zero() {
        let counted_nothing = temps_sandbox::Usage::default();
        let mut shell =
            Command::new("sh").args(["-c", "sleep 600 & wait"]).stdin(Stdio::null()).spawn().unwrap();
        let found = loop {
            let found = measure(shell.id(), None, &counted_nothing);
            if found.processes == Some(1) {
                break found;
            }
            std::thread::yield_now();
        };
        assert!(found.memory_bytes.unwrap() > 0 && found.descriptors.unwrap() > 0, "{found:?}");
        assert_eq!(found.tasks, Some(1));
        assert!(found.cpu.is_some());
        // What a group lists and counts is taken from there.
        let counted = temps_sandbox::Usage { memory: Some(5), ..counted_nothing };
        let listed = vec![std::process::id(), temps_sandbox::descendants(shell.id())[0]];
        let more = measure(shell.id(), Some(listed), &counted);
        assert_eq!((more.processes, more.memory_bytes), (Some(2), Some(5)), "{more:?}");
        assert_eq!(descriptors(std::process::id()).unwrap().map(|count| count > 3), Some(true));
        while temps_sandbox::kill_descendants(shell.id()) > 0 {}
        shell.wait().unwrap();
        assert_eq!(measure(shell.id(), None, &counted_nothing), Resources::default());
    }
}
