//! A mount namespace, and mounts that stay in it.

use std::io;

use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

use super::pid_namespace;

/// Enters a new mount namespace, a copy of the present one.
pub(super) fn unshare() -> io::Result<()> {
    pid_namespace::unshare_flags(UnshareFlags::NEWNS)
}

/// Cuts the namespace's mounts off from the rest of the machine. Must precede every mount.
pub(super) fn make_private() -> io::Result<()> {
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}
