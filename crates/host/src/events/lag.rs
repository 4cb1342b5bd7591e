//! How far a plugin is behind: in events, in seconds, and in deliveries that are open. Measured when it is asked for, and now
//! and then for the metrics.

use std::time::Duration;

use chrono::{DateTime, Utc};
use temps_store::{OpenCounts, StoreError};

use super::Events;
use super::account::DeliveryStatus;
use crate::metrics::Metrics;

/// Time between two measurements for the metrics.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// How far a plugin is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Events of the journal that the plugin's deliveries have not passed, whether it wants them or not.
    pub events: u64,
    /// When the journal took the oldest event that is not settled; `None` when there is none. Dead letters are apart.
    pub oldest: Option<DateTime<Utc>>,
    /// Deliveries that are open.
    pub open: OpenCounts,
}

impl Lag {
    /// Age of the oldest event that is not settled, in seconds.
    #[must_use]
    pub fn seconds(&self, now: DateTime<Utc>) -> u64 {
        self.oldest.map_or(0, |oldest| (now - oldest).num_seconds().max(0).unsigned_abs())
    }
}

impl Events {
    /// How far a plugin is behind; `None` for one that there is not.
    ///
    /// # Errors
    /// What the store says.
    pub async fn lag(&self, plugin: &str) -> Result<Option<Lag>, StoreError> {
        let Some(status) = self.status(plugin) else { return Ok(None) };
        self.measure(plugin, &status).await.map(Some)
    }

    async fn measure(&self, plugin: &str, status: &DeliveryStatus) -> Result<Lag, StoreError> {
        let store = &*self.store.0;
        let open = store.open_counts(plugin).await?;
        let head = *store.head().borrow();
        let next = match status.oldest {
            Some(oldest) => Some(oldest),
            None if status.place < head => {
                let page = self.journal.after(store, status.place, 1).await?;
                page.first().map(|entry| entry.published_at)
            }
            None => None,
        };
        let oldest = next.into_iter().chain(open.oldest_published_at).min();
        Ok(Lag { events: (head - status.cursor).max(0).unsigned_abs(), oldest, open })
    }

    /// Measures for the metrics until the host stops.
    pub(super) async fn watch_lag(&self) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(MEASURE_EVERY) => self.measure_all().await,
            }
        }
    }

    pub(super) async fn measure_all(&self) {
        let names: Vec<String> = {
            let controls = self.controls.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            controls.keys().cloned().collect()
        };
        for name in names {
            let Some(status) = self.status(&name) else { continue };
            match self.measure(&name, &status).await {
                Ok(lag) => show(&self.metrics, &name, &lag, status.paused.is_some()),
                Err(error) => tracing::debug!(plugin = name, %error, "its lag could not be measured"),
            }
        }
    }
}

/// The words of open deliveries in the metrics.
const KINDS: [&str; 3] = ["retrying", "dead", "held"];

fn show(metrics: &Metrics, plugin: &str, lag: &Lag, paused: bool) {
    let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let of = Metrics::of(plugin);
    metrics.delivery_lag_events.get_or_create(&of).set(gauge(lag.events));
    metrics.delivery_lag_seconds.get_or_create(&of).set(gauge(lag.seconds(Utc::now())));
    metrics.deliveries_paused.get_or_create(&of).set(i64::from(paused));
    for (kind, count) in KINDS.into_iter().zip([lag.open.retrying, lag.open.dead, lag.open.held]) {
        metrics.deliveries_open.get_or_create(&Metrics::of_and(plugin, kind)).set(gauge(count));
    }
}

/// A plugin that is gone lags no longer.
pub(super) fn forget(metrics: &Metrics, plugin: &str) {
    let of = Metrics::of(plugin);
    metrics.delivery_lag_events.remove(&of);
    metrics.delivery_lag_seconds.remove(&of);
    metrics.deliveries_paused.remove(&of);
    for kind in KINDS {
        metrics.deliveries_open.remove(&Metrics::of_and(plugin, kind));
    }
}
