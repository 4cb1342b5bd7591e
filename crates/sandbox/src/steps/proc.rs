//! A `/proc` of the pid namespace.

use std::ffi::CStr;
use std::io;

use rustix::mount::MountFlags;

/// Processes of other users are not shown, the launcher's own among them.
const HIDDEN: &CStr = c"hidepid=2";

/// Mounts a new `/proc` over the old one. Machines that hide parts of `/proc` (containers) refuse it to ordinary users.
pub(super) fn mount() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, Some(HIDDEN))
        .or_else(|_| rustix::mount::mount("proc", "/proc", "proc", flags, None))?;
    Ok(())
}

/// Whether `/proc` belongs to this process's pid namespace: it then calls this process by the same number.
pub(super) fn is_own() -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().get().to_string();
    let is_first_of_namespace = own == "1";
    is_first_of_namespace
        && std::fs::read_link("/proc/self").is_ok_and(|shown| shown.as_os_str() == own.as_str())
}
