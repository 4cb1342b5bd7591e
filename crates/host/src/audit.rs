//! The audit trail's way to the disk: a bounded queue that every room records into without waiting, and one task that
//! writes it in batches.
//!
//! It knows nothing of what the kinds mean. Callers never pass a secret: nothing is masked here. What makes the trail
//! tamper-evident stands in `trail`, with its `key` and its `heads`.

mod heads;
mod key;
mod tally;
mod trail;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use temps_store::{AuditRecord, HostStore, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use heads::TrailFiles;
pub use key::KeyError;
pub use tally::Tally;
pub(crate) use trail::Trail;
pub use trail::{Check, CheckError, check_offline};

/// The seal that is made with the key in a file. The key is made when there is none.
///
/// The host does this by itself; it is here for programs that look at a trail without a host.
///
/// # Errors
/// [`KeyError`]. A file that is there is never replaced.
pub fn seal(path: &std::path::Path) -> Result<Arc<dyn temps_store::Seal>, KeyError> {
    Ok(Arc::new(key::KeySeal::load_or_make(path)?))
}

/// Records that may wait for the disk. At a few hundred bytes each this is a few megabytes, and minutes of a busy host.
const QUEUE: usize = 8_192;

/// Records in one commit at most.
const BATCH: usize = 256;

/// How long the first record of a batch waits for company.
const LINGER: Duration = Duration::from_millis(200);

/// Time between two tries while the store refuses, for example because the disk is full.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a flush waits for the disk. A host that stops must not hang on a full disk.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest detail in bytes of JSON. Details may quote what a plugin wrote, and a plugin may write a lot.
const MAX_DETAIL_BYTES: usize = 64 * 1024;

/// Takes audit records from every room. Cheap to clone; recording never waits.
#[derive(Debug, Clone)]
pub struct Audit {
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
    grew: watch::Receiver<()>,
}

#[derive(Debug)]
enum Message {
    Record(AuditRecord),
    Flush(oneshot::Sender<()>),
}

impl Audit {
    /// Starts the task that writes to `store`. It ends, with everything written, when the last clone is dropped.
    ///
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn start(store: Arc<dyn HostStore>) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let (grow, grew) = watch::channel(());
        tokio::spawn(write_all(store, messages, dropped.clone(), grow));
        Self { queue, dropped, grew }
    }

