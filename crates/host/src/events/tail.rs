//! Following the journal from a place on, for people who watch events go by.

use std::collections::VecDeque;
use std::sync::Arc;

use temps_store::{HostStore, JournalEntry, Seq, StoreError};
use tokio::sync::watch;

/// Events that are read ahead.
const PAGE: usize = 64;

/// The journal from a place on, without end.
pub struct EventTail {
    store: Arc<dyn HostStore>,
    head: watch::Receiver<Seq>,
    place: Seq,
    page: VecDeque<JournalEntry>,
}

impl EventTail {
    /// Begins after `after`; `None` begins with the next event that is published.
    #[must_use]
    pub fn new(store: Arc<dyn HostStore>, after: Option<Seq>) -> Self {
        let head = store.head();
        let place = after.unwrap_or_else(|| *head.borrow());
        Self { store, head, place, page: VecDeque::new() }
    }

    /// The next event; waits until there is one. May be dropped while it waits without losing an event.
    ///
    /// # Errors
    /// What the store says; [`StoreError::Closed`] when there will be no more. Asking again goes on at the same place.
    pub async fn next(&mut self) -> Result<JournalEntry, StoreError> {
        loop {
            if let Some(entry) = self.page.pop_front() {
                return Ok(entry);
            }
            let place = self.place;
            self.head.wait_for(|head| *head > place).await.map_err(|_| StoreError::Closed)?;
            let page = self.store.events_after(place, PAGE).await?;
            // Nothing there although the head is further: retention was quicker.
            self.place = page.last().map_or(*self.head.borrow(), |entry| entry.seq);
            self.page.extend(page);
        }
    }
}
