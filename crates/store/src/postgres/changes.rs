//! The platform's transactions: closures that read and write, one after another, also when several hosts have some.
//!
//! Two changes that each read before they write must not cross, so a lock at the server lets one transaction at a time
//! through. Those that wait at this host share a transaction, each in a savepoint of its own. A closure runs on a thread
//! that may block, because it waits for the server at each step. The events of all of them go into the journal last, so
//! that the journal's end is held only for the commit.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use temps_protocol::PluginEvent;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connection::{Conn, Connector, REACH_TIMEOUT, raise};
use super::journal;
use super::pool::On;
use super::standing::Standing;
use crate::host::Encoded;
use crate::{Seq, StoreError, Verdict, Work};

/// Changes that may wait; further callers wait for a place.
const QUEUE: usize = 256;

/// Changes in one transaction. Other hosts wait meanwhile, so it is small.
const GROUP: usize = 32;

const BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('temps platform', 0))";

/// The callers' side.
pub(super) struct Changes {
    queue: Mutex<Option<mpsc::Sender<Waiting>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Waiting {
    work: Work,
    reply: oneshot::Sender<Result<(), StoreError>>,
    since: Instant,
}

/// A transaction from the inside, for one change in it.
pub(super) struct ChangeTx<'a> {
    runtime: &'a Handle,
    conn: &'a Conn,
    failed: RefCell<Option<StoreError>>,
    events: RefCell<Vec<Encoded>>,
}

impl Changes {
    /// Starts the task that carries changes out. It ends when the `Changes` is dropped or closed.
    pub(super) fn start(connector: Connector, standing: Standing, head: watch::Sender<Seq>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let runner = Runner { connector, standing, head, conn: None };
        let task = Mutex::new(Some(tokio::spawn(runner.run(waiting))));
        Self { queue: Mutex::new(Some(queue)), task }
    }

    /// Queues `work` and waits until it is durable, or undone.
    pub(super) async fn run(&self, work: Work) -> Result<(), StoreError> {
        let queue =
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        queue.send(Waiting { work, reply, since: Instant::now() }).await.map_err(|_| StoreError::Closed)?;
        drop(queue);
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Lets what is queued finish.
    pub(super) async fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

impl ChangeTx<'_> {
    /// Runs statements. After one that failed nothing more is run, and the change is undone whatever it says of it: the
    /// server would not go on either.
    pub(super) fn run<T>(
        &self,
        work: impl AsyncFnOnce(On<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(error) = &*self.failed.borrow() {
            return Err(error.clone());
        }
        self.runtime.block_on(work(On::Conn(self.conn))).inspect_err(|error| {
            self.failed.replace(Some(error.clone()));
        })
    }

    /// Keeps an event for the end of the transaction.
    pub(super) fn publish(&self, event: &PluginEvent) -> Result<(), StoreError> {
        self.events.borrow_mut().push(Encoded::new(event)?);
        Ok(())
    }
}

struct Runner {
    connector: Connector,
    standing: Standing,
    head: watch::Sender<Seq>,
    conn: Option<Conn>,
}

/// A change that was run, and what became of it: its events when it is to be kept.
struct Done {
    outcome: Result<Vec<Encoded>, StoreError>,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Runner {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        while let Some(first) = waiting.recv().await {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = waiting.try_recv()
            {
                group.push(next);
            }
            self.run_group(group).await;
        }
    }

    async fn run_group(&mut self, group: Vec<Waiting>) {
        let conn = match self.begin(group[0].since + REACH_TIMEOUT).await {
            Ok(conn) => conn,
            Err(error) => {
                for waiting in group {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
                return;
            }
        };
        let runtime = Handle::current();
        let ran = tokio::task::spawn_blocking(move || {
            let done: Vec<Done> =
                group.into_iter().map(|waiting| run_one(&runtime, &conn, waiting)).collect();
            (conn, done)
        });
        // It does not panic, because each change is caught; and the runtime's end ends this task as well.
        let Ok((conn, done)) = ran.await else { return };
        let committed = self.commit(&conn, &done).await;
        if committed.is_ok() {
            self.conn = Some(conn);
        }
        for Done { outcome, reply } in done {
            // A caller that went away does not want to know.
            let _ = reply.send(outcome.and_then(|_| committed.clone()));
        }
    }

    /// A connection with a transaction that has begun, and is the only one.
    async fn begin(&mut self, deadline: Instant) -> Result<Conn, StoreError> {
        self.standing.check()?;
        // The connection may have ended while it was idle; nothing has been done on it yet.
        if let Some(conn) = self.conn.take().filter(|conn| !conn.is_closed())
            && let begun = conn.batch(BEGIN).await
            && !matches!(begun, Err(StoreError::Lost { .. }))
        {
            return begun.map(|()| conn);
        }
        let conn = self.connector.connect(deadline).await?;
        conn.batch(BEGIN).await?;
        Ok(conn)
    }

    async fn commit(&self, conn: &Conn, done: &[Done]) -> Result<(), StoreError> {
        let events: Vec<&Encoded> =
            done.iter().filter_map(|one| one.outcome.as_ref().ok()).flatten().collect();
        let mut last = None;
        if !events.is_empty() {
            let published = journal::append(conn, self.standing.node(), &events).await?;
            last = published.iter().map(|one| one.seq).max();
        }
        // A transaction that failed would be undone by a COMMIT that says nothing of it; a statement before it fails then.
        conn.batch("SELECT 1; COMMIT").await?;
        if let Some(last) = last {
            raise(&self.head, last);
        }
        Ok(())
    }
}

/// Runs one change in its savepoint.
fn run_one(runtime: &Handle, conn: &Conn, waiting: Waiting) -> Done {
    let Waiting { work, reply, .. } = waiting;
    let tx = ChangeTx { runtime, conn, failed: RefCell::default(), events: RefCell::default() };
    let outcome = runtime.block_on(conn.batch("SAVEPOINT one")).and_then(|()| {
        // A panic in one change must not take the others with it.
        catch_unwind(AssertUnwindSafe(|| work(&tx))).unwrap_or_else(|_| {
            Err(StoreError::Database { action: "write", reason: "the code of this change panicked".into() })
        })
    });
    let failed = tx.failed.take();
    let kept = failed.is_none() && matches!(outcome, Ok(Verdict::Commit));
    let end = if kept { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
    // When this fails the transaction is lost, which its commit will say to all.
    let ended = runtime.block_on(conn.batch(end));
    let outcome = match (failed, outcome, ended) {
        (Some(error), _, _) | (None, Err(error), _) | (None, Ok(_), Err(error)) => Err(error),
        (None, Ok(Verdict::Commit), Ok(())) => Ok(tx.events.take()),
        (None, Ok(Verdict::RollBack), Ok(())) => Ok(Vec::new()),
    };
    Done { outcome, reply }
}
