//! The group of one program, in every hierarchy that the host has a place in.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::groups::{Groups, GroupsError};

/// The span over which the quota of processor time is counted, in microseconds. Over the kernel's own 100 ms, threads that compute
/// use the default quota up at one go, on all processors at once, and neighbours and the program itself then wait for long.
const PERIOD_US: u64 = 20_000;

/// The least quota that the kernel takes, in microseconds.
const LEAST_QUOTA_US: u64 = 1_000;

/// What the kernel is told for so many percent of one processor: the quota, and the span that it is counted over. Both in
/// microseconds.
pub(crate) fn quota_and_period(percent: u32) -> (u64, u64) {
    let percent = u64::from(percent.max(1));
    let period = PERIOD_US.max((LEAST_QUOTA_US * 100).div_ceil(percent));
    (period * percent / 100, period)
}

/// Rounds of killing what is in a group before it is left to the next sweep, and the pause between them. A killed process
/// needs a moment to go; one that waits for a disk may need longer than anybody wants to wait.
const END_ROUNDS: u32 = 200;
const END_PAUSE: Duration = Duration::from_millis(5);

/// The group of one program. Dropping it ends whatever is still in it and removes it.
#[derive(Debug)]
pub struct Group {
    places: Vec<Place>,
    groups: Groups,
    number: u64,
}

/// A group in one hierarchy.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) unified: bool,
    pub(super) controllers: Vec<String>,
    pub(super) path: PathBuf,
}

impl Place {
    /// Sets a quota of processor time and the span that it is counted over, both in microseconds.
    pub(super) fn restrict(&self, (quota, period): (u64, u64)) -> Result<(), GroupsError> {
        if self.unified {
            return write(&self.path.join("cpu.max"), &format!("{quota} {period}"));
        }
        // Version 1 takes one at a time. Between the two the program may have less than before and after, and never more.
        let files = [("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota)];
        let grows = number(&self.path.join("cpu.cfs_period_us")).is_none_or(|before| before <= period);
        let order = if grows { files } else { [files[1], files[0]] };
        order.iter().try_for_each(|(file, value)| write(&self.path.join(file), &value.to_string()))
    }
}

/// What a program uses. What this machine does not measure is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Memory of all its processes, in bytes, its temporary files among them. Copies of files that the kernel gives up when
    /// memory gets short are left out.
    pub memory: Option<u64>,
    /// Processor time since its start, in microseconds.
    pub cpu_us: Option<u64>,
    /// Processes and threads, the launcher's few among them.
    pub tasks: Option<u64>,
    /// How often it was held back because it had used up its processor time.
    pub throttled: Option<u64>,
    /// Whether it is served after all others, because it always uses its processor time up.
    pub background: bool,
}

impl Group {
    pub(super) fn new(groups: Groups, number: u64) -> Self {
        Self { places: Vec::new(), groups, number }
    }

    pub(super) fn add(&mut self, place: Place) {
        self.places.push(place);
    }

    /// The directories that the launcher joins.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        self.places.iter().map(|place| place.path.clone()).collect()
    }

    /// Restricts processor time, in percent of one processor. Without effect where no group can.
    ///
    /// # Errors
    /// [`GroupsError`] with the file that could not be written.
    pub fn apply_cpu_quota(&self, percent: u32) -> Result<(), GroupsError> {
        let Some(place) = self.place("cpu") else { return Ok(()) };
        place.restrict(quota_and_period(percent))?;
        self.groups.background().set_quota(self.number, Some(percent));
        Ok(())
    }

    /// Takes the restriction of processor time back.
    ///
    /// # Errors
    /// [`GroupsError`] with the file that could not be written.
    pub fn lift_cpu_quota(&self) -> Result<(), GroupsError> {
        self.groups.background().set_quota(self.number, None);
        match self.place("cpu") {
            Some(place) if place.unified => write(&place.path.join("cpu.max"), "max"),
            Some(place) => write(&place.path.join("cpu.cfs_quota_us"), "-1"),
            None => Ok(()),
        }
    }

