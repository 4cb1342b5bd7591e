//! Messages on disk: what was taken from the host is there after a crash.
//!
//! Each message is a file of its own, named by its place in the line. It is written and synced under a hidden name first, so a
//! crash leaves a whole message or none. It knows neither Slack nor the line in memory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use temps_plugin_sdk::prelude::tracing;

/// Largest message that is read back, in bytes. Slack takes far less.
const MAX_FILE: u64 = 256 * 1024;

const DIRECTORY: &str = "outbox";

/// A message, and the event that it tells of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Letter {
    /// Its place in the line.
    #[serde(skip)]
    pub(crate) place: u64,
    /// Id of the event. The host sends an event again when its ack was lost; one letter is enough.
    pub(crate) event_id: String,
    /// The message.
    pub(crate) message: Value,
}

/// A directory of letters. By default there is none, and letters live in memory only.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    directory: Option<PathBuf>,
    next: u64,
}

impl Spool {
    /// Opens the spool of a data directory, and reads what is left from before, in its order. A file that cannot be read is
    /// set aside under another name, so that it neither stops the others nor is lost.
    pub(crate) fn open(data_dir: &Path) -> io::Result<(Self, Vec<Letter>)> {
        let directory = data_dir.join(DIRECTORY);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut letters = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') {
                // A write that a crash broke off; the host sends the event again.
                fs::remove_file(&path)?;
                continue;
            }
            let Some(place) = name.strip_suffix(".json").and_then(|place| place.parse().ok()) else {
                continue;
            };
            match read(&path) {
                Ok(letter) => letters.push(Letter { place, ..letter }),
                Err(error) => {
                    tracing::error!(path = %path.display(), "a message cannot be read, and is set aside: {error}");
                    fs::rename(&path, path.with_extension("unreadable"))?;
                }
            }
        }
        letters.sort_by_key(|letter| letter.place);
        let next = letters.last().map_or(0, |letter| letter.place + 1);
        Ok((Self { directory: Some(directory), next }, letters))
    }

    /// Writes a message; it is on disk when this returns.
    pub(crate) fn add(&mut self, event_id: &str, message: Value) -> io::Result<Letter> {
        let letter = Letter { place: self.next, event_id: event_id.to_owned(), message };
        if let Some(directory) = &self.directory {
            let hidden = directory.join(".part");
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&hidden)?;
            file.write_all(serde_json::to_string(&letter)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&hidden, path_of(directory, letter.place))?;
            File::open(directory)?.sync_all()?;
        }
        self.next += 1;
        Ok(letter)
    }

    /// Forgets a message that was posted or given up. When that fails it is posted again after the next start, which is said.
    pub(crate) fn remove(&self, letter: &Letter) {
        let Some(directory) = &self.directory else { return };
        if let Err(error) = fs::remove_file(path_of(directory, letter.place)) {
            tracing::warn!("a message that is done stays on disk, and may be posted again: {error}");
        }
    }
}

fn read(path: &Path) -> io::Result<Letter> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::other("it is too large to be a message"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Places have one width, so that a listing of the directory is in order.
fn path_of(directory: &Path, place: u64) -> PathBuf {
    directory.join(format!("{place:020}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_added_is_there_after_a_crash_in_its_order_and_what_was_removed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, before) = Spool::open(dir.path()).unwrap();
        assert!(before.is_empty());
        let letters: Vec<Letter> =
            (0..12).map(|n| spool.add(&format!("e{n}"), json!({"n": n})).unwrap()).collect();
        spool.remove(&letters[3]);
        fs::write(dir.path().join("outbox/.part"), "{ half").unwrap();
        let (mut spool, after) = Spool::open(dir.path()).unwrap();
        let wanted: Vec<Letter> = letters.iter().filter(|letter| letter.place != 3).cloned().collect();
        assert_eq!(after, wanted);
        assert!(spool.add("later", json!(1)).unwrap().place > after.last().unwrap().place);
    }

    #[test]
    fn a_damaged_message_is_set_aside_and_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(dir.path()).unwrap();
        let (first, second) = (spool.add("a", json!(1)).unwrap(), spool.add("b", json!(2)).unwrap());
        fs::write(path_of(&dir.path().join("outbox"), first.place), "{ half").unwrap();
        assert_eq!(Spool::open(dir.path()).unwrap().1, [second]);
        assert!(dir.path().join("outbox/00000000000000000000.unreadable").exists());
    }
}
