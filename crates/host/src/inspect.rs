//! Inspection: running a program briefly, with nothing of value around it, to read its manifest.
//!
//! It happens once per content hash, so that grants, limits and settings are known before the first real start. The program
//! gets a throw-away data directory and a secret that nobody else has, and is killed as soon as its manifest is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use temps_protocol::PluginManifest;
use temps_store::StoreError;
use tokio::io::BufReader;
use tokio::sync::{Semaphore, watch};

use crate::artifacts::Artifact;
use crate::configuration::{ConfigSchema, SchemaError};
use crate::grants;
use crate::host::Shared;
use crate::places::remove_tree;
use crate::plugin::handshake::{Dialect, Excuse, Patience, ReadError};
use crate::plugin::logs::PluginLog;
use crate::plugin::process::{SpawnError, SpawnSpec};
use crate::sandbox::SandboxSpec;
use crate::secrets::Secret;
use crate::versions::Unsupported;

/// Inspections at the same time; each is a process, and a machine's start brings many at once.
const AT_ONCE: usize = 4;

/// How long one inspection counts among those at the same time; far longer than a program needs that is going to answer.
const FAIR_SHARE: Duration = Duration::from_secs(2);

/// Lines of stderr that go into the reason of a failure.
const LAST_WORDS: usize = 3;

/// How long a closed output waits for the exit that explains it.
const EXIT_EXPLAINS: Duration = Duration::from_secs(1);

/// Why a program could not be inspected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    /// It could not be started.
    #[error("it could not be started to read its manifest: {0}")]
    Spawn(#[from] SpawnError),
    /// Its manifest could not be read.
    #[error("{0}")]
    Read(String),
    /// The program was started without an output to read from.
    #[error("its output cannot be read")]
    NoOutput,
    /// It asks for limits that make no sense.
    #[error(
        "the manifest asks for {0}, which cannot be read; use for example memory_max \"512M\", cpu_quota \"50%\""
    )]
    BadLimit(String),
    /// What it declares as its configuration cannot be used.
    #[error(transparent)]
    BadConfig(#[from] SchemaError),
    /// It was written for a version that this host does not speak.
    #[error(transparent)]
    BadVersion(#[from] Unsupported),
    /// There was no place to run it in.
    #[error("there is no place to inspect it in: {0}")]
    Place(std::io::Error),
    /// The system has no randomness to give.
    #[error("no secret could be made: {0}")]
    Secret(getrandom::Error),
    /// The host ends.
    #[error("the host ends")]
    Ended,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InspectError {
    /// Whether trying again without a change of the file can help.
    #[must_use]
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, InspectError::Store(_) | InspectError::Place(_) | InspectError::Secret(_))
    }
}

/// Inspects programs, a few at a time.
#[derive(Debug)]
pub(crate) struct Inspector {
    permits: Semaphore,
    counter: AtomicU64,
}

impl Default for Inspector {
    fn default() -> Self {
        Self { permits: Semaphore::new(AT_ONCE), counter: AtomicU64::new(0) }
    }
}

impl Inspector {
    /// The manifest of a program: remembered from an earlier inspection of the same content, or read now.
    pub(crate) async fn inspect(
        &self,
        shared: &Shared,
        artifact: &Artifact,
    ) -> Result<Arc<PluginManifest>, InspectError> {
        if let Some(known) = remembered(shared, &artifact.hash).await? {
            return Ok(known);
        }
        let told = shared.shutdown.told();
        let permit = tokio::select! {
            // The semaphore is never closed.
            permit = self.permits.acquire() => permit.ok(),
            () = told.cancelled() => return Err(InspectError::Ended),
        };
        let label = self.counter.fetch_add(1, Ordering::Relaxed);
        let scratch = shared.places.scratch(label).map_err(InspectError::Place)?;
        let read = {
            let running = run_once(shared, artifact, &scratch, label);
            tokio::pin!(running);
            // A program that says nothing only waits, and waiting costs nothing: it makes room for the next one.
            match tokio::time::timeout(FAIR_SHARE, &mut running).await {
                Ok(read) => read,
                Err(_) => {
                    drop(permit);
                    running.await
                }
            }
        };
        if let Err(error) = remove_tree(&scratch) {
            tracing::warn!(path = %scratch.display(), %error, "the place of an inspection stays");
        }
        let manifest = read?;
        if let Some(bad) = grants::wishes(&manifest).into_iter().find(|wish| wish.is_unreadable()) {
            return Err(InspectError::BadLimit(bad.value));
        }
        ConfigSchema::of(&manifest)?;
        shared.versions.accept(&manifest)?;
        let json = serde_json::to_value(&*manifest).unwrap_or_default();
        shared.store.put_inspection(&artifact.hash, json).await?;
        Ok(manifest)
    }
}

