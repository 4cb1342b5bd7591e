//! A view of control groups that begins at the program's own. It must come after joining them.

use std::io;

use rustix::thread::UnshareFlags;

use super::pid_namespace;

/// Enters a new namespace, whose top is the present group.
pub(super) fn enter() -> io::Result<()> {
    pid_namespace::unshare_flags(UnshareFlags::NEWCGROUP)
}
