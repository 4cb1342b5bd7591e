//! Adoption: what the program leaves behind becomes a child of the launcher.

use std::io;

/// Makes this process the one that orphans below it are given to.
pub(super) fn become_one() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Whether this process is one.
pub(super) fn is_one() -> io::Result<bool> {
    Ok(rustix::process::child_subreaper()?.is_some())
}
