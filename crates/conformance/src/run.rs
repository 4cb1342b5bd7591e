//! A run of the kit: the handshake first, then all scenes beside each other.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Map;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::check::{Check, Level};
use crate::patience::{Patience, Wait};
use crate::report::{Entry, Report, Sheet, Verdict};
use crate::scenes::{self, Scene, Stage};
use crate::settings;
use crate::subject::{Subject, SubjectError};

/// Scenes that run at a time. Each has a process of the plugin, and most of them wait most of the time.
const SCENES_AT_A_TIME: usize = 4;

/// What a run may be told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The plugin: an executable file, or a directory with an executable `plugin`.
    pub plugin: PathBuf,
    /// Only checks of these levels; all when empty.
    pub levels: Vec<Level>,
    /// Only checks of these clauses; all when empty.
    pub clauses: Vec<String>,
    /// Settings of the plugin, for those that the kit cannot make up.
    pub config: Map<String, serde_json::Value>,
    /// Paths of the plugin's own routes that answer `GET` with 200.
    pub routes: Vec<String>,
}

impl Options {
    fn wants(&self, check: &Check) -> bool {
        let level = self.levels.is_empty() || self.levels.contains(&check.level);
        let clause = self.clauses.is_empty() || self.clauses.iter().any(|clause| clause == check.clause);
        level && clause
    }
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A scene has ended.
    Ended(Ended),
    /// The plugin takes long to write a line.
    Waiting(Wait),
}

/// A scene that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The scene that has ended.
    pub scene: &'static str,
    /// Scenes that have ended, this one among them.
    pub done: usize,
    /// Scenes of this run.
    pub all: usize,
    /// Promises that were broken in it.
    pub failed: usize,
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// There is no plugin.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A file is no transcript.
    #[error(transparent)]
    Transcript(#[from] crate::transcript::TranscriptError),
    /// The kit has no place to work in.
    #[error("a directory for the run cannot be made: {0}")]
    Place(std::io::Error),
    /// A clause that is not there.
    #[error("PROTOCOL.md has no clause {0:?}; clauses are named like H-1")]
    UnknownClause(String),
    /// Settings that the kit cannot make up.
    #[error("the plugin needs settings for which no value can be made up: {}; give them with --config FILE", .0.join(", "))]
    Settings(Vec<String>),
}

/// Checks a plugin. `progress` is called after each scene, and when one waits for long.
///
/// # Errors
/// When there is nothing to check, or the kit itself cannot work. A plugin that does wrong is no error.
pub async fn run(options: &Options, mut progress: impl FnMut(Progress)) -> Result<Report, KitError> {
    if let Some(unknown) = options.clauses.iter().find(|id| crate::clauses::clause(id).is_none()) {
        return Err(KitError::UnknownClause(unknown.clone()));
    }
    let begin = Instant::now();
    // In /tmp by name, because a socket's path has at most 107 bytes and TMPDIR may be long.
    let home = tempfile::Builder::new().prefix("temps-test-").tempdir_in("/tmp").map_err(KitError::Place)?;
    let subject = Subject::copied(&options.plugin, home.path())?;
    let wanted: Vec<&'static Scene> =
        scenes::ALL.iter().filter(|scene| scene.checks.iter().any(|check| options.wants(check))).collect();
    let all = wanted.len() + 1;

    let mut sheet = Sheet::new(scenes::HANDSHAKE_CHECKS);
    let (tell, mut waits) = mpsc::unbounded_channel();
    let places = Arc::new(Semaphore::new(SCENES_AT_A_TIME));
    let patience = Patience::telling(tell, Arc::clone(&places));
    let profile = {
        let mut meeting = pin!(scenes::meet(&subject, home.path(), &patience, &mut sheet));
        loop {
            tokio::select! {
                profile = &mut meeting => break profile,
                Some(wait) = waits.recv() => progress(Progress::Waiting(wait)),
            }
        }
    };
    let failed = sheet.has_failed();
    sheet.give_up("the handshake did not get as far");
    let mut entries = sheet.close();
    let scene = "handshake";
    progress(Progress::Ended(Ended { scene, done: 1, all, failed: count_failed(&entries) }));
    // After a broken handshake the others would only say the same again, for another reason.
    let Some(profile) = profile.filter(|_| !failed) else {
        for scene in wanted {
            let mut sheet = Sheet::new(scene.checks);
            sheet.give_up("the handshake failed; mend that first");
            entries.extend(sheet.close());
        }
        return Ok(report(options, options.plugin.display().to_string(), entries, begin));
    };
    let config = settings::make_up(profile.manifest.config.as_ref(), &options.config);
    let config = config.map_err(KitError::Settings)?;
    let stage = Arc::new(Stage {
        subject,
        profile,
        place: home.path().to_owned(),
        config,
        routes: options.routes.clone(),
        patience,
    });
    let mut scenes = play_all(&stage, &places, wanted);
    loop {
        tokio::select! {
            biased;
            Some(wait) = waits.recv() => progress(Progress::Waiting(wait)),
            ended = scenes.join_next() => {
                let Some(ended) = ended else { break };
                let Ok((scene, found)) = ended else { continue };
                let (done, failed) = (all - scenes.len(), count_failed(&found));
                progress(Progress::Ended(Ended { scene, done, all, failed }));
                entries.extend(found);
            }
        }
    }
    let profile = &stage.profile;
    let mut report = report(options, profile.manifest.name.clone(), entries, begin);
    report.version = Some(profile.manifest.version.clone());
    report.features = profile.ready.features.clone();
    report.channel = profile.channel;
    Ok(report)
}

type Played = (&'static str, Vec<Entry>);

fn play_all(stage: &Arc<Stage>, places: &Arc<Semaphore>, wanted: Vec<&'static Scene>) -> JoinSet<Played> {
    let mut tasks = JoinSet::new();
    for scene in wanted {
        let (stage, places) = (Arc::clone(stage), Arc::clone(places));
        tasks.spawn(async move {
            let _turn = places.acquire_owned().await;
            let mut sheet = Sheet::new(scene.checks);
            (scene.play)(&stage, &mut sheet).await;
            (scene.name, sheet.close())
        });
    }
    tasks
}

fn count_failed(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| matches!(entry.verdict, Verdict::Failed(_))).count()
}

/// The entries that were asked for, in the order of the checks.
fn report(options: &Options, plugin: String, mut entries: Vec<Entry>, begin: Instant) -> Report {
    entries.retain(|entry| {
        options.wants(&entry.check)
            || matches!(entry.verdict, Verdict::Failed(_)) && entry.check.name.starts_with("handshake.")
    });
    let order: Vec<&str> = crate::check::checks().map(|check| check.name).collect();
    entries.sort_by_key(|entry| order.iter().position(|name| *name == entry.check.name));
    Report::new(plugin, entries, begin.elapsed())
}
