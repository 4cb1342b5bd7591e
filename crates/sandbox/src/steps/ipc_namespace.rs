//! Shared memory, semaphores and message queues of its own.

use std::io;

use rustix::thread::UnshareFlags;

use super::pid_namespace;

/// Enters a new namespace, in which there are none yet.
pub(super) fn enter() -> io::Result<()> {
    pid_namespace::unshare_flags(UnshareFlags::NEWIPC)
}
