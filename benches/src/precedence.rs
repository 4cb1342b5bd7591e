//! Precedence over whatever else runs on the machine, for a section that looks for the last hundredth.
//!
//! Many machines have an agent that looks at every process once a second. Requests wait for it meanwhile, and the longer the more
//! processes there are: beside 64 that do nothing but sleep it already looks like noise of theirs. So the rig, with all of its plugins in
//! it, runs in a group of its own that comes before others. Among each other its processes have the same rights as ever.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups of version 1 weigh processes.
const HIERARCHY: &str = "/sys/fs/cgroup/cpu";

/// How the names of these groups begin. Not like those of a host: other hosts would take one for what a host has left, and end
/// what is in it.
const PREFIX: &str = "bench-of-temps-";

/// The greatest weight that the kernel takes.
const GREATEST_WEIGHT: &str = "262144";

/// This process is in a group that comes before others. It goes back, and the group goes away, when this is dropped.
pub(crate) struct Precedence {
    before: PathBuf,
    group: PathBuf,
}

impl Precedence {
    /// Takes precedence; nothing where the machine has no such groups, or this user may not make one.
    pub(crate) fn take() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mine = groups.lines().find_map(group_of_cpu)?;
        let before = Path::new(HIERARCHY).join(mine.trim_start_matches('/'));
        remove_left_ones(&before);
        let group = before.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        let taken = Self { before, group };
        fs::write(taken.group.join("cpu.shares"), GREATEST_WEIGHT).ok()?;
        move_to(&taken.group)?;
        Some(taken)
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        move_to(&self.before);
        let _ = fs::remove_dir(&self.group);
    }
}

/// Removes what interrupted runs have left. The kernel does not remove a group that somebody is in.
fn remove_left_ones(parent: &Path) {
    for left in directories(parent) {
        if left.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
            for below in directories(&left).chain([left]) {
                let _ = fs::remove_dir(below);
            }
        }
    }
}

fn directories(parent: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// The path in a line of `/proc/self/cgroup` that is about processor time.
fn group_of_cpu(line: &str) -> Option<&str> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    controllers.split(',').any(|controller| controller == "cpu").then_some(path)
}

fn move_to(group: &Path) -> Option<()> {
    fs::write(group.join("cgroup.procs"), "0").ok()
}
