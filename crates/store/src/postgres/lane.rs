//! Group commit: what waits is written with one statement, in one transaction.
//!
//! A commit costs an exchange with the server and one wait for its disk, whatever is in it. While it is under way
//! further writes queue up and form the next group, so the rate grows with the load and a lone write does not wait for
//! company. Each kind of write has a lane of its own, in which order is kept.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connection::{Conn, Connector, REACH_TIMEOUT};
use super::standing::Standing;
use crate::StoreError;

/// Writes that may wait in a lane; further callers wait for a place.
const QUEUE: usize = 1024;

/// Writes in one group. More would save nothing measurable, and delay the first of the group.
const GROUP: usize = 256;

/// Bytes in one group, so that a statement's size is bounded however large the writes are. One write always fits.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// One kind of write.
pub(super) trait Batch: Send + Sync + 'static {
    /// What one caller wants written.
    type Item: Send + Sync + 'static;
    /// What one caller learns.
    type Output: Send + 'static;

    /// Whether a write may be sent again whose connection broke before it was confirmed: because writing it twice
    /// changes nothing, or because it can be told whether it was written.
    const REPEATABLE: bool;

    /// About how many bytes go to the server.
    fn bytes(item: &Self::Item) -> usize;

    /// Writes all items in one transaction, in order, and says for each what became of it. `again` says that the same
    /// items were sent before, and that it is not known whether they were written.
    fn write(
        &self,
        conn: &Conn,
        items: &[Waiting<Self>],
        again: bool,
    ) -> impl Future<Output = Result<Vec<Self::Output>, StoreError>> + Send;
}

/// A write that waits for its turn.
pub(super) struct Waiting<B: Batch + ?Sized> {
    pub(super) item: B::Item,
    reply: oneshot::Sender<Result<B::Output, StoreError>>,
    since: Instant,
}

/// The callers' side of a lane.
pub(super) struct Lane<B: Batch> {
    queue: Mutex<Option<mpsc::Sender<Waiting<B>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl<B: Batch> Lane<B> {
    /// Starts the lane. It ends when it is dropped or closed.
    pub(super) fn start(batch: B, connector: Connector, standing: Standing) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let writer = Writer { batch, connector, standing, conn: None };
        let task = tokio::spawn(writer.run(waiting));
        Self { queue: Mutex::new(Some(queue)), task: Mutex::new(Some(task)) }
    }

    /// Queues `item` and waits until it is durable. Dropping the future does not stop it.
    pub(super) async fn write(&self, item: B::Item) -> Result<B::Output, StoreError> {
        let queue =
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { item, reply, since: Instant::now() };
        queue.send(waiting).await.map_err(|_| StoreError::Closed)?;
        drop(queue);
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Lets the lane finish what is queued, and end.
    pub(super) async fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

/// The server's side of a lane.
struct Writer<B> {
    batch: B,
    connector: Connector,
    standing: Standing,
    conn: Option<Conn>,
}

impl<B: Batch> Writer<B> {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting<B>>) {
        let mut left = None;
        loop {
            let first = match left.take() {
                Some(first) => first,
                None => match waiting.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let mut bytes = B::bytes(&first.item);
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = waiting.try_recv()
            {
                bytes += B::bytes(&next.item);
                if bytes > GROUP_BYTES {
                    left = Some(next);
                    break;
                }
                group.push(next);
            }
            self.write_group(group).await;
        }
    }

    async fn write_group(&mut self, group: Vec<Waiting<B>>) {
        match self.write_and_repeat(&group).await {
            Ok(outputs) => {
                for (waiting, output) in group.into_iter().zip(outputs) {
                    // A caller that went away does not want to know.
                    let _ = waiting.reply.send(Ok(output));
                }
            }
            // One write that the server refuses must not fail the others of its group.
            Err(StoreError::Database { .. }) if group.len() > 1 => {
                for waiting in group {
                    let alone = [waiting];
                    let outcome = self.write_and_repeat(&alone).await;
                    let [waiting] = alone;
                    let _ = waiting.reply.send(outcome.map(|mut outputs| outputs.remove(0)));
                }
            }
            Err(error) => {
                for waiting in group {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
            }
        }
    }

    async fn write_and_repeat(&mut self, group: &[Waiting<B>]) -> Result<Vec<B::Output>, StoreError> {
        match self.write_once(group, false).await {
            Err(StoreError::Lost { .. }) if B::REPEATABLE => self.write_once(group, true).await,
            done => done,
        }
    }

    async fn write_once(&mut self, group: &[Waiting<B>], again: bool) -> Result<Vec<B::Output>, StoreError> {
        self.standing.check()?;
        let conn = match self.conn.take() {
            Some(conn) if !conn.is_closed() => conn,
            // Whoever has waited long already, behind a group that waited in vain, is told after one more try.
            _ => self.connector.connect(group[0].since + REACH_TIMEOUT).await?,
        };
        let outcome = self.batch.write(&conn, group, again).await;
        if !matches!(outcome, Err(StoreError::Lost { .. })) {
            self.conn = Some(conn);
        }
        match outcome {
            Ok(outputs) if outputs.len() != group.len() => Err(StoreError::Database {
                action: "write",
                reason: format!("{} of {} writes were answered", outputs.len(), group.len()),
            }),
            done => done,
        }
    }
}
