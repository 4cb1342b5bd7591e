//! The program's own session, and its death with the launcher.

use std::io;

use rustix::process::Signal;

/// Begins a session: a process group of its own and no terminal, so that neither a Ctrl-C nor a hangup reaches the program.
pub(super) fn begin() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Asks for SIGKILL when the thread that started this process ends. The launcher's main thread lives as long as the launcher.
pub(super) fn die_with_parent() -> io::Result<()> {
    let parent = rustix::process::getppid();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The launcher may have died before the line above; the signal would never come then.
    if parent != rustix::process::getppid() {
        return Err(io::Error::other("the launcher died first"));
    }
    Ok(())
}
