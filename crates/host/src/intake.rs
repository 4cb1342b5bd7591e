//! The intake: from files in the plugins directories to plugins with a name.
//!
//! One task looks at the directories, has files copied and inspected, decides who holds a name, and tells the plugins' actors.
//! It never waits for a plugin: copies and inspections run beside it and come back as messages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use temps_store::PluginRecord;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::artifacts::{ArtifactError, ArtifactStore};
use crate::discovery::{self, Change, Fingerprint, Now, RESCAN_EVERY, Seen, Watch};
use crate::host::Shared;
use crate::inspect::{InspectError, Inspector};
use crate::operate::OperateError;
use crate::plugin::PluginState;
use crate::plugin::actor::{Command, Control, Version};
use entry::Entry;

mod entry;
mod names;

/// Time between two looks while something is not still yet.
const UNSETTLED_LOOK: Duration = Duration::from_millis(250);

/// After a sign of change, so long until the look: an editor or a copy makes many signs at once.
const GATHER: Duration = Duration::from_millis(50);

/// Copies at the same time; they are bound by the disk.
const COPIES_AT_ONCE: usize = 2;

/// Orders and outcomes that may wait.
const QUEUE: usize = 64;

/// What operators tell the intake.
#[derive(Debug)]
pub(crate) enum Order {
    /// Give a name to another file that claims it.
    Adopt { name: String, file: Option<String>, by: String, reply: oneshot::Sender<Result<(), OperateError>> },
    /// Take a file up again though it did not change.
    Again(PathBuf),
}

/// Why a file was not taken up.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Copy(#[from] ArtifactError),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("the host ends")]
    Ended,
}

/// What the tasks beside the intake report.
enum Outcome {
    Inspecting,
    Done(Result<Version, TakeError>),
}

/// Time between two rounds of removing programs that nothing uses. They take room and nothing else, so there is no hurry.
const SWEEP_EVERY: Duration = RESCAN_EVERY;

/// What is known of one file.
struct File {
    /// Counts changes, so that an outcome of an earlier content is left out.
    generation: u64,
    taking: bool,
    /// Hash of its program, once it was copied.
    hash: Option<String>,
    standing: Standing,
}

enum Standing {
    /// Nothing is known yet, or it was refused: it is shown under its file name.
    Unnamed(Entry),
    /// It is the file of this plugin, and is shown there.
    Plugin(String),
    /// It claims a name that another file holds.
    Claims(Entry, Version),
}

pub(crate) struct Intake {
    shared: Shared,
    inspector: Arc<Inspector>,
    artifacts: Arc<ArtifactStore>,
    copies: Arc<Semaphore>,
    seen: BTreeMap<PathBuf, Seen>,
    files: BTreeMap<PathBuf, File>,
    /// Which file holds which name, and what a plugin's actor begins with; the actor has the record as it is later.
    records: BTreeMap<String, PluginRecord>,
    actors: BTreeMap<String, Control>,
    /// Files whose take-up failed for a reason that may pass.
    again: BTreeSet<PathBuf>,
    outcomes: mpsc::Sender<(PathBuf, u64, Outcome)>,
}

impl Intake {
    /// Starts the intake. The answer is where operators' orders go.
    ///
    /// # Errors
    /// What the store says when the known plugins cannot be read.
    pub(crate) async fn start(shared: &Shared) -> Result<mpsc::Sender<Order>, temps_store::StoreError> {
        let records = shared.store.plugins().await?;
        let (orders, to_do) = mpsc::channel(QUEUE);
        let (outcomes, done) = mpsc::channel(QUEUE);
        let intake = Self {
            shared: shared.clone(),
            inspector: Arc::default(),
            artifacts: Arc::new(ArtifactStore::open(shared.places.artifacts())),
            copies: Arc::new(Semaphore::new(COPIES_AT_ONCE)),
            seen: BTreeMap::new(),
            files: BTreeMap::new(),
            records: records.into_iter().map(|record| (record.name.clone(), record)).collect(),
            actors: BTreeMap::new(),
            again: BTreeSet::new(),
            outcomes,
        };
        shared.shutdown.spawn(intake.run(to_do, done));
        Ok(orders)
    }

