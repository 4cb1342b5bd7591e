//! Where control groups are mounted, and where in them this process is. Read from two files of `/proc`, decided purely.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What enforces a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// Control groups, version 2.
    GroupV2,
    /// Control groups, version 1.
    GroupV1,
    /// A limit of the kernel for each process on its own.
    EachProcess,
}

impl Mechanism {
    /// Words for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mechanism::GroupV2 => "cgroup v2",
            Mechanism::GroupV1 => "cgroup v1",
            Mechanism::EachProcess => "rlimit (per process)",
        }
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) unified: bool,
    /// Controllers that version 1 has here; empty for version 2, whose file says which there are.
    pub(super) controllers: Vec<String>,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The directory of this process's own group.
    pub(super) own: PathBuf,
}

/// Finds all hierarchies from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(super) fn find(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let front: Vec<&str> = front.split(' ').collect();
        let back: Vec<&str> = back.split(' ').collect();
        let (Some(root), Some(mount), Some(kind)) = (front.get(3), front.get(4), back.first()) else {
            continue;
        };
        let unified = match *kind {
            "cgroup2" => true,
            "cgroup" => false,
            _ => continue,
        };
        let options: Vec<&str> = back.get(2).map(|all| all.split(',').collect()).unwrap_or_default();
        let Some((controllers, path)) = own_path(cgroup, unified, &options) else { continue };
        // A container often sees only a part of the hierarchy, mounted as if it were the whole.
        let below = Path::new(&path).strip_prefix(root).unwrap_or(Path::new(""));
        let mount = PathBuf::from(mount);
        if found.iter().any(|other| other.unified == unified && other.controllers == controllers) {
            continue;
        }
        found.push(Hierarchy { unified, controllers, own: mount.join(below), mount });
    }
    found
}

/// Which controllers a line of `/proc/self/cgroup` names, and the path in it, for the hierarchy with these mount options.
fn own_path(cgroup: &str, unified: bool, options: &[&str]) -> Option<(Vec<String>, String)> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        if unified {
            return names.is_empty().then(|| (Vec::new(), path.to_owned()));
        }
        let names: Vec<String> = names.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect();
        let here = !names.is_empty() && names.iter().all(|name| options.contains(&name.as_str()));
        here.then(|| (names, path.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_both_versions_is_understood() {
        let mountinfo = "\
33 32 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
39 32 0:35 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 32 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
42 32 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 1 0:40 / /tmp rw - tmpfs tmpfs rw";
        let cgroup = "4:memory:/own/deep\n1:cpu:/\n9:name=systemd:/\n0::/";
        let found = find(mountinfo, cgroup);
        assert_eq!(found.len(), 4);
        assert_eq!(found[1].controllers, ["memory"]);
        assert_eq!(found[1].own, Path::new("/sys/fs/cgroup/memory/own/deep"));
        assert!(found[3].unified && found[3].own == Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_part_that_is_mounted_as_the_whole_is_understood() {
        let mountinfo = "30 20 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw";
        let found = find(mountinfo, "0::/docker/abc/inner");
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/inner"));
        // The same in a group namespace, where both files already speak of the part.
        let found = find("30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "0::/");
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup"));
    }
}