    /// What the program uses now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let memory = self.place("memory").and_then(memory);
        let tasks = self.place("pids").and_then(|place| number(&place.path.join("pids.current")));
        let throttled =
            self.place("cpu").and_then(|place| field_of(&place.path.join("cpu.stat"), "nr_throttled"));
        Usage { memory, cpu_us: self.cpu_us(), tasks, throttled, background: self.is_in_background() }
    }

    /// Whether the program is served after all others now.
    #[must_use]
    pub fn is_in_background(&self) -> bool {
        self.groups.background().contains(self.number)
    }

    /// Notes that somebody asks the program to end: it can do so in time wherever it stands, and the next start is not taken for noise.
    pub fn stops(&self) {
        self.groups.background().stops(self.number);
    }

    /// How often the kernel ended a process of the group for want of memory; `None` where no group watches over memory.
    ///
    /// Version 1 counts failed charges in another file, and that one stays 0 when memory and swap have the same limit.
    #[must_use]
    pub fn out_of_memory_kills(&self) -> Option<u64> {
        let place = self.place("memory")?;
        let file = if place.unified { "memory.events" } else { "memory.oom_control" };
        field_of(&place.path.join(file), "oom_kill")
    }

    /// The file of a limit and what it says now; `None` where no group has it. That of processor time says the quota and the span
    /// that it is counted over; where version 1 has a file for each, the second one's number stands behind the first one's.
    #[must_use]
    pub fn limit(&self, layer: crate::Layer) -> Option<(&'static str, String)> {
        let (controller, v2, v1) = match layer {
            crate::Layer::Memory => ("memory", "memory.max", "memory.limit_in_bytes"),
            crate::Layer::Cpu => ("cpu", "cpu.max", "cpu.cfs_quota_us"),
            crate::Layer::Tasks => ("pids", "pids.max", "pids.max"),
            _ => return None,
        };
        let place = self.place(controller)?;
        let file = if place.unified { v2 } else { v1 };
        let read = |file: &str| Some(std::fs::read_to_string(place.path.join(file)).ok()?.trim().to_owned());
        let content = read(file)?;
        if file == "cpu.cfs_quota_us" {
            return Some((file, format!("{content} {}", read("cpu.cfs_period_us")?)));
        }
        Some((file, content))
    }

    /// Whether this process is in the group, in every hierarchy.
    #[must_use]
    pub fn contains(&self, pid: u32) -> bool {
        let is_in = |place| processes(place).is_some_and(|all| all.contains(&pid));
        self.places.iter().all(is_in)
    }

    /// All processes in the group; `None` where there is none.
    #[must_use]
    pub fn processes(&self) -> Option<Vec<u32>> {
        processes(self.places.first()?)
    }

    /// Sends SIGKILL to everything in the group, once.
    pub fn kill(&self) {
        for place in &self.places {
            kill(&place.path);
        }
    }

    /// Ends everything in the group and removes it. Blocks for a second at most; what cannot be ended then stays for the next
    /// sweep.
    pub fn end(&self) {
        for place in &self.places {
            end(&place.path);
        }
    }

    pub(super) fn set(&self, controller: &str, v2: &str, v1: &str, value: u64) -> Result<(), GroupsError> {
        let Some(place) = self.place(controller) else { return Ok(()) };
        write(&place.path.join(if place.unified { v2 } else { v1 }), &value.to_string())
    }

    /// Memory that was moved to disk is memory as well. Kernels without swap accounting lack these files.
    pub(super) fn without_swap(&self, memory_max: u64) -> Result<(), GroupsError> {
        let Some(place) = self.place("memory") else { return Ok(()) };
        let (file, value) =
            if place.unified { ("memory.swap.max", 0) } else { ("memory.memsw.limit_in_bytes", memory_max) };
        if place.path.join(file).exists() {
            write(&place.path.join(file), &value.to_string())?;
        }
        // A program that lost one of its processes is in no known state, so all of them go.
        if place.unified && place.path.join("memory.oom.group").exists() {
            write(&place.path.join("memory.oom.group"), "1")?;
        }
        Ok(())
    }

    fn cpu_us(&self) -> Option<u64> {
        self.places.iter().find_map(|place| {
            if place.unified {
                return field_of(&place.path.join("cpu.stat"), "usage_usec");
            }
            number(&place.path.join("cpuacct.usage")).map(|nanoseconds| nanoseconds / 1000)
        })
    }

    pub(super) fn place(&self, controller: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.controllers.iter().any(|c| c == controller))
    }
}

fn processes(place: &Place) -> Option<Vec<u32>> {
    let text = std::fs::read_to_string(place.path.join("cgroup.procs")).ok()?;
    // Version 1 may list one twice.
    let all: BTreeSet<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    Some(all.into_iter().collect())
}

impl Drop for Group {
    fn drop(&mut self) {
        self.groups.background().remove(self.number);
        self.end();
    }
}

/// Ends everything in a group and removes it. What cannot be ended in a second stays for the next sweep.
pub(super) fn end(path: &Path) {
    for _ in 0..END_ROUNDS {
        match std::fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            _ => return,
        }
        kill(path);
        std::thread::sleep(END_PAUSE);
    }
}

/// The kernel's own way where there is one; a process that forks cannot get away from it. Elsewhere one by one, and the
/// caller does it again until the group is empty.
fn kill(path: &Path) {
    if std::fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let Ok(all) = std::fs::read_to_string(path.join("cgroup.procs")) else { return };
    for pid in all.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), GroupsError> {
    // Files of groups are there or not; one that is not must not be made.
    let opened = std::fs::OpenOptions::new().write(true).open(path);
    let written = opened.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|source| GroupsError { path: path.to_owned(), source })
}

/// What would still be in use if the kernel gave up everything that it can.
fn memory(place: &Place) -> Option<u64> {
    let (used, idle) = if place.unified {
        ("memory.current", "inactive_file")
    } else {
        ("memory.usage_in_bytes", "total_inactive_file")
    };
    let used = number(&place.path.join(used))?;
    Some(used.saturating_sub(field_of(&place.path.join("memory.stat"), idle).unwrap_or_default()))
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field_of(path: &Path, name: &str) -> Option<u64> {
    field(&std::fs::read_to_string(path).ok()?, name)
}

/// The number behind a name, in a text of one name and one number a line.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::quota_and_period;

    #[test]
    fn every_percentage_is_a_quota_that_the_kernel_takes() {
        assert_eq!(quota_and_period(25), (5_000, 20_000));
        assert_eq!(quota_and_period(1), (1_000, 100_000));
        for percent in 1..=1_600 {
            let (quota, period) = quota_and_period(percent);
            assert!(quota >= 1_000 && (1_000..=1_000_000).contains(&period), "{percent}: {quota} {period}");
            let given = quota * 10_000 / period;
            assert!(given.abs_diff(u64::from(percent) * 100) <= 10, "{percent}: {quota} {period}");
        }
    }
}
