//! Whether this host may work under its name: a lock at the server that the listening connection holds. The same
//! connection hears of every commit to the journal, whoever made it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::{Conn, Connector, raise};
use crate::{Seq, StoreError};

/// How long a starting host waits for its name. A host that was just killed is noticed by the server within moments.
const NAME_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two looks for a name that another host holds.
const NAME_RETRY: Duration = Duration::from_millis(200);

/// Time between two looks at the journal's head. The server says when it moves; this is the net below.
const POLL: Duration = Duration::from_secs(2);

/// How long the listening connection tries to come back before it says in the log that it has not, and tries on.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Whether this host holds its name. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    node: Arc<str>,
    taken: Arc<AtomicBool>,
}

impl Standing {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.into(), taken: Arc::default() }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Fails while another host works under this one's name.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.taken.load(Ordering::Acquire) { Err(self.refusal()) } else { Ok(()) }
    }

    fn refusal(&self) -> StoreError {
        StoreError::NodeTaken { node: self.node.to_string() }
    }
}

/// The listening connection, and which session of the server it is.
pub(super) struct Listening {
    conn: Conn,
    session: (i32, SystemTime),
}

/// Takes the name, listens, and reads where the journal's head is.
///
/// # Errors
/// [`StoreError::NodeTaken`] when another host works under this name.
pub(super) async fn listen(
    conn: Conn,
    standing: &Standing,
    head: &watch::Sender<Seq>,
) -> Result<Listening, StoreError> {
    let deadline = Instant::now() + NAME_TIMEOUT;
    while !take_name(&conn, standing).await? {
        if Instant::now() > deadline {
            return Err(standing.refusal());
        }
        tokio::time::sleep(NAME_RETRY).await;
    }
    let row =
        conn.one("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()", &[]).await?;
    let session = (row.try_get(0)?, row.try_get(1)?);
    conn.batch("LISTEN temps_journal").await?;
    look(&conn, head).await?;
    Ok(Listening { conn, session })
}

/// Follows the head until `stop` says so or its sender is gone, and comes back by itself when the connection breaks.
pub(super) async fn follow(
    mut listening: Listening,
    connector: Connector,
    standing: Standing,
    head: watch::Sender<Seq>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = poll(&listening.conn, &head) => {}
        }
        tracing::warn!("the connection that listens to the database broke; it is opened again");
        let session = listening.session;
        drop(listening.conn);
        let again = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            again = come_back(session, &connector, &standing, &head) => again,
        };
        tracing::info!("the connection that listens to the database is back");
        listening = again;
    }
}

/// Looks at the head now and then, until the connection breaks.
async fn poll(conn: &Conn, head: &watch::Sender<Seq>) {
    let mut every = tokio::time::interval(POLL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = conn.ended() => return,
            _ = every.tick() => {}
        }
        match look(conn, head).await {
            Ok(()) => {}
            Err(_) if conn.is_closed() => return,
            Err(error) => {
                tracing::warn!(%error, "the journal's head cannot be read");
                if matches!(error, StoreError::Lost { .. }) {
                    return;
                }
            }
        }
    }
}

async fn come_back(
    session: (i32, SystemTime),
    connector: &Connector,
    standing: &Standing,
    head: &watch::Sender<Seq>,
) -> Listening {
    loop {
        let tried = async {
            let conn = connector.connect(Instant::now() + REPORT_EVERY).await?;
            // Our own earlier session may linger at the server, with the name, when the network broke between us.
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2",
                &[&session.0, &session.1],
            )
            .await?;
            listen(conn, standing, head).await
        };
        let outcome = tried.await;
        standing.taken.store(matches!(outcome, Err(StoreError::NodeTaken { .. })), Ordering::Release);
        match outcome {
            Ok(listening) => return listening,
            Err(error) => {
                tracing::error!(%error, "the database is not followed; this is tried again");
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

async fn take_name(conn: &Conn, standing: &Standing) -> Result<bool, StoreError> {
    let sql = "SELECT pg_try_advisory_lock(hashtextextended('temps node ' || $1, 0))";
    Ok(conn.one(sql, &[&standing.node()]).await?.try_get(0)?)
}

async fn look(conn: &Conn, head: &watch::Sender<Seq>) -> Result<(), StoreError> {
    raise(head, conn.one("SELECT seq FROM journal_head", &[]).await?.try_get(0)?);
    Ok(())
}
