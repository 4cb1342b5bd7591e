//! A user namespace in which an ordinary user may make the other namespaces, while everybody stays who they are.

use std::io;

use super::{capabilities, pid_namespace};

/// Enters a new user namespace that maps one user and one group to themselves.
pub(super) fn enter(uid: u32, gid: u32) -> io::Result<()> {
    pid_namespace::unshare_flags(rustix::thread::UnshareFlags::NEWUSER)?;
    // The order is the kernel's: groups can be mapped by an ordinary user only after setgroups was given up.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    // The init is executed as an ordinary user and would lose what it needs to mount.
    capabilities::keep_for_init()
}
