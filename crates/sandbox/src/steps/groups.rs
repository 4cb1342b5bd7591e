//! The control groups that limit the program.
//!
//! A process that moves from one group to another waits until the kernel is sure that nobody forks in that moment, which takes
//! some milliseconds. Two ways are free of that: to be born in a group (version 2), and to move one thread (version 1).
#![expect(unsafe_code, reason = "a process that is born in a group has no safe wrapper")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::Pid;

/// The file by which version 1 moves a thread; version 2 has none of this name.
const THREADS: &str = "tasks";

/// The processes of a group, in both versions.
const PROCESSES: &str = "cgroup.procs";

/// The kernel's number; the library's own constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Moves this process, and with it all that it will start, into the groups. It has one thread.
pub(super) fn join(directories: &[PathBuf]) -> io::Result<()> {
    directories.iter().try_for_each(|directory| {
        join_one(directory).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", directory.display())))
    })?;
    crate::limits::come_forward()
}

fn join_one(directory: &Path) -> io::Result<()> {
    if directory.join(THREADS).exists() {
        return move_into(&directory.join(THREADS));
    }
    let processes = directory.join(PROCESSES);
    if is_in(&processes)? { Ok(()) } else { move_into(&processes) }
}

fn move_into(file: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(file)?;
    // Zero stands for the one who writes.
    io::Write::write_all(&mut file, b"0")
}

/// Whether this process was born in the group. The kernel writes numbers as the reader knows them.
fn is_in(processes: &Path) -> io::Result<bool> {
    let own = rustix::process::getpid().to_string();
    Ok(std::fs::read_to_string(processes)?.lines().any(|line| line == own))
}

/// What came of a fork.
pub(crate) enum Forked {
    /// This is the new process.
    Child,
    /// This is the one that was there before.
    Parent(Pid),
}

/// Forks. The child is born in that one of the groups that is of version 2, where the kernel can do it; otherwise it has to
/// [`join`] that one as well.
///
/// # Safety
/// This process has one thread.
pub(crate) unsafe fn fork_into(directories: &[PathBuf]) -> io::Result<Forked> {
    let born = directories.iter().find(|directory| !directory.join(THREADS).exists());
    let group = born.and_then(|directory| {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        OpenOptions::new().read(true).custom_flags(flags).open(directory).ok()
    });
    // A kernel without the call, or one that forbids it, forks; what is wrong with the group is found when it is joined.
    // SAFETY: the caller's promise.
    if let Some(group) = group
        && let Ok(forked) = unsafe { clone_into(&group) }
    {
        return Ok(forked);
    }
    // SAFETY: the caller's promise.
    forked(libc::c_long::from(unsafe { libc::fork() }))
}

/// # Safety
/// This process has one thread.
unsafe fn clone_into(group: &File) -> io::Result<Forked> {
    // SAFETY: a structure of plain numbers, for which zeros are valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = group.as_raw_fd() as u64;
    // SAFETY: nothing is shared with the child, which goes on here with a copy of everything, as after a fork.
    forked(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) })
}

fn forked(result: libc::c_long) -> io::Result<Forked> {
    match result {
        0 => Ok(Forked::Child),
        -1 => Err(io::Error::last_os_error()),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::CHILD)?;
            Ok(Forked::Parent(pid))
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    #[test]
    fn a_child_that_cannot_be_born_in_a_group_is_forked_all_the_same() {
        let no_group = tempfile::tempdir().unwrap();
        let directories = [no_group.path().to_owned()];
        let group = File::open(no_group.path()).unwrap();
        // SAFETY: the kernel refuses; were there a child, it would only end.
        match unsafe { clone_into(&group) } {
            Err(_) => {}
            // SAFETY: a child that only ends needs none of the threads that it lacks.
            Ok(Forked::Child) => unsafe { libc::_exit(1) },
            Ok(Forked::Parent(_)) => panic!("a directory is no group"),
        }
        // SAFETY: as above.
        match unsafe { fork_into(&directories) }.unwrap() {
            // SAFETY: as above.
            Forked::Child => unsafe { libc::_exit(7) },
            Forked::Parent(child) => {
                let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
                assert_eq!(status.exit_status(), Some(7));
            }
        }
    }
}
