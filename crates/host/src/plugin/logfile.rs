//! Log files on disk: one thread writes for all plugins, so that a slow disk never holds up a plugin's pipe.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::logline;
use crate::host::LogLine;

/// Name of the newest file; older ones are `log.1` to `log.4`.
pub(super) const CURRENT: &str = "log";

/// Files per plugin, the newest included.
const FILES: usize = 5;

/// Bytes after which a file is rotated.
const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;

/// Lines that may wait for the disk, over all plugins; more are left out of the files, not of the memory.
const QUEUE_LINES: usize = 8_192;

/// Open files that the thread keeps; plugins beyond them are opened anew for each line.
const OPEN_FILES: usize = 256;

/// Where log lines go to disk. Cheap to clone; the thread ends with the last clone.
#[derive(Debug, Clone)]
pub struct LogFiles {
    queue: SyncSender<Order>,
    directory: PathBuf,
}

#[derive(Debug)]
enum Order {
    Line(PathBuf, String),
    Flush(SyncSender<()>),
}

impl LogFiles {
    /// Starts the thread.
    #[must_use]
    pub fn start() -> Self {
        let (queue, orders) = sync_channel(QUEUE_LINES);
        let spawned = std::thread::Builder::new().name("plugin-logs".into()).spawn(move || run(&orders));
        if let Err(error) = spawned {
            tracing::error!(%error, "plugin logs are kept in memory only: the thread that writes them could not start");
        }
        Self { queue, directory: PathBuf::new() }
    }

    /// The files in one directory.
    pub(super) fn of(&self, directory: PathBuf) -> Self {
        Self { queue: self.queue.clone(), directory }
    }

    /// Queues a line. When the disk is too slow the line is left out of the file.
    pub(super) fn write(&self, line: &LogLine) {
        let order = Order::Line(self.directory.clone(), logline::to_json(line));
        if let Err(TrySendError::Full(_)) = self.queue.try_send(order) {
            tracing::debug!(directory = %self.directory.display(), "the disk is slow, a log line was left out of the file");
        }
    }

    /// Waits until everything queued so far is in the files. Blocks; for the end of the host.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Order::Flush(done)).is_ok() {
            // An error means that the thread has ended, and with it all writing.
            let _ = written.recv();
        }
    }
}

fn run(orders: &Receiver<Order>) {
    let mut open: std::collections::BTreeMap<PathBuf, (File, u64)> = std::collections::BTreeMap::new();
    for order in orders {
        match order {
            Order::Line(directory, line) => {
                if open.len() >= OPEN_FILES && !open.contains_key(&directory) {
                    open.clear();
                }
                if let Err(error) = append(&mut open, &directory, &line) {
                    open.remove(&directory);
                    tracing::debug!(%error, directory = %directory.display(), "a log line could not be written");
                }
            }
            Order::Flush(done) => drop(done),
        }
    }
}

fn append(
    open: &mut std::collections::BTreeMap<PathBuf, (File, u64)>,
    directory: &Path,
    line: &str,
) -> std::io::Result<()> {
    let full = open.get(directory).is_some_and(|(_, size)| *size >= MAX_FILE_BYTES);
    if full {
        open.remove(directory);
        rotate(directory)?;
    }
    if !open.contains_key(directory) {
        open.insert(directory.to_owned(), open_current(directory)?);
    }
    if let Some((file, size)) = open.get_mut(directory) {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        file.write_all(&bytes)?;
        *size += bytes.len() as u64;
    }
    Ok(())
}

fn open_current(directory: &Path) -> std::io::Result<(File, u64)> {
    crate::places::make_private(directory)?;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(directory.join(CURRENT))?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// `log.3` becomes `log.4`, and so on; the oldest is overwritten.
fn rotate(directory: &Path) -> std::io::Result<()> {
    for age in (1..FILES).rev() {
        let younger = if age == 1 { CURRENT.to_owned() } else { format!("{CURRENT}.{}", age - 1) };
        match std::fs::rename(directory.join(younger), directory.join(format!("{CURRENT}.{age}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_rotate_and_there_are_never_more_than_five() {
        let directory = tempfile::tempdir().unwrap();
        let mut open = std::collections::BTreeMap::new();
        let line = "x".repeat(2 * 1024 * 1024);
        for _ in 0..40 {
            append(&mut open, directory.path(), &line).unwrap();
        }
        let mut sizes: Vec<(String, u64)> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        sizes.sort();
        let names: Vec<&str> = sizes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["log", "log.1", "log.2", "log.3", "log.4"]);
        assert!(sizes.iter().all(|(_, size)| *size <= MAX_FILE_BYTES + 3 * 1024 * 1024), "{sizes:?}");
    }

    #[test]
    fn a_log_is_there_again_after_the_host_was_started_anew() {
        let directory = tempfile::tempdir().unwrap();
        let files = LogFiles::start();
        let open = || {
            super::super::logs::PluginLog::open(
                "hello",
                directory.path().join("hello"),
                &files,
                crate::metrics::Metrics::default(),
            )
        };
        open().say("warn", "before");
        files.flush();
        let (lines, _) = open().read(10);
        assert_eq!(
            lines.iter().map(|l| (l.level, l.message.as_str())).collect::<Vec<_>>(),
            [("warn", "before")]
        );
    }
}
