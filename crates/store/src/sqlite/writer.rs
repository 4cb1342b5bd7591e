//! The one writer: a thread that takes what waits, runs it in one transaction, and commits once for all.
//!
//! A commit costs one wait for the disk, whatever is in it. While the disk works, further writes queue up and form
//! the next group, so the rate grows with the load and a lone write does not wait for company.

use std::cell::Cell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::chain::Chain;
use crate::{Seq, StoreError, failpoint};

/// Writes that may wait for the writer; further callers wait for a place. Each is a closure and what it captured.
const QUEUE: usize = 1024;

/// Writes in one commit. More would save nothing measurable, and delay the first of the group.
const GROUP: usize = 256;

/// The sending side of the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    commands: mpsc::Sender<Command>,
    commits: Arc<AtomicU64>,
}

enum Command {
    Write(Box<dyn Write>),
    Close(oneshot::Sender<()>),
}

/// A transaction that a write runs in. It reads as a [`Connection`].
pub(crate) struct WriteTx<'a> {
    conn: &'a Connection,
    head: Cell<Option<Seq>>,
    undone: Cell<bool>,
}

impl WriteTx<'_> {
    /// Undoes everything that this write did, although it returns a value: for a refusal that is found half-way.
    pub(crate) fn roll_back(&self) {
        self.undone.set(true);
    }

    /// Says that the journal grew up to `seq`; it is announced once this is durable.
    pub(super) fn journal_grew(&self, seq: Seq) {
        self.head.set(Some(seq));
    }
}

impl Deref for WriteTx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}

impl Writer {
    /// Starts the thread. It ends when the `Writer` is dropped or closed.
    pub(super) fn start(
        conn: Connection,
        head: watch::Sender<Seq>,
        chain: Arc<Chain>,
    ) -> Result<Self, StoreError> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let commits = Arc::new(AtomicU64::new(0));
        let after = After { head, chain, commits: commits.clone() };
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(&conn, queue, &after))
            .map_err(|e| StoreError::Database { action: "start its writer thread", reason: e.to_string() })?;
        Ok(Self { commands, commits })
    }

    /// Commits since the start.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Queues `work` and waits until it is durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let pending = Pending { work: Some(work), result: None, reply };
        self.commands.send(Command::Write(Box::new(pending))).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Lets the thread finish what is queued, and end.
    pub(super) async fn close(&self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}

/// One caller's write, first run and later answered.
trait Write: Send {
    /// Runs it. An error means that its changes must be undone.
    fn run(&mut self, tx: &WriteTx<'_>) -> Result<(), StoreError>;

    /// Answers the caller, after the commit or its failure.
    fn answer(self: Box<Self>, commit: Result<(), StoreError>);
}

struct Pending<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Write for Pending<T, F>
where
    T: Send,
    F: FnOnce(&WriteTx<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        // A panic in one write must not take the writer away from everybody else.
        let result = catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|_| {
            Err(StoreError::Database { action: "write", reason: "the code of this write panicked".into() })
        });
        let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.result = Some(result);
        outcome
    }

    fn answer(self: Box<Self>, commit: Result<(), StoreError>) {
        let result = match (self.result, commit) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(commit)) => Err(commit),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::Closed),
        };
        // A caller that went away does not want to know.
        let _ = self.reply.send(result);
    }
}

/// What a commit brings with it: the link of the audit chain before it, the journal's head that is announced after it, and
/// its count.
struct After {
    head: watch::Sender<Seq>,
    chain: Arc<Chain>,
    commits: Arc<AtomicU64>,
}

fn run(conn: &Connection, mut queue: mpsc::Receiver<Command>, after: &After) {
    while let Some(command) = queue.blocking_recv() {
        let closing = match command {
            Command::Write(first) => write_group(conn, first, &mut queue, after),
            Command::Close(done) => Some(done),
        };
        if let Some(done) = closing {
            queue.close();
            while let Ok(command) = queue.try_recv() {
                if let Command::Write(write) = command {
                    write.answer(Err(StoreError::Closed));
                }
            }
            empty_the_log(conn);
            let _ = done.send(());
            return;
        }
    }
}

/// Puts everything into the database's own file, so that a copy of it alone is whole once the program has ended. Nothing is
/// lost without it: the next opening reads the log.
fn empty_the_log(conn: &Connection) {
    if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::debug!(%error, "the write-ahead log stays");
    }
}

/// Runs `first` and what waits behind it in one transaction. Returns the request to close, if one was met.
fn write_group(
    conn: &Connection,
    first: Box<dyn Write>,
    queue: &mut mpsc::Receiver<Command>,
    after: &After,
) -> Option<oneshot::Sender<()>> {
    let mut group = vec![first];
    let mut closing = None;
    let outcome = transaction(conn, &after.chain, &mut group, queue, &mut closing);
    if !conn.is_autocommit()
        && let Err(error) = execute(conn, "ROLLBACK")
    {
        tracing::error!(%error, "the database refused to roll back");
    }
    if outcome.is_ok() {
        after.commits.fetch_add(1, Ordering::Relaxed);
    }
    if let Ok(Some(seq)) = outcome {
        after.head.send_replace(seq);
        failpoint!("journal.announced");
    }
    let commit = outcome.map(|_| ());
    for write in group {
        write.answer(commit.clone());
    }
    closing
}

fn transaction(
    conn: &Connection,
    chain: &Chain,
    group: &mut Vec<Box<dyn Write>>,
    queue: &mut mpsc::Receiver<Command>,
    closing: &mut Option<oneshot::Sender<()>>,
) -> Result<Option<Seq>, StoreError> {
    execute(conn, "BEGIN IMMEDIATE")?;
    let begun = chain.begin(conn)?;
    let mut head = None;
    let mut done = 0;
    while done < group.len() {
        head = run_one(conn, group[done].as_mut())?.or(head);
        done += 1;
        if group.len() < GROUP && closing.is_none() {
            match queue.try_recv() {
                Ok(Command::Write(next)) => group.push(next),
                Ok(Command::Close(reply)) => *closing = Some(reply),
                Err(_) => {}
            }
        }
    }
    chain.end(conn, begun)?;
    failpoint!("journal.commit", if head.is_some());
    execute(conn, "COMMIT")?;
    failpoint!("journal.committed", if head.is_some());
    Ok(head)
}

/// Runs one write in its savepoint. An error means that the whole transaction is lost.
fn run_one(conn: &Connection, write: &mut dyn Write) -> Result<Option<Seq>, StoreError> {
    execute(conn, "SAVEPOINT one")?;
    let tx = WriteTx { conn, head: Cell::new(None), undone: Cell::new(false) };
    let outcome = write.run(&tx);
    // A full disk makes SQLite give up the transaction, with everything that others had put in.
    if conn.is_autocommit() {
        return Err(outcome.err().unwrap_or(StoreError::Database {
            action: "keep the transaction open",
            reason: "it was rolled back".into(),
        }));
    }
    if outcome.is_err() || tx.undone.get() {
        execute(conn, "ROLLBACK TO one")?;
        tx.head.set(None);
    }
    execute(conn, "RELEASE one")?;
    Ok(tx.head.get())
}

fn execute(conn: &Connection, sql: &'static str) -> Result<(), StoreError> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}
