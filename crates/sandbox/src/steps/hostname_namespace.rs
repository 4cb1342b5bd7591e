//! A host name of its own, which tells nothing of the machine.

use std::io;

use rustix::thread::UnshareFlags;

use super::pid_namespace;

/// What the program is told that its machine is called.
pub(super) const HOSTNAME: &str = "plugin";

/// Enters a new namespace and names it.
pub(super) fn enter() -> io::Result<()> {
    pid_namespace::unshare_flags(UnshareFlags::NEWUTS)?;
    Ok(rustix::system::sethostname(HOSTNAME.as_bytes())?)
}
