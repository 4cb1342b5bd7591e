//! What a plugin's process holds, from the kernel's files.

use std::fs;

/// Open files, threads and resident memory of one process and its children.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) files: usize,
    pub(crate) tasks: usize,
    pub(crate) memory_kib: u64,
}

impl Usage {
    /// Of the process and everything that it started; `None` when it cannot be read.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let mut sum = Self::of_one(pid)?;
        for child in children(pid) {
            // A child may be gone meanwhile.
            if let Some(usage) = Self::of(child) {
                sum.files += usage.files;
                sum.tasks += usage.tasks;
                sum.memory_kib += usage.memory_kib;
            }
        }
        Some(sum)
    }

    fn of_one(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
            tasks: usize::try_from(number("Threads:")?).ok()?,
            memory_kib: number("VmRSS:")?,
        })
    }
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}
