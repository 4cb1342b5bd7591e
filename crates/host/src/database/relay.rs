//! The relay: a socket of one plugin on this side, the real server on the other.
//!
//! Only processes of the plugin may connect, and all that they can reach through it is the plugin's own database under the
//! plugin's own role. The relay lives as long as the plugin's process, and ends at once when the grant does.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Databases;
use super::session;
use super::startup::CancelKey;
use crate::grants::{Engine, Grants};
use crate::plugin::accept::OwnSocket;

/// Connections beyond the sessions that a plugin may have: requests to cancel, and those that are told that there is no room.
const SPARE_CONNECTIONS: usize = 8;

/// Time between two looks whether the server can be reached, so that what is shown was measured.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// The plugin's end, listening.
pub(crate) struct Relay {
    listener: UnixListener,
    path: PathBuf,
}

/// What the sessions of one relay share.
pub(super) struct Door {
    pub(super) databases: Databases,
    pub(super) plugin: String,
    /// Places for sessions.
    pub(super) room: Semaphore,
    /// What may be cancelled.
    pub(super) keys: Mutex<HashSet<CancelKey>>,
    /// Cancelled when all sessions are to end.
    pub(super) closing: CancellationToken,
}

impl Relay {
    /// Listens at `path`, where nothing may lie. Connections wait until [`Relay::serve`] looks at them.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::bind(path)?, path: path.to_owned() })
    }

    /// Serves the processes below `launcher` until `over` or until the grant is taken back. No session is left then.
    pub(crate) async fn serve(
        self,
        databases: Databases,
        plugin: &str,
        launcher: u32,
        mut grants: watch::Receiver<Arc<Grants>>,
        over: impl Future<Output = ()>,
    ) {
        let sessions = databases.connections();
        let door = Arc::new(Door {
            databases,
            plugin: plugin.to_owned(),
            room: Semaphore::new(sessions),
            keys: Mutex::default(),
            closing: CancellationToken::new(),
        });
        let connections = Arc::new(Semaphore::new(sessions + SPARE_CONNECTIONS));
        let tasks = TaskTracker::new();
        let revoked = grants.wait_for(|grants| grants.database != Some(Engine::Postgres));
        tokio::pin!(over, revoked);
        let mut socket = OwnSocket::new(&self.listener, plugin, launcher, "its database");
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stream = tokio::select! {
                stream = socket.accept() => stream,
                _ = look.tick() => {
                    let door = Arc::clone(&door);
                    // What it finds is kept where it is shown.
                    tasks.spawn(async move {
                        let _ = door.databases.ready(&door.plugin).await;
                    });
                    continue;
                }
                () = &mut over => break,
                // The sender ends with the plugin's actor, which is the end as well.
                _ = &mut revoked => break,
            };
            let Ok(place) = Arc::clone(&connections).try_acquire_owned() else { continue };
            let door = Arc::clone(&door);
            tasks.spawn(async move {
                session::run(stream, &door).await;
                drop(place);
            });
        }
        door.closing.cancel();
        // Nothing comes to this socket any more; the plugin's directory is made anew for the next start.
        let _ = std::fs::remove_file(&self.path);
        drop(self.listener);
        tasks.close();
        tasks.wait().await;
    }
}

impl Door {
    pub(super) fn knows(&self, key: CancelKey) -> bool {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    pub(super) fn enter(&self, key: CancelKey) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    pub(super) fn leave(&self, key: CancelKey) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}
