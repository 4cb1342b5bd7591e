//! What a process holds: descriptors, memory, tasks, and the processes that descend from it. Read from `/proc`.

use std::collections::BTreeSet;
use std::path::Path;

use temps_testkit::daemon::runs;

/// What this process holds at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauge {
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// Bytes that were written to and are shared with nobody: heap and stacks, without mapped files.
    pub(crate) private_bytes: usize,
    /// Tasks of the runtime that have not ended.
    pub(crate) tasks: usize,
    /// Children and their descendants, zombies among them.
    pub(crate) processes: usize,
}

impl Gauge {
    /// Reads it. To be called within the runtime.
    pub(crate) fn read() -> Self {
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            private_bytes: private_bytes(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            processes: descendants(std::process::id()).len(),
        }
    }
}

fn private_bytes() -> usize {
    let sums = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = sums.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// All processes that descend from one, zombies among them.
pub(crate) fn descendants(ancestor: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = processes().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = BTreeSet::from([ancestor]);
    loop {
        let before = found.len();
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            found.remove(&ancestor);
            return found;
        }
    }
}

/// All processes whose command line names something below a directory. Every plugin's does: its socket is there.
pub(crate) fn naming(directory: &Path) -> BTreeSet<u32> {
    let wanted = directory.to_str().unwrap();
    let names_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(wanted) && runs(u64::from(*pid))
    };
    processes().filter(names_it).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; the state and the parent follow it.
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}
