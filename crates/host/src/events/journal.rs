//! The journal as deliveries read it: one reader follows the store, and the newest events are shared in memory.
//!
//! A hundred plugins that keep up cost one read of the database. A plugin that lags behind the window reads its own pages from
//! the store until it has caught up. Nothing here knows which plugin wants what.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use temps_store::{HostStore, JournalEntry, Seq, StoreError};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::adapted::Forms;

/// Events in the window at most.
const WINDOW_EVENTS: usize = 4_096;

/// Bytes of JSON in the window at most.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// Events in one page from the store.
const PAGE: usize = 512;

/// Plugins that may read pages of their own at the same time. It bounds memory and leaves readers to everybody else.
const LAGGING_READS: usize = 4;

/// Time between two tries while the store refuses.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a delivery needs of an event.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seq: Seq,
    pub(super) id: String,
    pub(super) event_type: String,
    pub(super) project_id: Option<i32>,
    pub(super) published_at: DateTime<Utc>,
    /// The event's own JSON, shared by all that send it.
    pub(super) json: Arc<str>,
    pub(super) forms: Forms,
}

impl From<JournalEntry> for Entry {
    fn from(entry: JournalEntry) -> Self {
        Self {
            seq: entry.seq,
            id: entry.event.id,
            event_type: entry.event.event_type,
            project_id: entry.event.project_id,
            published_at: entry.published_at,
            json: entry.json,
            forms: Forms::default(),
        }
    }
}

/// The shared reader.
#[derive(Debug)]
pub(super) struct Journal {
    window: RwLock<Window>,
    reached: watch::Sender<Seq>,
    lagging: Semaphore,
    lagging_reads: AtomicU64,
}

/// The newest events. All that come after `begins_after`, up to what was reached, are in it.
#[derive(Debug)]
struct Window {
    begins_after: Seq,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

impl Window {
    fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.json.len();
        self.entries.push_back(entry);
        while self.entries.len() > WINDOW_EVENTS || self.bytes > WINDOW_BYTES {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.json.len();
            self.begins_after = oldest.seq;
        }
    }

    /// `None` when the window begins later than that.
    fn after(&self, place: Seq, limit: usize) -> Option<Vec<Arc<Entry>>> {
        if place < self.begins_after {
            return None;
        }
        let start = self.entries.partition_point(|entry| entry.seq <= place);
        Some(self.entries.range(start..).take(limit).cloned().collect())
    }
}

impl Journal {
    /// A reader that begins at the journal's present end.
    pub(super) fn at(head: Seq) -> Self {
        Self {
            window: RwLock::new(Window { begins_after: head, entries: VecDeque::new(), bytes: 0 }),
            reached: watch::channel(head).0,
            lagging: Semaphore::new(LAGGING_READS),
            lagging_reads: AtomicU64::new(0),
        }
    }

    /// The place up to which events can be had; it changes when there are more.
    pub(super) fn reached(&self) -> watch::Receiver<Seq> {
        self.reached.subscribe()
    }

    /// Pages that plugins behind the window have read from the store so far.
    pub(super) fn lagging_reads(&self) -> u64 {
        self.lagging_reads.load(Ordering::Relaxed)
    }

    /// Events after `place`, oldest first. Empty only when there are none up to what was reached.
    pub(super) async fn after(
        &self,
        store: &dyn HostStore,
        place: Seq,
        limit: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        if let Some(recent) = self.window.read().unwrap_or_else(PoisonError::into_inner).after(place, limit) {
            return Ok(recent);
        }
        let _permit = self.lagging.acquire().await.map_err(|_| StoreError::Closed)?;
        self.lagging_reads.fetch_add(1, Ordering::Relaxed);
        let page = store.events_after(place, limit).await?;
        Ok(page.into_iter().map(|entry| Arc::new(entry.into())).collect())
    }

    /// Follows the store until `stop`.
    pub(super) async fn follow(&self, store: &dyn HostStore, stop: CancellationToken) {
        let mut head = store.head();
        let following = async {
            loop {
                let there = *head.borrow_and_update();
                if let Err(error) = self.catch_up(store, there).await {
                    tracing::error!(%error, "the journal cannot be read; trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
                if head.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = following => {}
        }
    }

    async fn catch_up(&self, store: &dyn HostStore, head: Seq) -> Result<(), StoreError> {
        let mut place = *self.reached.borrow();
        while place < head {
            let page = store.events_after(place, PAGE).await?;
            // Nothing there although the head is further: retention was quicker.
            place = page.last().map_or(head, |entry| entry.seq);
            {
                let mut window = self.window.write().unwrap_or_else(PoisonError::into_inner);
                page.into_iter().for_each(|entry| window.push(Arc::new(entry.into())));
            }
            self.reached.send_replace(place);
        }
        Ok(())
    }
}
