//! The host's end of a plugin's way out: a socket in the plugin's own directory, at which only its processes are served.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bounds::Bounds;
use super::connection;
use super::resolve::Resolver;
use super::settings::PluginEgress;
use super::told::{Refused, Told};
use crate::audit::Audit;
use crate::grants::Grants;
use crate::metrics::Metrics;
use crate::plugin::accept::OwnSocket;
use crate::plugin::logs::PluginLog;

/// File name of the socket, beside the plugin's own.
pub(crate) const EGRESS_SOCKET: &str = "egress.sock";

/// Everything else that may be asked at a time: names, and connections that are told that there is no room.
const SPARE: usize = 64;

/// Names that are resolved at a time. Each takes a thread of the process until the system's resolver has given up.
const MAX_LOOKUPS: usize = 8;

/// What new connections are counted in.
const MINUTE: Duration = Duration::from_secs(60);

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
    pub(crate) bounds: Bounds,
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
    /// Places for questions to the resolver, also for those whose answer nobody waits for any more.
    pub(super) lookups: Arc<Semaphore>,
    /// When the minute began, and how many connections it has seen.
    minute: Mutex<(Instant, u32)>,
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
            room: Semaphore::new(context.bounds.connections),
            closing: CancellationToken::new(),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            minute: Mutex::new((Instant::now(), 0)),
            told: Mutex::default(),
            of: context,
        });
        let places = Arc::new(Semaphore::new(door.of.bounds.connections + SPARE));
        let mut socket = OwnSocket::new(&self.listener, &door.of.plugin, launcher, "its way out");
        let tasks = TaskTracker::new();
        tokio::pin!(over);
        loop {
            let stream = tokio::select! {
                stream = socket.accept() => stream,
                () = &mut over => break,
            };
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
        told.iter().for_each(|(refused, count)| self.tell(refused, *count));
    }

    /// Counts a new connection. Whether it may be opened in this minute.
    pub(super) fn in_time(&self) -> bool {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(minute.0) >= MINUTE {
            *minute = (now, 0);
        }
        minute.1 += 1;
        minute.1 <= self.of.bounds.a_minute
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