    /// Changes each time that the trail grew.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.grew.clone()
    }

    /// Records that `kind` happened. `actor` is `host`, `plugin:<name>`, or an operator's name; `detail` is an object
    /// without secrets. A detail beyond 64 KiB is cut, and says so.
    ///
    /// When the queue is full the record is dropped and counted, and the trail says how many were (`audit.dropped`).
    pub fn record(&self, kind: &'static str, plugin: Option<&str>, actor: &str, detail: Value) {
        let record = AuditRecord {
            seq: 0,
            at: Utc::now(),
            kind: kind.to_owned(),
            plugin: plugin.map(str::to_owned),
            actor: actor.to_owned(),
            detail: bounded(detail),
        };
        if self.queue.try_send(Message::Record(record)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was recorded so far is on the disk, for five seconds at most. Returns whether it is.
    pub async fn flush(&self) -> bool {
        let (done, written) = oneshot::channel();
        let flushed = async { self.queue.send(Message::Flush(done)).await.is_ok() && written.await.is_ok() };
        timeout(FLUSH_TIMEOUT, flushed).await.unwrap_or(false)
    }
}

fn bounded(detail: Value) -> Value {
    let text = detail.to_string();
    if text.len() <= MAX_DETAIL_BYTES {
        return detail;
    }
    let beginning = &text[..text.floor_char_boundary(MAX_DETAIL_BYTES / 4)];
    json!({"cut_from_bytes": text.len(), "beginning": beginning})
}

async fn write_all(
    store: Arc<dyn HostStore>,
    mut messages: mpsc::Receiver<Message>,
    dropped: Arc<AtomicU64>,
    grow: watch::Sender<()>,
) {
    while let Some(first) = messages.recv().await {
        let mut batch = Vec::new();
        let mut flushes = Vec::new();
        let mut next = Some(first);
        let deadline = Instant::now() + LINGER;
        while let Some(message) = next.take() {
            match message {
                Message::Record(record) => batch.push(record),
                Message::Flush(done) => flushes.push(done),
            }
            if batch.len() < BATCH && flushes.is_empty() {
                next = timeout_at(deadline, messages.recv()).await.unwrap_or(None);
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            batch.push(records_were_dropped(lost));
        }
        if !batch.is_empty() && !append(&*store, batch).await {
            return;
        }
        grow.send_replace(());
        for done in flushes {
            let _ = done.send(());
        }
    }
}

fn records_were_dropped(count: u64) -> AuditRecord {
    AuditRecord {
        seq: 0,
        at: Utc::now(),
        kind: "audit.dropped".to_owned(),
        plugin: None,
        actor: "host".to_owned(),
        detail: json!({"count": count, "reason": "the queue of the audit trail was full"}),
    }
}

/// Appends until it worked; `false` when the store is closed for good. Meanwhile the queue fills, which is its bound.
async fn append(store: &dyn HostStore, batch: Vec<AuditRecord>) -> bool {
    loop {
        match store.append_audit(batch.clone()).await {
            Ok(()) => return true,
            Err(StoreError::Closed) => return false,
            Err(error) => {
                tracing::error!(%error, records = batch.len(), "the audit trail cannot be written; trying again");
                sleep(RETRY_AFTER).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use temps_store::sqlite::SqliteStore;
    use temps_store::{AuditFilter, AuditStore};

    use super::*;

    fn store() -> (tempfile::TempDir, Arc<SqliteStore>) {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("temps.db")).unwrap();
        (dir, store)
    }

    async fn all(store: &SqliteStore) -> Vec<AuditRecord> {
        store.audit(AuditFilter { limit: 100_000, ..AuditFilter::default() }).await.unwrap()
    }

    #[tokio::test]
    async fn a_record_survives_as_it_was_given_and_in_order() {
        let (_dir, store) = store();
        let audit = Audit::start(store.clone());
        audit.record("plugin.started", Some("hello"), "host", json!({"pid": 7}));
        audit.record("grant.added", Some("hello"), "alice", json!({"kind": "event", "value": "*"}));
        assert!(audit.flush().await);
        let records = all(&store).await;
        let kinds: Vec<_> = records.iter().map(|record| record.kind.as_str()).collect();
        assert_eq!(kinds, ["plugin.started", "grant.added"]);
        assert_eq!(records[0].plugin.as_deref(), Some("hello"));
        assert_eq!(records[0].detail, json!({"pid": 7}));
        assert_eq!(records[1].actor, "alice");
    }

    #[tokio::test]
    async fn what_was_recorded_is_written_when_the_last_clone_is_gone() {
        let (_dir, store) = store();
        let audit = Audit::start(store.clone());
        audit.record("host.stopped", None, "host", json!({}));
        let queue = audit.queue.clone();
        drop(audit);
        drop(queue);
        while all(&store).await.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_overflow_is_counted_and_told_and_recording_never_waits() {
        let (_dir, store) = store();
        // The runtime has one thread, and nothing is awaited here: the writer cannot run meanwhile.
        let audit = Audit::start(store.clone());
        for n in 0..QUEUE + 40 {
            audit.record("plugin.started", None, "host", json!({"n": n}));
        }
        while !audit.flush().await {}
        let records = all(&store).await;
        let told: Vec<_> = records.iter().filter(|record| record.kind == "audit.dropped").collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].detail["count"], 40);
        assert_eq!(records.len(), QUEUE + 1);
    }

    #[tokio::test]
    async fn a_detail_without_measure_is_cut() {
        let (_dir, store) = store();
        let audit = Audit::start(store.clone());
        audit.record("plugin.crashed", None, "host", json!({"lines": "ü".repeat(MAX_DETAIL_BYTES)}));
        assert!(audit.flush().await);
        let detail = all(&store).await.remove(0).detail;
        assert!(detail["cut_from_bytes"].as_u64().unwrap() > MAX_DETAIL_BYTES as u64);
        assert!(detail.to_string().len() < MAX_DETAIL_BYTES);
    }
}
