//! Drops old events and audit records now and then, and raises the alarm when an event went that somebody still waited for.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use temps_store::{HostStore, Retention};
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::metrics::Metrics;

/// Time between two looks. Short enough that a flood of events does not outgrow the journal's bound by much.
const EVERY: Duration = Duration::from_secs(60);

/// Prunes until the host stops.
pub(super) async fn run(store: Arc<dyn HostStore>, audit: Audit, metrics: Metrics, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match store.prune(Retention::standard(Utc::now())).await {
            Ok(pruned) if pruned.unsettled > 0 => {
                metrics.events_dropped_unsettled.inc_by(pruned.unsettled);
                tracing::error!(
                    events = pruned.unsettled,
                    "events were dropped that some plugin had not settled"
                );
                let detail = json!({"unsettled": pruned.unsettled, "events": pruned.events});
                audit.record("events.dropped_unsettled", None, "host", detail);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "old events cannot be dropped; trying again"),
        }
    }
}
