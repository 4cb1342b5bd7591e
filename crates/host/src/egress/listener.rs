//! The host's end of a plugin's way out: a socket in the plugin's own directory, at which only its processes are served.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::resolve::Resolver;
use super::settings::PluginEgress;
use super::told::{Refused, Told};
use crate::audit::Audit;
use crate::grants::Grants;
use crate::metrics::Metrics;
use crate::plugin::logs::PluginLog;

/// File name of the socket, beside the plugin's own.
pub(crate) const EGRESS_SOCKET: &str = "egress.sock";

/// Connections of one plugin to hosts outside, at a time.
const MAX_CONNECTIONS: usize = 32;

/// Everything else that may be asked at a time: names, and connections that are told that there is no room.
const SPARE: usize = 64;

/// Pause after a connection could not be accepted: the process has no free descriptors, and gets some soon or not at all.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket, listening.
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

/// What all connections of one plugin share.
pub(crate) struct Context {
    pub(crate) plugin: String,
    pub(crate) grants: watch::Receiver<Arc<Grants>>,
    pub(crate) set: PluginEgress,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) audit: Audit,
    pub(crate) metrics: Metrics,
    pub(crate) log: PluginLog,
}

/// The same with what only this room keeps.
pub(super) struct Door {
    pub(super) of: Context,
    /// Places for connections.
    pub(super) room: Semaphore,
    /// Cancelled when all connections are to end.
    pub(super) closing: CancellationToken,
    told: Mutex<Told>,
}

impl Listener {
    /// Listens at `path`, where nothing may lie. Connections wait until [`Listener::serve`] looks at them.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::bind(path)?, path: path.to_owned() })
    }

    /// Serves the processes below `launcher` until `over`. No connection is left then.
    pub(crate) async fn serve(self, context: Context, launcher: u32, over: impl Future<Output = ()>) {
        let door = Arc::new(Door {
            of: context,
            room: Semaphore::new(MAX_CONNECTIONS),
            closing: CancellationToken::new(),
            told: Mutex::default(),
        });
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS + SPARE));
        let tasks = TaskTracker::new();
        tokio::pin!(over);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut over => break,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            if !is_own(&stream, launcher) {
                tracing::warn!(
                    plugin = door.of.plugin,
                    "a process that is not the plugin's wanted its way out"
                );
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let door = Arc::clone(&door);
            tasks.spawn(async move {
                connection::run(stream, &door).await;
                drop(place);
            });
        }
        door.closing.cancel();
        // Nothing comes to this socket any more; the plugin's directory is made anew for the next start.
        let _ = std::fs::remove_file(&self.path);
        drop(self.listener);
        tasks.close();
        tasks.wait().await;
        door.tell_the_rest();
    }
}

impl Door {
    /// Records that something was refused; a flood of refusals becomes a few records.
    pub(super) fn refused(&self, target: &str, word: &'static str, why: &str) {
        self.of.metrics.egress_connections.get_or_create(&Metrics::of_and(&self.of.plugin, word)).inc();
        let told =
            self.told.lock().unwrap_or_else(PoisonError::into_inner).count(target, why, Instant::now());
        if let Some((refused, count)) = told {
            self.tell(&refused, count);
        }
    }

    fn tell_the_rest(&self) {
        let rest = self.told.lock().unwrap_or_else(PoisonError::into_inner).rest();
        rest.iter().for_each(|(refused, count)| self.tell(refused, *count));
    }

    fn tell(&self, Refused { target, why }: &Refused, count: u64) {
        let plugin = self.of.plugin.as_str();
        let actor = format!("plugin:{plugin}");
        let detail = json!({"target": target, "reason": why, "count": count});
        self.of.audit.record("egress.refused", Some(plugin), &actor, detail);
        let target = target.as_deref().unwrap_or("several targets");
        self.of.log.say("warn", format!("reaching {target} was refused: {why}"));
    }
}

/// Whether the process at the other end is one of the plugin's.
fn is_own(stream: &UnixStream, launcher: u32) -> bool {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
    pid.is_some_and(|pid| pid != 0 && temps_sandbox::contains(launcher, pid))
}
