//! Capabilities across the launcher's own executions: the one that mounting needs goes with the init, none with the program.

use std::io;

use rustix::thread::CapabilitySet;

/// Keeps the capability to mount over the execution of the init.
pub(super) fn keep_mounting_over_exec() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable |= CapabilitySet::SYS_ADMIN;
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true)?;
    Ok(())
}

/// Lets no capability of this process over the next execution.
pub(super) fn keep_none_over_exec() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}