    async fn run(
        mut self,
        mut to_do: mpsc::Receiver<Order>,
        mut done: mpsc::Receiver<(PathBuf, u64, Outcome)>,
    ) {
        let told = self.shared.shutdown.told();
        let mut watch = Watch::start();
        let mut rescan_at = Instant::now();
        // Not at once: until every file was taken up, programs of an earlier start look as if nobody used them.
        let mut sweep_at = Instant::now() + SWEEP_EVERY;
        loop {
            watch.keep_up(&self.shared.config().plugins_dirs);
            if Instant::now() >= rescan_at {
                rescan_at = Instant::now() + RESCAN_EVERY;
                watch.try_again();
                for path in std::mem::take(&mut self.again) {
                    discovery::tell_again(&mut self.seen, &path);
                }
            }
            self.look().await;
            if Instant::now() >= sweep_at && self.sweep().await {
                sweep_at = Instant::now() + SWEEP_EVERY;
            }
            let pause = if discovery::is_unsettled(&self.seen) {
                UNSETTLED_LOOK
            } else {
                rescan_at.saturating_duration_since(Instant::now())
            };
            tokio::select! {
                () = told.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = watch.wake.notified() => tokio::time::sleep(GATHER).await,
                Some(order) = to_do.recv() => self.order(order).await,
                Some((path, generation, outcome)) = done.recv() => self.outcome(path, generation, outcome).await,
            }
        }
    }

    async fn look(&mut self) {
        let directories = self.shared.config().plugins_dirs.clone();
        let scanned = tokio::task::spawn_blocking(move || discovery::scan(&directories)).await;
        let Ok(scan) = scanned else { return };
        let now = Now { instant: Instant::now(), wall: SystemTime::now() };
        let (seen, changes) = discovery::diff(&self.seen, &scan, now);
        self.seen = seen;
        for change in changes {
            match change {
                Change::Appeared(path) => self.appeared(path).await,
                Change::Take(path, fingerprint) => self.take(path, fingerprint),
                Change::Refuse(path, why) => {
                    self.next_generation(&path);
                    self.refused(&path, why).await;
                }
                Change::Gone(path) => self.gone(&path).await,
            }
        }
    }

    /// A new file: shown under the plugin whose name it holds, or else under its own.
    async fn appeared(&mut self, path: PathBuf) {
        if self.files.contains_key(&path) {
            return;
        }
        self.audit("plugin.discovered", None, json!({"file": path.to_string_lossy()}));
        let holds = self.records.values().find(|record| Path::new(&record.file) == path).cloned();
        let standing = match holds {
            Some(record) if self.actor(&record).is_some() => Standing::Plugin(record.name),
            _ => Standing::Unnamed(self.entry(&path)),
        };
        self.files.insert(path, File { generation: 0, taking: false, hash: None, standing });
    }

    fn next_generation(&mut self, path: &Path) -> u64 {
        let Some(file) = self.files.get_mut(path) else { return 0 };
        file.generation += 1;
        file.taking = false;
        file.generation
    }

    /// Copies and inspects a file, beside this task.
    fn take(&mut self, path: PathBuf, fingerprint: Fingerprint) {
        let generation = self.next_generation(&path);
        if let Some(file) = self.files.get_mut(&path) {
            file.taking = true;
        }
        let (shared, inspector) = (self.shared.clone(), Arc::clone(&self.inspector));
        let (artifacts, copies) = (Arc::clone(&self.artifacts), Arc::clone(&self.copies));
        let outcomes = self.outcomes.clone();
        self.shared.shutdown.spawn(async move {
            let told = shared.shutdown.told();
            let taking = async {
                let artifact = copy(&artifacts, &copies, path.clone(), fingerprint).await?;
                tokio::select! {
                    _ = outcomes.send((path.clone(), generation, Outcome::Inspecting)) => {}
                    () = told.cancelled() => return Err(TakeError::Ended),
                }
                let manifest = inspector.inspect(&shared, &artifact).await?;
                Ok(Version { artifact, manifest })
            };
            let taken: Result<Version, TakeError> = taking.await;
            if !told.is_cancelled() {
                let _ = outcomes.send((path, generation, Outcome::Done(taken))).await;
            }
        });
    }

    async fn outcome(&mut self, path: PathBuf, generation: u64, outcome: Outcome) {
        let is_present = self.files.get(&path).is_some_and(|file| file.generation == generation);
        if !is_present {
            return;
        }
        match outcome {
            Outcome::Inspecting => self.inspecting(&path).await,
            Outcome::Done(Ok(version)) => {
                let before = self.files.get(&path).and_then(|file| file.hash.clone());
                // A file that was looked at again and is what it was is no news.
                if before.as_ref() != Some(&version.artifact.hash) {
                    self.inspected(&path, &version);
                }
                self.done(&path, Some(version.artifact.hash.clone()));
                self.taken(&path, version).await;
            }
            Outcome::Done(Err(error)) => {
                self.done(&path, None);
                let passes = match &error {
                    TakeError::Copy(error) => error.is_passing(),
                    TakeError::Inspect(error) => error.is_passing(),
                    TakeError::Ended => true,
                };
                if passes {
                    self.again.insert(path.clone());
                }
                self.refused(&path, error.to_string()).await;
            }
        }
    }

