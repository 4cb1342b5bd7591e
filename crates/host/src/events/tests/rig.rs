//! A host reduced to its store, registry and deliveries, and plugins whose life the test decides.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use temps_protocol::{Feature, PluginEvent, PluginManifest, PluginName, Ready};
use temps_store::sqlite::SqliteStore;
use temps_store::{
    AttemptFilter, AttemptRecord, DeliveryFilter, DeliveryRecord, DeliveryState, DeliveryStore, JournalStore,
    PluginRecord, PluginStore, Seq,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::channel::ChannelHandle;
use crate::events::{DeliveryStatus, Events};
use crate::grants::Grants;
use crate::metrics::Metrics;
use crate::plugin::{Ended, Link, PluginSnapshot, PluginState};
use crate::registry::{PluginHandle, Registry};
use crate::secrets::Secret;

/// Long enough that nothing in a test is survived by accident.
pub(in crate::events) const LONG: Duration = Duration::from_secs(3_600);

/// Short enough to wait for.
pub(in crate::events) const SHORT: Duration = Duration::from_millis(50);

/// The host.
pub(in crate::events) struct Rig {
    pub(in crate::events) dir: tempfile::TempDir,
    pub(in crate::events) store: Arc<SqliteStore>,
    pub(in crate::events) registry: Registry,
    pub(in crate::events) events: Events,
    pub(in crate::events) metrics: Metrics,
    pub(in crate::events) audit: Audit,
}

impl Rig {
    pub(in crate::events) fn new(survive: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_dir(dir, survive)
    }

    fn in_dir(dir: tempfile::TempDir, survive: Duration) -> Self {
        let store = SqliteStore::open(&dir.path().join("temps.db")).unwrap();
        let registry = Registry::default();
        let metrics = Metrics::default();
        let audit = Audit::start(store.clone());
        let events = Events::start_with(
            store.clone(),
            registry.clone(),
            metrics.clone(),
            audit.clone(),
            Arc::default(),
            survive,
        );
        Self { dir, store, registry, events, metrics, audit }
    }

    /// The host as after a stop (or, without a shutdown before, a kill) and a new start.
    pub(in crate::events) async fn restart(self, survive: Duration) -> Self {
        self.store.close().await;
        Self::in_dir(self.dir, survive)
    }

    /// A plugin that is taken up now, and does not run yet.
    pub(in crate::events) async fn plugin(&self, name: &str, patterns: &[&str]) -> Plugin {
        let subscribed_from = *self.store.head().borrow();
        let known = self.store.plugins().await.unwrap().into_iter().any(|record| record.name == name);
        if !known {
            let record = PluginRecord {
                name: name.into(),
                file: name.into(),
                hash: None,
                manifest: None,
                enabled: true,
                first_seen_at: Utc::now(),
                subscribed_from,
            };
            self.store.put_plugin(record).await.unwrap();
        }
        let mut manifest = PluginManifest::builder(name, "1.0.0");
        for pattern in patterns {
            manifest = manifest.event(*pattern);
        }
        let plugin = Plugin {
            name: PluginName::new(name).unwrap(),
            manifest: Arc::new(manifest.build()),
            view: watch::Sender::new(Arc::new(snapshot(name))),
            link: watch::Sender::new(None),
            grants: watch::Sender::new(Arc::new(Grants { events: vec!["*".into()], ..Grants::default() })),
            features: Vec::new(),
            starts: 0,
        };
        let handle = PluginHandle {
            view: plugin.view.subscribe(),
            link: plugin.link.subscribe(),
            grants: plugin.grants.subscribe(),
        };
        self.registry.insert(name.into(), handle);
        plugin
    }

    /// The same with something changed in its manifest.
    pub(in crate::events) async fn plugin_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut PluginManifest),
    ) -> Plugin {
        let mut plugin = self.plugin(name, &["*"]).await;
        change(Arc::make_mut(&mut plugin.manifest));
        plugin
    }

    /// Publishes events of one type, with ids `{prefix}-0`, `{prefix}-1` and so on. Returns the last place.
    pub(in crate::events) async fn publish(&self, event_type: &str, prefix: &str, count: usize) -> Seq {
        let events = (0..count).map(|n| event(event_type, &format!("{prefix}-{n}"))).collect();
        self.store.publish(events).await.unwrap().last().unwrap().seq
    }

    /// Waits until a plugin's status is as wanted.
    pub(in crate::events) async fn until(
        &self,
        plugin: &str,
        wanted: impl Fn(&DeliveryStatus) -> bool,
    ) -> DeliveryStatus {
        let waiting = async {
            loop {
                if let Some(mut status) = self.events.watch(plugin)
                    && let Ok(status) = status.wait_for(|status| wanted(status)).await
                {
                    return status.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), waiting).await {
            Ok(status) => status,
            Err(_) => panic!("{plugin} stays at {:?}", self.events.status(plugin)),
        }
    }

    pub(in crate::events) async fn attempts(&self, plugin: &str) -> Vec<AttemptRecord> {
        let filter =
            AttemptFilter { plugin: Some(plugin.into()), limit: 100_000, ..AttemptFilter::default() };
        self.store.attempts(filter).await.unwrap()
    }

    pub(in crate::events) async fn deliveries(
        &self,
        plugin: &str,
        state: DeliveryState,
    ) -> Vec<DeliveryRecord> {
        let filter = DeliveryFilter {
            plugin: Some(plugin.into()),
            state: Some(state),
            limit: 100_000,
            ..DeliveryFilter::default()
        };
        self.store.deliveries(filter).await.unwrap()
    }
}

