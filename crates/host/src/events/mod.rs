//! Events: from the journal to each plugin, in order, and again after a crash.
//!
//! Publishing writes to the store and ends there. Everything else happens here, behind the store's head: one reader
//! follows the journal, one task per plugin sends what the plugin wants, one task writes what became of it.

mod account;
mod delivery;
mod journal;
mod line;
mod post;
mod recorder;
mod retention;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use temps_store::HostStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::metrics::Metrics;
use crate::registry::Registry;
use delivery::{Delivery, Store, Tools};
use journal::Journal;

pub use account::DeliveryStatus;
pub use tail::EventTail;

/// How long a plugin without acks must live after it read an event, before the event counts as handled.
const SURVIVE: Duration = Duration::from_secs(5);

/// How long a shutdown waits for the last records.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

type Statuses = Arc<RwLock<BTreeMap<String, watch::Receiver<DeliveryStatus>>>>;

/// The deliveries to all plugins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    journal: Arc<Journal>,
    statuses: Statuses,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Events {
    /// Starts delivering to every plugin in the registry, now and later, and dropping what is too old.
    ///
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn start(store: Arc<dyn HostStore>, registry: Registry, metrics: Metrics, audit: Audit) -> Self {
        let events = Self::start_with(store.clone(), registry, metrics.clone(), SURVIVE);
        events.tasks.spawn(retention::run(store, audit, metrics, events.stop.clone()));
        events
    }

    fn start_with(
        store: Arc<dyn HostStore>,
        registry: Registry,
        metrics: Metrics,
        survive: Duration,
    ) -> Self {
        let journal = Arc::new(Journal::at(*store.head().borrow()));
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let statuses = Statuses::default();
        let (notes, recording) = recorder::start(store.clone());
        tasks.spawn(recording);
        tasks.spawn({
            let (journal, store, stop) = (journal.clone(), store.clone(), stop.clone());
            async move { journal.follow(&*store, stop).await }
        });
        let tools = Tools {
            store: Store(store),
            journal: journal.clone(),
            notes,
            metrics,
            survive,
            stop: stop.clone(),
        };
        tasks.spawn(attend(registry, tools, statuses.clone()));
        tasks.close();
        Self { journal, statuses, tasks, stop }
    }

    /// How far the deliveries to a plugin are; `None` for a plugin that there is not.
    #[must_use]
    pub fn status(&self, plugin: &str) -> Option<DeliveryStatus> {
        Some(self.watch(plugin)?.borrow().clone())
    }

    /// [`Events::status`], as something that can be waited for.
    #[must_use]
    pub fn watch(&self, plugin: &str) -> Option<watch::Receiver<DeliveryStatus>> {
        self.statuses.read().unwrap_or_else(PoisonError::into_inner).get(plugin).cloned()
    }

    /// Pages that plugins which lag far behind have read from the store by themselves.
    #[must_use]
    pub fn lagging_reads(&self) -> u64 {
        self.journal.lagging_reads()
    }

    /// Ends all deliveries and returns once their last records are written, after ten seconds at most. Call it after the
    /// plugins have stopped.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::error!(
                "the last deliveries could not be recorded in time; some events will be delivered again"
            );
        }
    }
}

/// Sees to it that each plugin in the registry has its delivery. Ends when the host stops and all deliveries ended.
async fn attend(registry: Registry, tools: Tools, statuses: Statuses) {
    let mut changes = registry.changes();
    let mut deliveries: JoinSet<String> = JoinSet::new();
    let mut attended: BTreeMap<String, watch::Sender<DeliveryStatus>> = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        for (name, handle) in registry.all() {
            // A handle whose plugin has ended will be replaced or removed, which is a change.
            if attended.contains_key(&name) || handle.link.has_changed().is_err() {
                continue;
            }
            let status = watch::Sender::default();
            publish_status(&statuses, &name, &status, &tools).await;
            let delivery = Delivery::new(&name, handle, tools.clone(), status.clone());
            attended.insert(name.clone(), status);
            deliveries.spawn(async move {
                delivery.run().await;
                name
            });
        }
        tokio::select! {
            () = tools.stop.cancelled() => break,
            ended = deliveries.join_next(), if !deliveries.is_empty() => match ended {
                Some(Ok(name)) => forget(&mut attended, &statuses, &name),
                Some(Err(error)) => tracing::error!(%error, "a delivery task failed"),
                None => {}
            },
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    while deliveries.join_next().await.is_some() {}
}

async fn publish_status(
    statuses: &Statuses,
    name: &str,
    status: &watch::Sender<DeliveryStatus>,
    tools: &Tools,
) {
    // A plugin that does not run shows where it stands, too; if that cannot be read now, it shows once it runs.
    if let Ok(Some(cursor)) = tools.store.0.cursor(name).await {
        status.send_modify(|status| (status.cursor, status.place) = (cursor, cursor));
    }
    statuses.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), status.subscribe());
}

fn forget(attended: &mut BTreeMap<String, watch::Sender<DeliveryStatus>>, statuses: &Statuses, name: &str) {
    attended.remove(name);
    statuses.write().unwrap_or_else(PoisonError::into_inner).remove(name);
}
