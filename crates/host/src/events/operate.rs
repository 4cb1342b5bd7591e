//! What operators ask of deliveries, as the host offers it. Orders go to the plugin's delivery task; see [`super::order`].

use chrono::{DateTime, Utc};
use temps_store::{JournalEntry, Seq, StoreError, Which};
use tokio::sync::oneshot;

use super::Events;
use super::order::{DeliveryError, Ordered, Wish};

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFrom {
    /// With the event at this place.
    Seq(Seq),
    /// With the first event that the journal took at this time or later.
    Time(DateTime<Utc>),
}

impl Events {
    /// Sends nothing more to a plugin until it is resumed, also after the host was restarted. Its events collect.
    ///
    /// # Errors
    /// [`DeliveryError`].
    pub async fn pause(&self, plugin: &str, reason: &str, by: &str) -> Result<(), DeliveryError> {
        self.order(plugin, Wish::Pause(reason.to_owned()), by).await.map(drop)
    }

    /// Goes on after a pause, whoever paused.
    ///
    /// # Errors
    /// [`DeliveryError`]; also when nothing is paused.
    pub async fn resume(&self, plugin: &str, by: &str) -> Result<(), DeliveryError> {
        self.order(plugin, Wish::Resume, by).await.map(drop)
    }

    /// Sends one event to a plugin (again), whatever became of it before, or all its dead letters. Returns how many.
    ///
    /// # Errors
    /// [`DeliveryError`].
    pub async fn redeliver(&self, plugin: &str, which: Which, by: &str) -> Result<u64, DeliveryError> {
        self.order(plugin, Wish::Redeliver(which), by).await
    }

    /// Gives up one delivery that is retried or dead, or all dead letters, for good. Returns how many.
    ///
    /// # Errors
    /// [`DeliveryError`].
    pub async fn discard(&self, plugin: &str, which: Which, by: &str) -> Result<u64, DeliveryError> {
        self.order(plugin, Wish::Discard(which), by).await
    }

    /// Delivers the journal to a plugin again, in order, from a place or a time on. What is retried or dead stays as it is.
    /// Returns how many events of the journal come again (those among them that the plugin wants).
    ///
    /// # Errors
    /// [`DeliveryError`]; also when the plugin has not got that far yet.
    pub async fn replay(&self, plugin: &str, from: ReplayFrom, by: &str) -> Result<u64, DeliveryError> {
        let after = match from {
            ReplayFrom::Seq(seq) => seq.saturating_sub(1).max(0),
            ReplayFrom::Time(at) => match self.first_since(at).await? {
                Some(entry) => entry.seq - 1,
                None => {
                    let at = at.format("%F %T UTC");
                    return Err(DeliveryError::NotNow(format!("the journal has no event since {at}")));
                }
            },
        };
        self.order(plugin, Wish::Replay(after), by).await
    }

    async fn order(&self, plugin: &str, wish: Wish, by: &str) -> Result<u64, DeliveryError> {
        let control = self.control(plugin).ok_or_else(|| DeliveryError::UnknownPlugin(plugin.to_owned()))?;
        let (reply, answer) = oneshot::channel();
        let ordered = Ordered { wish, by: by.to_owned(), reply };
        control.orders.send(ordered).await.map_err(|_| DeliveryError::Stopping)?;
        answer.await.unwrap_or(Err(DeliveryError::Stopping))
    }

    /// The first event that the journal took at a time or later. The journal grows with time, so a few looks find it.
    async fn first_since(&self, at: DateTime<Utc>) -> Result<Option<JournalEntry>, StoreError> {
        let store = &self.store.0;
        let (mut low, mut high) = (0, *store.head().borrow());
        while low < high {
            let middle = low + (high - low) / 2;
            match store.events_after(middle, 1).await?.pop() {
                Some(entry) if entry.published_at < at => low = entry.seq,
                _ => high = middle,
            }
        }
        Ok(store.events_after(low, 1).await?.pop().filter(|entry| entry.published_at >= at))
    }
}
