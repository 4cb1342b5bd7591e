//! A plugin as a process: arguments, the two lines, signals, the host's death, the exit status.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use temps_protocol::PluginManifest;
use temps_protocol::limits::MAX_MANIFEST_BYTES;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::{Environment, Launch};
use crate::host_death::Parent;
use crate::life::{Life, LifeError};
use crate::log;
use crate::plugin::{ExternalPlugin, SharedPlugin};
use crate::socket::{self, SocketError};
use crate::stdout::HandshakePipe;

/// Exit status for arguments that are not those of a host.
const EXIT_USAGE: u8 = 2;

/// Threads for blocking work (names looked up, files read by tokio). Hosts count threads as tasks, and allow 64.
const MAX_BLOCKING_THREADS: usize = 8;

/// Mode of a data directory that the host did not make.
const DATA_DIR_MODE: u32 = 0o700;

/// Why a plugin could not run. Each is logged, and makes the exit status 1.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("standard output cannot be kept for the handshake: {0}")]
    Stdout(std::io::Error),
    #[error("the manifest breaks rules of the protocol: {0}")]
    Manifest(String),
    #[error("the plugin panicked while it told about itself: {0}")]
    Panic(String),
    #[error("the host does not read the handshake: {0}")]
    Handshake(std::io::Error),
    #[error("the runtime cannot be made: {0}")]
    Runtime(std::io::Error),
    #[error("signals cannot be listened to: {0}")]
    Signals(std::io::Error),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Life(#[from] LifeError),
}

/// Runs a plugin until it is told to end, and returns the exit status for `main`.
///
/// Status 0 is an orderly end (SIGTERM, SIGINT, the host's death), 1 a start that failed (the log says why), 2 wrong
/// arguments. From the first moment on standard output is kept for the handshake, and prints go to standard error.
pub fn run_plugin<P: ExternalPlugin>(plugin: P) -> ExitCode {
    let parent = Parent::remember();
    let pipe = HandshakePipe::claim();
    let launch = match Launch::parse(std::env::args_os().skip(1), Environment::read()) {
        Ok(launch) => launch,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "error: {e}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    log::init();
    let mut pipe = match pipe {
        Ok(pipe) => pipe,
        Err(e) => return failed(&RunError::Stdout(e)),
    };
    match run(Arc::new(plugin), &launch, parent, &mut pipe) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The reason stands in the log before the host learns that there is one.
            let status = failed(&e);
            pipe.refuse();
            status
        }
    }
}

fn failed(error: &RunError) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::FAILURE
}

fn run(
    plugin: SharedPlugin,
    launch: &Launch,
    parent: Parent,
    pipe: &mut HandshakePipe,
) -> Result<(), RunError> {
    let manifest = told(|| plugin.manifest())?;
    // The manifest goes first, before anything that may fail: a host that only looks at it needs nothing more.
    pipe.announce_manifest(&manifest_line(&manifest)?).map_err(RunError::Handshake)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
        .map_err(RunError::Runtime)?;
    let ended = runtime.block_on(live(plugin, &manifest, launch, parent, pipe));
    // Work that was left running must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Asks the plugin something outside of any hook; a panic there is an error like others.
fn told<T>(ask: impl FnOnce() -> T) -> Result<T, RunError> {
    catch_unwind(AssertUnwindSafe(ask)).map_err(|panic| RunError::Panic(log::describe(&*panic)))
}

fn manifest_line(manifest: &PluginManifest) -> Result<String, RunError> {
    manifest.check().map_err(|e| {
        RunError::Manifest(e.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    let line = manifest.to_line();
    if line.len() >= MAX_MANIFEST_BYTES {
        let message = format!("it has {} bytes; at most {MAX_MANIFEST_BYTES} are allowed", line.len());
        return Err(RunError::Manifest(message));
    }
    Ok(line)
}

async fn live(
    plugin: SharedPlugin,
    manifest: &PluginManifest,
    launch: &Launch,
    parent: Parent,
    pipe: &mut HandshakePipe,
) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    make_data_dir(&launch.data_dir);
    let (listener, _socket_file) = socket::bind(&launch.socket_path)?;
    let life = Life::begin(plugin, manifest, launch, listener, Arc::new(|_, _| {}))?;
    pipe.announce_ready(&told(|| life.ready())?).map_err(RunError::Handshake)?;
    tracing::info!(plugin = manifest.name, version = manifest.version, "ready");

    let mut failed = None;
    let stop = async {
        if let Err(e) = life.start().await {
            failed = Some(e);
            return;
        }
        std::future::pending::<()>().await;
    };
    let reason = tokio::select! {
        () = stop => "the start failed",
        name = signals.next() => name,
        () = parent.death() => "the host has died",
    };
    tracing::info!("ending: {reason}");
    tokio::select! {
        () = life.end() => {}
        name = signals.next() => tracing::warn!("ending at once: {name} came again"),
    }
    failed.map_or(Ok(()), |e| Err(e.into()))
}

/// Makes the data directory where the host did not. A plugin that needs none runs without, so this is no reason to end.
fn make_data_dir(path: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(DATA_DIR_MODE).create(path);
    if let Err(e) = made {
        tracing::warn!(path = %path.display(), "the data directory cannot be made ({e}); nothing can be kept");
    }
}

/// The two signals that end a plugin.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Signals);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
