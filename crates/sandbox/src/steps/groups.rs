//! The control groups that limit the program.

use std::io;
use std::path::{Path, PathBuf};

/// Moves this process, and with it all that it will start, into the groups.
pub(super) fn join(directories: &[PathBuf]) -> io::Result<()> {
    directories.iter().try_for_each(|directory| {
        move_into(directory).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", directory.display())))
    })
}

fn move_into(directory: &Path) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(directory.join("cgroup.procs"))?;
    // Zero stands for the process that writes.
    io::Write::write_all(&mut file, b"0")
}
