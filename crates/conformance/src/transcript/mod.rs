//! Plays transcripts against a plugin: what the host did is done again, and what the plugin did is expected again, by shape.
//!
//! `read` has the format, `shape` says what counts as the same, `judge` which step something that came is, `wire` sends and
//! receives, `play` goes through a life: `act` has the host's steps, `expect` the plugin's. It knows the plugin by its process, its output and its socket, as the checks do.

mod act;
mod expect;
mod judge;
mod play;
mod read;
mod shape;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

use self::judge::Wrong;
use self::play::{Stop, Theatre};
use self::read::Transcript;
pub use self::read::TranscriptError;
use crate::life::Spawn;
use crate::run::KitError;
use crate::subject::Subject;

/// What is to be played.
#[derive(Debug, Clone, Default)]
pub struct PlayOptions {
    /// The plugin: an executable file, or a directory with an executable `plugin`.
    pub plugin: PathBuf,
    /// The transcripts, in the order in which they are played.
    pub transcripts: Vec<PathBuf>,
    /// Settings of the plugin, in the place of those that are masked in a recording.
    pub config: Map<String, Value>,
}

/// What came instead of a step of the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The line of the step that was expected; `None` when nothing was.
    pub line: Option<usize>,
    /// The kind of the step.
    pub step: &'static str,
    /// The field that differs; `None` when it is the step as a whole.
    pub field: Option<String>,
    /// What the transcript has.
    pub expected: String,
    /// What the plugin did.
    pub got: String,
}

/// How a transcript ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// The plugin did all that stands in it.
    Passed,
    /// The plugin did something else.
    Failed(Mismatch),
    /// It cannot be played to its end.
    NotRun {
        /// The line that cannot be played.
        line: usize,
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "failed",
            Outcome::NotRun { .. } => "not run",
        }
    }
}

/// One transcript and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Played {
    /// The file.
    pub transcript: String,
    /// Steps in it.
    pub steps: usize,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Played {
    /// What differs, in lines: where, what was expected, what came.
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        let file = &self.transcript;
        match &self.outcome {
            Outcome::Passed => None,
            Outcome::NotRun { line, reason } => Some(format!("{file}:{line}\n  not run:  {reason}")),
            Outcome::Failed(Mismatch { line, step, field, expected, got }) => {
                let line = line.map(|line| format!(":{line}")).unwrap_or_default();
                let field = field.as_ref().map(|field| format!("\n  field:    {field}")).unwrap_or_default();
                Some(format!("{file}{line} {step}{field}\n  expected: {expected}\n  got:      {got}"))
            }
        }
    }
}

/// All transcripts that were played against one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Playback {
    /// The plugin's path.
    pub plugin: String,
    /// Whether it did what stands in all of them.
    pub conformant: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Each transcript.
    pub transcripts: Vec<Played>,
}

impl Playback {
    /// The transcripts as JUnit XML, one test case for each.
    #[must_use]
    pub fn to_junit(&self) -> String {
        crate::junit::of_transcripts(self)
    }
}

/// Plays transcripts, one after the other. `progress` is told each one that has ended.
///
/// # Errors
/// When there is no plugin, or a file is no transcript. A plugin that does something else is no error.
pub async fn play(options: &PlayOptions, mut progress: impl FnMut(&Played)) -> Result<Playback, KitError> {
    let begin = Instant::now();
    let read = options.transcripts.iter().map(|path| Transcript::read(path));
    let transcripts = read.collect::<Result<Vec<_>, _>>()?;
    // In /tmp by name, because a socket's path has at most 107 bytes and TMPDIR may be long.
    let home = tempfile::Builder::new().prefix("temps-play-").tempdir_in("/tmp").map_err(KitError::Place)?;
    let subject = Subject::copied(&options.plugin, home.path())?;
    let mut all = Vec::new();
    for (number, (path, transcript)) in options.transcripts.iter().zip(&transcripts).enumerate() {
        let begin = Instant::now();
        let place = home.path().join(number.to_string());
        let outcome = one(&subject.program, &place, transcript, &options.config).await;
        let (file, took_ms) = (path.display().to_string(), milliseconds(begin));
        let played = Played { transcript: file, steps: transcript.steps, took_ms, outcome };
        progress(&played);
        all.push(played);
    }
    Ok(Playback {
        plugin: options.plugin.display().to_string(),
        conformant: all.iter().all(|played| played.outcome == Outcome::Passed),
        took_ms: milliseconds(begin),
        transcripts: all,
    })
}

async fn one(program: &Path, place: &Path, transcript: &Transcript, config: &Map<String, Value>) -> Outcome {
    for life in &transcript.lives {
        // A secret of its own for each life.
        let theatre = Theatre { program, config, base: Spawn::in_place(place, "") };
        match play::play(&theatre, life).await {
            Ok(()) => {}
            Err(Stop::Cannot(line, reason)) => return Outcome::NotRun { line, reason },
            Err(Stop::Wrong(Wrong { line, kind, field, expected, got })) => {
                let field = (!field.is_empty()).then_some(field);
                return Outcome::Failed(Mismatch { line, step: kind, field, expected, got });
            }
        }
    }
    Outcome::Passed
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
