//! A pid namespace for the children of this process.
#![expect(unsafe_code, reason = "unshare is marked unsafe for the sake of threads that share descriptors")]

use std::io;

use rustix::thread::UnshareFlags;

/// Puts the next child into a new pid namespace, as its first process.
pub(super) fn unshare() -> io::Result<()> {
    unshare_flags(UnshareFlags::NEWPID)
}

/// Leaves the namespaces in `flags` for new ones.
pub(super) fn unshare_flags(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the danger is FILES with other threads; this process has one thread, and no caller passes FILES.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Whether this process is the first of a pid namespace.
pub(super) fn is_first() -> bool {
    rustix::process::getpid().is_init()
}