pub(in crate::events) fn event(event_type: &str, id: &str) -> PluginEvent {
    PluginEvent {
        id: id.into(),
        event_type: event_type.into(),
        timestamp: Utc::now(),
        project_id: Some(42),
        data: json!({"url": "https://myapp.example.com"}),
    }
}

fn snapshot(name: &str) -> PluginSnapshot {
    PluginSnapshot {
        name: name.into(),
        plugin_name: None,
        file: name.into(),
        hash: None,
        state: PluginState::Stopped,
        reason: None,
        manifest: None,
        has_ui: false,
        channel: None,
        features: Vec::new(),
        health: None,
        pid: None,
        containment: None,
        running_since: None,
        usage: None,
        layers: None,
        confined: None,
        next_start_at: None,
        starts: 0,
        crashes: 0,
        last_crash: None,
        allowed_actions: Vec::new(),
    }
}

/// A plugin as its actor would hold it.
pub(in crate::events) struct Plugin {
    pub(super) name: PluginName,
    manifest: Arc<PluginManifest>,
    view: watch::Sender<Arc<PluginSnapshot>>,
    link: watch::Sender<Option<Arc<Link>>>,
    pub(in crate::events) grants: watch::Sender<Arc<Grants>>,
    /// What both sides announced.
    pub(super) features: Vec<Feature>,
    starts: u64,
}

/// One run of a plugin.
pub(in crate::events) struct Run {
    pub(in crate::events) link: Arc<Link>,
    ended: watch::Sender<Option<Ended>>,
}

impl Plugin {
    /// Begins a run behind `socket`.
    pub(in crate::events) fn start(&mut self, socket: &Path, channel: Option<ChannelHandle>) -> Run {
        self.starts += 1;
        self.link_up(socket, channel)
    }

    /// Makes a link of the present run, as after its channel was lost and opened again.
    pub(in crate::events) fn link_up(&self, socket: &Path, channel: Option<ChannelHandle>) -> Run {
        let (ended, how) = watch::channel(None);
        let link = Arc::new(Link {
            name: self.name.clone(),
            incarnation: self.starts,
            socket: socket.to_owned(),
            launcher_pid: std::process::id(),
            secret: Secret::new("of-this-start".into()),
            manifest: self.manifest.clone(),
            ready: Arc::new(Ready { ready: true, has_ui: false, openapi: None, features: Vec::new() }),
            features: self.features.clone(),
            channel,
            has_ui: false,
            closed: CancellationToken::new(),
            work: TaskTracker::new(),
            ended: how,
            blames_an_event: Default::default(),
            tap: Default::default(),
        });
        self.link.send_replace(Some(link.clone()));
        Run { link, ended }
    }

    /// Ends a run, in the order in which the actor does it.
    pub(in crate::events) fn end(&self, run: &Run, how: Ended) {
        run.link.closed.cancel();
        self.link.send_replace(None);
        run.ended.send_replace(Some(how));
    }
}
