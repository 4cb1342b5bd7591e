//! The link to a running plugin: what exists from the moment it is connected until it stops.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use temps_protocol::{Feature, PluginManifest, PluginName, Ready};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::ChannelHandle;
use crate::secrets::Secret;
use crate::tap::PluginTap;

/// How a plugin's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited by itself, was killed by somebody else, failed its health checks, or lost its channel.
    Crashed,
    /// The host stopped it, for whatever reason, and it left.
    Stopped,
}

/// What the proxy and the deliveries need of a running plugin. A new one is made for each start.
#[derive(Debug)]
pub struct Link {
    /// Name of the plugin.
    pub name: PluginName,
    /// Which start this is, counted from 1 since the host started.
    pub incarnation: u64,
    /// Path of the plugin's socket.
    pub socket: PathBuf,
    /// Process ids (as the host sees them) that may answer on the socket are descendants of this one.
    pub launcher_pid: u32,
    /// The secret of this start; it proves to the plugin that a request comes from the host.
    pub secret: Secret,
    /// The manifest of this start.
    pub manifest: Arc<PluginManifest>,
    /// The ready line of this start.
    pub ready: Arc<Ready>,
    /// Features that both sides announced.
    pub features: Vec<Feature>,
    /// The channel; `None` for a plugin that has none.
    pub channel: Option<ChannelHandle>,
    /// Whether ready said that the plugin has a UI. The snapshot says whether one was found.
    pub has_ui: bool,
    /// Cancelled when the plugin no longer takes new work (draining, stopped, crashed).
    pub closed: CancellationToken,
    /// Who works with the plugin holds a token of it (`work.token()`), so that a stop can wait until they are done.
    pub work: TaskTracker,
    /// How the run ended; `None` before it did. The maker of the link holds the sender, and sets it once the plugin has
    /// exited (`closed` is cancelled by then). Deliveries send again what the plugin may have crashed on, one by one.
    pub ended: watch::Receiver<Option<Ended>>,
    /// Whether a crash at this moment is one event's fault: it alone is in flight. Deliveries keep it; such a crash does not
    /// count for quarantine.
    pub blames_an_event: Arc<AtomicBool>,
    /// Where the plugin's traffic can be watched.
    pub tap: PluginTap,
}
