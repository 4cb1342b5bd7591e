//! What a delivery reads from the store: where it stood, the journal's next page, retries that are due.

use std::collections::HashMap;
use std::sync::Arc;

use temps_protocol::manifest::Ordering as Order;
use temps_store::{StoreError, failpoint};
use tokio::time::sleep;

use super::link::wanted;
use super::{Delivery, RETRY_AFTER};
use crate::events::line::{Line, Now};
use crate::events::retries::IN_MEMORY;
use crate::events::strict::{Group, MAX_GROUPS, Strict};
use crate::plugin::Link;

/// Events that are looked at before anything else gets its turn.
const PAGE: usize = 256;

/// Held deliveries of a project that are looked at to find its next one.
const GROUP_PAGE: usize = 1;

/// When the journal is to be looked at again.
#[derive(Debug, Clone, Copy)]
pub(super) enum More {
    /// At once: there was a page, so there may be another.
    Now,
    /// After a while: the store refused.
    Later,
    /// When the journal has grown.
    WhenPublished,
}

impl More {
    pub(super) async fn wait(self) {
        match self {
            More::Now => {}
            More::Later => sleep(RETRY_AFTER).await,
            More::WhenPublished => std::future::pending().await,
        }
    }
}

impl Delivery {
    /// Reads where the plugin's deliveries stood, and how it wants them. `false` when the host stops first.
    pub(super) async fn load(&mut self, link: &Link) -> bool {
        let wants_strict = link.manifest.ordering == Some(Order::Strict);
        if self.loaded && wants_strict == self.line.is_strict() {
            self.resume_for_another_program(link).await;
            return true;
        }
        loop {
            match self.try_load(wants_strict).await {
                Ok(()) => {
                    self.resume_for_another_program(link).await;
                    return true;
                }
                Err(error) => {
                    tracing::error!(plugin = %self.name, %error, "the plugin's place in the journal cannot be read")
                }
            }
            tokio::select! {
                () = self.tools.stop.cancelled() => return false,
                () = sleep(RETRY_AFTER) => {}
            }
        }
    }

    /// The same for an order that comes before the plugin runs. The order of its events does not matter then.
    pub(in crate::events) async fn load_for_order(&mut self) -> Result<(), StoreError> {
        if self.loaded { Ok(()) } else { self.try_load(false).await }
    }

    async fn try_load(&mut self, strict: bool) -> Result<(), StoreError> {
        // A task for this name that ended a moment ago may have noted what is not written yet.
        if !self.account.flush().await {
            return Err(StoreError::Database {
                action: "record deliveries",
                reason: "those before the ones to be read are not written yet".into(),
            });
        }
        let store = &self.tools.store.0;
        let cursor = match store.cursor(&self.name).await? {
            Some(cursor) => cursor,
            None => {
                let known = store.plugins().await?.into_iter().find(|record| *record.name == *self.name);
                known.map_or_else(|| *self.reached.borrow(), |record| record.subscribed_from)
            }
        };
        let strict = if strict {
            Some(Strict::new(store.retrying_projects(&self.name, MAX_GROUPS).await?))
        } else {
            None
        };
        self.pause = store.pauses().await?.into_iter().find(|pause| *pause.plugin == *self.name);
        self.known_until = self.known_until.max(*store.head().borrow());
        self.line = Line::new(cursor, self.tools.survive, strict);
        self.loaded = true;
        Ok(())
    }

    /// What waits behind failing events since the plugin asked for strict order waits no longer.
    pub(super) async fn release_held(&self) -> Result<(), StoreError> {
        let store = &self.tools.store.0;
        if store.open_counts(&self.name).await?.held > 0 {
            store.release_held(&self.name, Now::read().utc).await?;
        }
        Ok(())
    }

    /// Takes a page of the journal into the line, if there is room and a page.
    pub(super) async fn refill(&mut self, link: &Link) -> More {
        if self.line.place() >= *self.reached.borrow_and_update() || !self.line.wants_more() {
            return More::WhenPublished;
        }
        match self.try_refill(link).await {
            Ok(more) => more,
            Err(error) => {
                tracing::error!(plugin = %self.name, %error, "the journal cannot be read; trying again");
                More::Later
            }
        }
    }

    async fn try_refill(&mut self, link: &Link) -> Result<More, StoreError> {
        let store = &*self.tools.store.0;
        let place = self.line.place();
        let page = self.tools.journal.after(store, place, PAGE).await?;
        let Some(last) = page.last() else { return Ok(More::WhenPublished) };
        let mut known = HashMap::new();
        if place < self.known_until {
            let history = store.delivery_history(&self.name, place, last.seq).await?;
            known = history.into_iter().map(|known| (known.seq, known)).collect();
        }
        let versions = Arc::clone(&self.tools.versions);
        for entry in page {
            if !self.line.has_room() {
                break;
            }
            self.line.take(&entry, wanted(link, &self.handle, &versions, &entry), known.remove(&entry.seq));
        }
        failpoint!("delivery.taken");
        Ok(More::Now)
    }

    /// Reads retries from the store when those in memory are used up, and what is next in projects that waited.
    pub(super) async fn ask_for_retries(&mut self) {
        let now = tokio::time::Instant::now();
        if self.ask_at.is_some_and(|at| at > now) {
            return;
        }
        self.ask_at = None;
        if self.line.wants_retries(Now::read()) && !self.try_ask(None).await {
            self.ask_at = Some(now + RETRY_AFTER);
        }
        while self.ask_at.is_none()
            && let Some(group) = self.line.next_release()
        {
            if !self.try_ask(Some(group)).await {
                self.line.release_later(group);
                self.ask_at = Some(now + RETRY_AFTER);
            }
        }
    }

    async fn try_ask(&mut self, group: Option<Group>) -> bool {
        // What was noted and is not written yet is missing in the store.
        self.book().await;
        if !self.account.flush().await {
            return false;
        }
        let store = &self.tools.store.0;
        let page = match group {
            None => store.retries(&self.name, IN_MEMORY).await,
            Some(group) => store.retries_of_project(&self.name, group, GROUP_PAGE).await,
        };
        match (page, group) {
            (Ok(page), None) => self.line.take_retries(page, Now::read()),
            (Ok(page), Some(group)) => self.line.release(group, page, Now::read()),
            (Err(error), _) => {
                tracing::error!(plugin = %self.name, %error, "retries cannot be read; trying again");
                return false;
            }
        }
        true
    }
}
