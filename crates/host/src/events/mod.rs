//! Events: from the journal to each plugin, in order, and again after a failure or a crash.
//!
//! Publishing writes to the store and ends there. Everything else happens here, behind the store's head: one reader
//! follows the journal, one task per plugin sends what the plugin wants, one task writes what became of it.

mod account;
mod adapted;
mod delivery;
mod filter;
mod flight;
mod journal;
mod lag;
mod line;
mod operate;
mod order;
mod outcome;
mod post;
mod recorder;
mod retention;
mod retries;
mod strict;
mod tail;
mod temper;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use temps_store::HostStore;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::versions::ApiVersions;
use delivery::{Delivery, Store, Tools};
use journal::Journal;
use order::Ordered;

pub use account::DeliveryStatus;
pub use lag::Lag;
pub use operate::ReplayFrom;
pub use order::DeliveryError;
pub use tail::EventTail;
pub use temps_store::Which;

/// How long a plugin without acks must live after it read an event, before the event counts as handled.
const SURVIVE: Duration = Duration::from_secs(5);

/// How long a shutdown waits for the last records.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Orders of one plugin that may wait; operators are patient.
const ORDERS: usize = 16;

/// What others hold of a plugin's delivery.
#[derive(Debug, Clone)]
struct Control {
    status: watch::Receiver<DeliveryStatus>,
    orders: mpsc::Sender<Ordered>,
}

type Controls = Arc<RwLock<BTreeMap<String, Control>>>;

/// The deliveries to all plugins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    journal: Arc<Journal>,
    store: Store,
    metrics: Metrics,
    controls: Controls,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Events {
    /// Starts delivering to every plugin in the registry, now and later, and dropping what is too old.
    ///
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn start(
        store: Arc<dyn HostStore>,
        registry: Registry,
        metrics: Metrics,
        audit: Audit,
        versions: Arc<ApiVersions>,
    ) -> Self {
        let events =
            Self::start_with(store.clone(), registry, metrics.clone(), audit.clone(), versions, SURVIVE);
        let looking = events.clone();
        events.tasks.spawn(async move { looking.watch_lag().await });
        events.tasks.spawn(retention::run(store, audit, metrics, events.stop.clone()));
        events
    }

    fn start_with(
        store: Arc<dyn HostStore>,
        registry: Registry,
        metrics: Metrics,
        audit: Audit,
        versions: Arc<ApiVersions>,
        survive: Duration,
    ) -> Self {
        let journal = Arc::new(Journal::at(*store.head().borrow()));
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let controls = Controls::default();
        let (notes, recording) = recorder::start(store.clone());
        tasks.spawn(recording);
        tasks.spawn({
            let (journal, store, stop) = (journal.clone(), store.clone(), stop.clone());
            async move { journal.follow(&*store, stop).await }
        });
        let tools = Tools {
            store: Store(store.clone()),
            journal: journal.clone(),
            notes,
            metrics: metrics.clone(),
            audit,
            survive,
            versions,
            stop: stop.clone(),
        };
        tasks.spawn(attend(registry, tools, controls.clone()));
        tasks.close();
        Self { journal, store: Store(store), metrics, controls, tasks, stop }
    }

    /// How far the deliveries to a plugin are; `None` for a plugin that there is not.
    #[must_use]
    pub fn status(&self, plugin: &str) -> Option<DeliveryStatus> {
        Some(self.watch(plugin)?.borrow().clone())
    }

    /// [`Events::status`], as something that can be waited for.
    #[must_use]
    pub fn watch(&self, plugin: &str) -> Option<watch::Receiver<DeliveryStatus>> {
        Some(self.control(plugin)?.status)
    }

    fn control(&self, plugin: &str) -> Option<Control> {
        self.controls.read().unwrap_or_else(PoisonError::into_inner).get(plugin).cloned()
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
async fn attend(registry: Registry, tools: Tools, controls: Controls) {
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
            show_before_it_runs(&name, &status, &tools).await;
            let (orders, taken) = mpsc::channel(ORDERS);
            let control = Control { status: status.subscribe(), orders };
            controls.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), control);
            let delivery = Delivery::new(&name, handle, tools.clone(), status.clone(), taken);
            attended.insert(name.clone(), status);
            deliveries.spawn(async move {
                delivery.run().await;
                name
            });
        }
        tokio::select! {
            () = tools.stop.cancelled() => break,
            ended = deliveries.join_next(), if !deliveries.is_empty() => match ended {
                Some(Ok(name)) => forget(&mut attended, &controls, &tools, &name),
                Some(Err(error)) => tracing::error!(%error, "a delivery task failed"),
                None => {}
            },
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    while deliveries.join_next().await.is_some() {}
}

/// A plugin that does not run shows where it stands, too; if that cannot be read now, it shows once it runs.
async fn show_before_it_runs(name: &str, status: &watch::Sender<DeliveryStatus>, tools: &Tools) {
    let store = &tools.store.0;
    if let Ok(Some(cursor)) = store.cursor(name).await {
        status.send_modify(|status| (status.cursor, status.place) = (cursor, cursor));
    }
    if let Ok(pauses) = store.pauses().await {
        let paused = pauses.into_iter().find(|pause| pause.plugin == name);
        status.send_modify(|status| status.paused = paused);
    }
}

fn forget(
    attended: &mut BTreeMap<String, watch::Sender<DeliveryStatus>>,
    controls: &Controls,
    tools: &Tools,
    name: &str,
) {
    attended.remove(name);
    controls.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    lag::forget(&tools.metrics, name);
}
