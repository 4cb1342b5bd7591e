//! What every test of a sin has: a host, an honest plugin that was there before, and the sinner.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use temps_host::plugin::PluginState;
use temps_host::protocol::PluginEvent;
use temps_host::{PluginHost, PluginSnapshot};
use temps_testkit::{Behaviour, Sin};

use crate::rig::{PATIENCE, Rig, trail, until, until_state};

/// Name of the honest plugin.
const NEIGHBOUR: &str = "neighbour";

/// A host with an honest plugin that runs.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    pub(crate) host: PluginHost,
    neighbour: Arc<PluginSnapshot>,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A scene whose rig is changed before the host starts.
    pub(crate) async fn with(change: impl FnOnce(&mut Rig)) -> Self {
        let mut rig = Rig::new();
        change(&mut rig);
        rig.put(&Behaviour::honest(NEIGHBOUR));
        let host = rig.host().await;
        until_state(&host, NEIGHBOUR, PluginState::Running).await;
        let neighbour = until(&host, NEIGHBOUR, |seen| seen.health == Some("ok")).await;
        Self { rig, host, neighbour }
    }

    /// Puts a plugin with one sin into the directory.
    pub(crate) fn sinner(&self, sin: Sin) {
        self.rig.put(&Behaviour::sinful("sinner", sin));
    }

    /// Waits until the sinner is seen like this.
    pub(crate) async fn until(&self, reached: impl Fn(&PluginSnapshot) -> bool) -> Arc<PluginSnapshot> {
        until(&self.host, "sinner", reached).await
    }

    /// Waits until the sinner is in a state.
    pub(crate) async fn until_state(&self, state: PluginState) -> Arc<PluginSnapshot> {
        until_state(&self.host, "sinner", state).await
    }

    /// Waits until the sinner is refused; why it was.
    pub(crate) async fn refusal(&self) -> String {
        let refused = self.until_state(PluginState::Refused).await;
        assert_eq!((refused.pid, refused.starts), (None, 0), "a program that was refused runs: {refused:?}");
        refused.reason.clone().unwrap()
    }

    /// Waits until the sinner has crashed; how it did.
    pub(crate) async fn crash(&self) -> temps_host::plugin::CrashReport {
        self.until(|seen| seen.last_crash.is_some()).await.last_crash.clone().unwrap()
    }

    /// Publishes an event of a type; its id.
    pub(crate) async fn publish(&self, event_type: &str) -> String {
        self.publish_data(event_type, json!({"deployment_id": 100})).await
    }

    /// Publishes an event of a type with this payload; its id.
    pub(crate) async fn publish_data(&self, event_type: &str, data: Value) -> String {
        let id = uuid::Uuid::now_v7().to_string();
        let event = PluginEvent {
            id: id.clone(),
            event_type: event_type.into(),
            timestamp: Utc::now(),
            project_id: Some(42),
            data,
        };
        self.host.publish(event).await.unwrap();
        id
    }

    /// A plugin's data directory.
    pub(crate) fn data(&self, plugin: &str) -> PathBuf {
        self.rig.config.state_dir.join("data").join(plugin)
    }

    /// Ids of the events that a plugin has taken, in the order in which it did, repetitions included.
    pub(crate) fn events_of(&self, plugin: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.data(plugin).join("events.jsonl")).unwrap_or_default();
        let id = |line| Some(serde_json::from_str::<Value>(line).ok()?["id"].as_str()?.to_owned());
        text.lines().filter_map(id).collect()
    }

    /// Waits for something that can only be seen by looking.
    pub(crate) async fn until_seen(&self, what: &str, seen: impl Fn() -> bool) {
        let look = async {
            while !seen() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, look).await.is_err() {
            panic!("{what} was never seen; the sinner is {:#?}", self.host.plugin("sinner"));
        }
    }

    /// Ends the scene: the honest plugin is the process that it was, works, and was never troubled; nothing is left over.
    pub(crate) async fn end(self) {
        let id = self.publish("deployment.succeeded").await;
        self.until_seen("the neighbour's event", || self.events_of(NEIGHBOUR).contains(&id)).await;
        let now = until(&self.host, NEIGHBOUR, |seen| seen.health == Some("ok")).await;
        assert_eq!((now.pid, now.starts, now.crashes), (self.neighbour.pid, 1, 0), "the neighbour noticed");
        assert_eq!((now.state, now.channel), (PluginState::Running, self.neighbour.channel));
        let troubles = ["plugin.crashed", "plugin.stopped", "plugin.quarantined", "plugin.held"];
        let trail = trail(&self.host, NEIGHBOUR).await;
        assert!(
            !trail.iter().any(|kind| troubles.contains(&kind.as_str())),
            "the neighbour noticed: {trail:?}"
        );
        self.host.shutdown().await;
        for plugin in self.host.plugins() {
            assert_eq!(plugin.pid, None, "{} outlived the host", plugin.name);
        }
        let home = self.rig.home.path().to_string_lossy().into_owned();
        self.until_seen("the end of every process", || leftovers(&home).is_empty()).await;
    }
}

/// Processes whose command line names the directory of a test.
fn leftovers(home: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(home))
        .collect()
}
