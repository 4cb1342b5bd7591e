//! Why a plugin's process could not be started, in words that say what to do.

use std::io;
use std::path::PathBuf;

use temps_sandbox::{Breach, ControlError, GroupsError, Layer, Refusal};

use super::{LAUNCH_TIMEOUT, MAX_SOCKET_PATH};

/// Why a plugin's process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The launcher itself cannot be started.
    #[error("the launcher {path} cannot be started: {source}")]
    Launcher {
        /// The launcher's executable.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A layer of the sandbox is required, and not to be had on this machine.
    #[error("it was not started: {0}")]
    Refused(#[from] Refusal),
    /// A layer of the sandbox was built, and the kernel shows that it is not in force. The plugin was not executed.
    #[error("it was not executed: {0}")]
    NotInForce(#[from] Breach),
    /// Its control group could not be made or used.
    #[error("its limits cannot be set: {0}; {remedy}, or set the policy of `memory`, `cpu` and `tasks` to `off`", remedy = Layer::Memory.remedy())]
    Group(#[from] GroupsError),
    /// A step on the way to the plugin failed.
    #[error("starting failed at the step {step}{}: {error}{}", of_layer(.layer), hint(.step, .error, .layer))]
    Step {
        /// Name of the step.
        step: String,
        /// The layer of the sandbox that it belongs to; `None` when everything had been built.
        layer: Option<Layer>,
        /// What happened there.
        error: String,
    },
    /// The launcher ended without a word.
    #[error("the launcher ended before the plugin was started; the plugin's log may have its last words")]
    LauncherEnded,
    /// The launcher took longer than 10 s.
    #[error("the launcher did not start the plugin within {} s; the machine may be overloaded", LAUNCH_TIMEOUT.as_secs())]
    Timeout,
    /// A path cannot be given to the plugin.
    #[error("the path {0:?} is not UTF-8; choose another place")]
    NotText(PathBuf),
    /// The socket's path is too long for the operating system.
    #[error(
        "the socket path {path} has {length} bytes, at most {MAX_SOCKET_PATH} are possible; choose a shorter run directory"
    )]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The launcher could not be told what to do.
    #[error("the launcher could not be told what to start: {0}")]
    Control(#[from] ControlError),
}

fn of_layer(layer: &Option<Layer>) -> String {
    layer.map(|layer| format!(" of the sandbox layer `{layer}`")).unwrap_or_default()
}

/// What to do about a step that failed, where that is known.
fn hint(step: &str, error: &str, layer: &Option<Layer>) -> String {
    match (step, layer) {
        ("execute", _) if error.contains("interpreter") => {
            "; if it is installed elsewhere, name its directory in sandbox.read_only_paths".to_owned()
        }
        ("root", _) => "; everything in sandbox.read_only_paths must exist".to_owned(),
        (_, Some(layer)) => format!("; {}, or set the layer's policy to `off`", layer.remedy()),
        _ => String::new(),
    }
}