/// An earlier inspection counts only while its manifest still passes today's rules.
async fn remembered(shared: &Shared, hash: &str) -> Result<Option<Arc<PluginManifest>>, StoreError> {
    let known = shared.store.inspection(hash).await?;
    let manifest = known.and_then(|json| serde_json::from_value::<PluginManifest>(json).ok());
    let holds = |manifest: &PluginManifest| {
        manifest.check().is_ok()
            && ConfigSchema::of(manifest).is_ok()
            && shared.versions.accept(manifest).is_ok()
    };
    Ok(manifest.filter(holds).map(Arc::new))
}

async fn run_once(
    shared: &Shared,
    artifact: &Artifact,
    scratch: &std::path::Path,
    label: u64,
) -> Result<Arc<PluginManifest>, InspectError> {
    let data = scratch.join("data");
    crate::places::make_private(&data).map_err(InspectError::Place)?;
    let sandbox = SandboxSpec::of_inspection(&shared.config());
    let user =
        shared.launcher.machine().has_users(&sandbox.policies).then(|| shared.users.of_inspection(label));
    for path in [scratch, &data] {
        user.map_or(Ok(()), |user| crate::sandbox::own(path, user)).map_err(InspectError::Place)?;
    }
    let secret = Secret::generate().map_err(InspectError::Secret)?;
    let spec = SpawnSpec {
        program: artifact.program.clone(),
        name: None,
        socket: scratch.join("plugin.sock"),
        secret: secret.clone(),
        data_dir: data.clone(),
        tmp_dir: data,
        sandbox: sandbox.as_user(user),
        egress: None,
        env: BTreeMap::new(),
    };
    let mut process = shared.launcher.spawn(&spec).await?;
    let (Some(stdout), Some(stderr)) = (process.take_stdout(), process.take_stderr()) else {
        return Err(InspectError::NoOutput);
    };
    let words = PluginLog::in_memory();
    let listening = {
        let words = words.clone();
        tokio::spawn(async move { words.drain(BufReader::new(stderr), "stderr", secret).await })
    };
    let (_never, suspended) = watch::channel(false);
    let patience =
        Patience { limit: shared.config().handshake_timeout, suspended, excuse: Excuse::default() };
    let mut stdout = BufReader::new(shared.tap.of_inspection(artifact, &spec.secret).over(stdout));
    let told = shared.shutdown.told();
    let read = tokio::select! {
        read = Dialect::default().read_manifest(&mut stdout, patience) => Some(read),
        () = told.cancelled() => None,
    };
    let closed = matches!(read, Some(Err(ReadError::Closed { .. })));
    // A program that closed its output is mostly ending by itself, and how it ends says more.
    let exit =
        if closed { tokio::time::timeout(EXIT_EXPLAINS, process.wait_exit()).await.ok() } else { None };
    process.kill();
    process.gone().await;
    // Everything that held stderr is gone with the process, so this ends.
    let _ = listening.await;
    read.ok_or(InspectError::Ended)?.map_err(|error| {
        let mut why = error.to_string();
        if let Some(exit) = exit {
            why = format!("it {} before its manifest was read ({why})", exit.describe());
        }
        let words = words.last_stderr(LAST_WORDS).join(" | ");
        if !words.is_empty() {
            why = format!("{why}; its last words: {words}");
        }
        InspectError::Read(why)
    })
}
