//! A recording of a plugin's traffic: a transcript of the specification, one step a line.
//!
//! Secrets were masked before they came here.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::Failure;

/// A file that grows with each step.
#[derive(Debug)]
pub(crate) struct Recorder {
    path: PathBuf,
    file: BufWriter<File>,
    most: u64,
    kept: Kept,
}

/// What became of a recording.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Kept {
    /// The file.
    pub(crate) file: String,
    /// Steps in it.
    pub(crate) steps: u64,
    /// Steps that are missing in it, because they came faster than they could be kept.
    pub(crate) lost: u64,
    /// Its size.
    pub(crate) bytes: u64,
    /// Whether it ended because it was as large as it may be.
    pub(crate) full: bool,
}

impl Recorder {
    /// Begins a new recording of at most so many bytes. A file that is there is not overwritten, and nobody else may read it.
    pub(crate) fn create(path: &Path, most: u64) -> Result<Self, Failure> {
        let file = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| failed(path, &error))?;
        let kept = Kept { file: path.display().to_string(), ..Kept::default() };
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), most, kept })
    }

    /// Writes one step, at once, so that the recording is whole whenever it ends. `false` says that there is no room for it.
    pub(crate) fn keep(&mut self, step: &Value) -> Result<bool, Failure> {
        let line = format!("{step}\n");
        let bytes = self.kept.bytes + line.len() as u64;
        if bytes > self.most {
            self.kept.full = true;
            return Ok(false);
        }
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush());
        written.map_err(|error| failed(&self.path, &error))?;
        self.kept.bytes = bytes;
        match step["kind"] == "lost" {
            true => self.kept.lost += step["steps"].as_u64().unwrap_or_default(),
            false => self.kept.steps += 1,
        }
        Ok(true)
    }

    /// Says in the recording that steps are missing here.
    pub(crate) fn lose(&mut self, steps: u64) -> Result<bool, Failure> {
        self.keep(&json!({"from": "host", "kind": "lost", "steps": steps}))
    }

    /// What it has so far.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::other("not_recorded", format!("cannot record to {}: {error}", path.display()))
        .hint("a recording wants the name of a new file, in a directory that can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_ends_where_it_would_grow_too_large_and_counts_what_it_lost() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.jsonl");
        let mut recorder = Recorder::create(&path, 120).unwrap();
        assert!(recorder.keep(&json!({"from": "host", "kind": "ping"})).unwrap());
        assert!(recorder.lose(3).unwrap());
        assert!(
            !recorder.keep(&json!({"from": "plugin", "kind": "frame", "text": "x".repeat(100)})).unwrap()
        );
        let Kept { steps, lost, bytes, full, .. } = recorder.kept().clone();
        assert_eq!((steps, lost, full), (1, 3, true));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((text.len() as u64, text.lines().count()), (bytes, 2));
        assert!(Recorder::create(&path, 120).is_err(), "it is never overwritten");
    }
}
