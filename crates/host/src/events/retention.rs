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
        prune(&*store, &audit, &metrics, Retention::standard(Utc::now())).await;
    }
}

async fn prune(store: &dyn HostStore, audit: &Audit, metrics: &Metrics, retention: Retention) {
    let pruned = store.prune(retention).await;
    if let Ok(pruned) = &pruned
        && (pruned.audit > 0 || pruned.attempts > 0)
    {
        let detail = json!({"records": pruned.audit, "attempts": pruned.attempts});
        audit.record("audit.pruned", None, "host", detail);
    }
    match pruned {
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

#[cfg(test)]
mod tests {
    use chrono::Duration;
    use temps_store::{AuditFilter, AuditStore};

    use super::super::tests::rig::{LONG, Rig};
    use super::*;

    #[tokio::test]
    async fn dropping_what_a_plugin_still_waits_for_is_counted_and_audited() {
        let rig = Rig::new(LONG);
        let audit = Audit::start(rig.store.clone());
        let _down = rig.plugin("down", &["*"]).await;
        rig.publish("deployment.ready", "e", 3).await;
        prune(&*rig.store, &audit, &rig.metrics, Retention::standard(Utc::now())).await;
        let in_a_week = Utc::now() + Duration::days(8);
        prune(&*rig.store, &audit, &rig.metrics, Retention::standard(in_a_week)).await;
        assert!(audit.flush().await);
        let told = rig.store.audit(AuditFilter { limit: 10, ..AuditFilter::default() }).await.unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!((&*told[0].kind, &told[0].detail["unsettled"]), ("events.dropped_unsettled", &json!(3)));
        assert!(rig.metrics.encode().contains("temps_events_dropped_unsettled_total 3"));
    }
}
