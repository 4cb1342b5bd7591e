//! The readers: a few threads, each with a connection that cannot write. With the write-ahead log they see the last
//! commit without waiting for the writer, and the writer does not wait for them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::connection;
use crate::StoreError;

/// Reader threads. Reads are short; a few keep one long look into the audit trail from holding up deliveries.
const THREADS: usize = 3;

/// Reads that may wait for a thread; further callers wait for a place.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The sending side of the reader threads.
#[derive(Debug)]
pub(super) struct Readers {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Readers {
    /// Opens the connections and starts the threads. They end when the `Readers` is dropped or closed.
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel::<Job>(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let conn = connection::open_for_reading(path)?;
            let queue = queue.clone();
            std::thread::Builder::new()
                .name("store-reader".into())
                .spawn(move || run(&conn, &queue))
                .map_err(|e| StoreError::Database {
                    action: "start a reader thread",
                    reason: e.to_string(),
                })?;
        }
        Ok(Self { jobs: Mutex::new(Some(jobs)) })
    }

    /// Queues `work` and waits for its result.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let jobs =
            self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            let _ = reply.send(snapshot(conn, work));
        });
        jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        drop(jobs);
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Takes no further reads; the threads end after those that are queued.
    pub(super) fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Several statements of one read see the same commit.
fn snapshot<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let tx = conn.unchecked_transaction()?;
    let result = work(&tx);
    tx.commit()?;
    result
}

fn run(conn: &Connection, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        // A panic costs its caller the answer and nobody else anything; the transaction ends with its guard.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(conn)));
    }
}
