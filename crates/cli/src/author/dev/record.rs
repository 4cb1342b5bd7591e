//! The recording of a plugin's traffic, as a transcript of the specification: one step a line.
//!
//! Secrets were masked before they came here.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use temps_host::tap::Observed;

use crate::exit::Failure;

/// A file that grows with each step.
#[derive(Debug)]
pub(super) struct Recorder {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Recorder {
    /// Begins a new recording. A file that is there is not overwritten.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create_new(path).map_err(|error| failed(path, &error))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    /// Writes one step, at once, so that the recording is whole whenever it ends.
    pub(super) fn keep(&mut self, observed: &Observed) -> Result<(), Failure> {
        let written = writeln!(self.file, "{}", observed.step).and_then(|()| self.file.flush());
        written.map_err(|error| failed(&self.path, &error))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::other("not_recorded", format!("cannot record to {}: {error}", path.display()))
        .hint("--record wants the name of a new file, in a directory that can be written")
}
