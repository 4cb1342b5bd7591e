//! What a plugin of a run writes: a line when it starts, and a line for each event as its way of handling it.
//!
//! A line is written and synced before the plugin says (or shows) that it handled the event, so what a plugin confirmed stands
//! in its ledger, however it ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// File name of a ledger in its plugin's data directory.
pub const FILE: &str = "ledger.jsonl";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which life of the plugin wrote it: the time at which that began, in milliseconds.
    pub life: u64,
    /// When it was written, in milliseconds since 1970.
    pub at: u64,
    /// The event that was handled; nothing in the line that says that a life began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// A ledger that is read as it grows.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    read_to: u64,
    /// All whole lines so far.
    pub lines: Vec<Line>,
    /// Lines that a kill cut short.
    pub torn: u64,
}

impl Ledger {
    /// The ledger in a plugin's data directory; it need not exist yet.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE), read_to: 0, lines: Vec::new(), torn: 0 }
    }

    /// Reads what was written since the last look. Returns how many lines came.
    ///
    /// # Errors
    /// What the file system says; a missing file is an empty one.
    pub fn look(&mut self) -> std::io::Result<usize> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.read_to))?;
        file.read_to_string(&mut text)?;
        // The last line may still be under way.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read_to += whole as u64;
        let before = self.lines.len();
        for line in text[..whole].lines().filter(|line| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(line) => self.lines.push(line),
                Err(_) => self.torn += 1,
            }
        }
        Ok(self.lines.len() - before)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_ledger_is_read_line_by_line_as_it_grows_and_torn_lines_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::new(dir.path());
        assert_eq!(ledger.look().unwrap(), 0);
        let mut file = File::create(dir.path().join(FILE)).unwrap();
        file.write_all(b"\n{\"life\":1,\"at\":1}\n{\"life\":1,\"at\":2,\"event\":\"a\"}\n{\"life\":1,\"a")
            .unwrap();
        assert_eq!(ledger.look().unwrap(), 2);
        file.write_all(b"\n{\"life\":2,\"at\":5}\n").unwrap();
        assert_eq!(ledger.look().unwrap(), 1);
        assert_eq!((ledger.torn, ledger.lines.len()), (1, 3));
        assert_eq!(ledger.lines[1].event.as_deref(), Some("a"));
    }
}