    fn done(&mut self, path: &Path, hash: Option<String>) {
        if let Some(file) = self.files.get_mut(path) {
            file.taking = false;
            file.hash = hash;
        }
    }

    async fn inspecting(&mut self, path: &Path) {
        match self.files.get(path).map(|file| &file.standing) {
            Some(Standing::Plugin(name)) => {
                let name = name.clone();
                self.tell(&name, Command::Inspecting).await;
            }
            Some(Standing::Unnamed(entry) | Standing::Claims(entry, _)) => {
                entry.show(PluginState::Inspecting, None, None);
            }
            None => {}
        }
    }

    fn inspected(&self, path: &Path, version: &Version) {
        let manifest = &version.manifest;
        let detail = json!({
            "file": path.to_string_lossy(),
            "hash": version.artifact.hash,
            "version": manifest.version,
        });
        self.audit("plugin.inspected", Some(manifest.name.as_ref()), detail);
    }

    async fn refused(&mut self, path: &Path, why: String) {
        if let Some(Standing::Plugin(name)) = self.files.get(path).map(|file| &file.standing) {
            let name = name.clone();
            return self.tell(&name, Command::Unusable(why)).await;
        }
        tracing::warn!(file = %path.display(), reason = why, "a file was refused");
        self.audit("plugin.refused", None, json!({"file": path.to_string_lossy(), "reason": why}));
        let entry = self.entry(path);
        entry.show(PluginState::Refused, Some(why), None);
        if let Some(file) = self.files.get_mut(path) {
            file.standing = Standing::Unnamed(entry);
        }
    }

    async fn gone(&mut self, path: &Path) {
        self.again.remove(path);
        match self.files.remove(path).map(|file| file.standing) {
            Some(Standing::Plugin(name)) => self.tell(&name, Command::Gone).await,
            Some(Standing::Unnamed(entry) | Standing::Claims(entry, _)) => {
                self.audit("plugin.gone", None, json!({"file": path.to_string_lossy()}));
                self.shared.registry.remove(&entry.key);
            }
            None => {}
        }
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Again(path) => discovery::tell_again(&mut self.seen, &path),
            Order::Adopt { name, file, by, reply } => {
                let adopted = self.adopt(&name, file.as_deref(), &by).await;
                // The operator may have gone away.
                let _ = reply.send(adopted);
            }
        }
    }

    async fn tell(&self, name: &str, command: Command) {
        if let Some(control) = self.actors.get(name) {
            // An actor ends only with the host.
            let _ = control.commands.send(command).await;
        }
    }

    /// Removes programs that nothing runs, or would. Returns whether it could: not while a file is being looked at or taken up,
    /// since which program that leads to is not known yet. Nothing is taken up until it is done, for the same reason.
    async fn sweep(&self) -> bool {
        if discovery::is_unsettled(&self.seen) || self.files.values().any(|file| file.taking) {
            return false;
        }
        let mut used: BTreeSet<String> = BTreeSet::new();
        for file in self.files.values() {
            used.extend(file.hash.clone());
        }
        for control in self.actors.values() {
            used.extend(control.artifacts.borrow().iter().cloned());
        }
        let artifacts = Arc::clone(&self.artifacts);
        let swept = tokio::task::spawn_blocking(move || artifacts.sweep(|hash| used.contains(hash))).await;
        swept.is_ok()
    }

    fn audit(&self, kind: &'static str, plugin: Option<&str>, detail: serde_json::Value) {
        self.shared.audit.record(kind, plugin, "host", detail);
    }
}

async fn copy(
    artifacts: &Arc<ArtifactStore>,
    copies: &Semaphore,
    path: PathBuf,
    fingerprint: Fingerprint,
) -> Result<crate::artifacts::Artifact, TakeError> {
    // The semaphore is never closed.
    let _permit = copies.acquire().await;
    let artifacts = Arc::clone(artifacts);
    let copied = tokio::task::spawn_blocking(move || artifacts.take_up(&path, fingerprint)).await;
    Ok(copied.map_err(|_| TakeError::Ended)??)
}
