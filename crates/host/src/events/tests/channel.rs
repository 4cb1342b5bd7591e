//! Plugins with a channel: the real one, over a socket pair's worth of a WebSocket that the test reads.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use temps_protocol::{DeploymentInfo, EnvironmentInfo, Feature, ProjectInfo};
use temps_store::{AttemptRecord, AttemptResult, DeliveryState, DeliveryStore, OpenCounts, Via};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;

use super::rig::{LONG, Plugin, Rig, Run, SHORT};
use crate::audit::Audit;
use crate::channel::{ChannelHandle, ChannelSpec, Opened};
use crate::events::line::MAX_EVENTS;
use crate::platform::{Platform, PlatformError};
use crate::plugin::Ended;
use crate::secrets::Secret;

/// A platform without anything; the plugins here never ask.
struct Nothing;

#[async_trait::async_trait]
impl Platform for Nothing {
    async fn get_project(&self, _: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        Ok(Vec::new())
    }
    async fn get_environment(&self, _: i32) -> Result<Option<EnvironmentInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_environments(&self, _: i32) -> Result<Vec<EnvironmentInfo>, PlatformError> {
        Ok(Vec::new())
    }
    async fn get_deployment(&self, _: i32) -> Result<Option<DeploymentInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_deployments(
        &self,
        _: i32,
        _: Option<i32>,
        _: u32,
    ) -> Result<Vec<DeploymentInfo>, PlatformError> {
        Ok(Vec::new())
    }
}

/// The plugin's end of a channel: a task that reads while `reads` says so.
pub(super) struct Reader {
    pub(super) events: mpsc::UnboundedReceiver<String>,
    pub(super) reads: watch::Sender<bool>,
    frames: mpsc::UnboundedSender<String>,
    task: tokio::task::AbortHandle,
}

impl Reader {
    /// The ids of the next events.
    pub(super) async fn next(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(30), self.events.recv()).await;
            ids.push(next.unwrap_or_else(|_| panic!("only {ids:?} came")).unwrap());
        }
        ids
    }

    /// Sends a frame.
    pub(super) fn say(&self, frame: &Value) {
        self.frames.send(frame.to_string()).unwrap();
    }

    /// Acks an event, well or with an error.
    pub(super) fn ack(&self, id: &str, error: Option<&str>) {
        let status = if error.is_some() { "error" } else { "ok" };
        self.say(&json!({"type": "ack", "id": id, "status": status, "error": error}));
    }

    /// Goes away without a word, as a process that died.
    pub(super) fn die(&self) {
        self.task.abort();
    }
}

/// Opens a channel between the host and a plugin that reads at once.
pub(super) async fn open(rig: &Rig, plugin: &Plugin) -> (ChannelHandle, Reader) {
    open_with(rig, plugin, false).await
}

/// The same for a plugin that acks, or not.
pub(super) async fn open_with(rig: &Rig, plugin: &Plugin, acks: bool) -> (ChannelHandle, Reader) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (tell, events) = mpsc::unbounded_channel();
    let (reads, may_read) = watch::channel(true);
    let (frames, to_send) = mpsc::unbounded_channel();
    let task = tokio::spawn(read(theirs, tell, may_read, to_send)).abort_handle();
    let spec = ChannelSpec {
        name: plugin.name.clone(),
        secret: Secret::new("of-this-start".into()),
        grants: plugin.grants.subscribe(),
        platform: Arc::new(Nothing),
        store: rig.store.clone(),
        config: watch::channel(crate::configuration::Injected::default()).1,
        acks,
        audit: Audit::start(rig.store.clone()),
        metrics: rig.metrics.clone(),
        tap: Default::default(),
    };
    match crate::channel::open_over(spec, ours).await.unwrap() {
        Opened::Channel(channel) => (channel, Reader { events, reads, frames, task }),
        Opened::Unsupported { status } => panic!("{status}"),
    }
}

async fn read(
    stream: UnixStream,
    tell: mpsc::UnboundedSender<String>,
    mut may_read: watch::Receiver<bool>,
    mut to_send: mpsc::UnboundedReceiver<String>,
) {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    loop {
        if may_read.wait_for(|may| *may).await.is_err() {
            return;
        }
        let message = tokio::select! {
            message = socket.next() => message,
            _ = may_read.changed() => continue,
            Some(frame) = to_send.recv() => {
                let _ = socket.send(Message::text(frame)).await;
                continue;
            }
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(text.as_str()).unwrap();
                assert_eq!(frame["type"], "event");
                let _ = tell.send(frame["event"]["id"].as_str().unwrap().to_owned());
            }
            Some(Ok(_)) => {}
            _ => return,
        }
    }
}

pub(super) async fn begin(rig: &Rig, plugin: &mut Plugin) -> (Run, Reader) {
    let (channel, reader) = open(rig, plugin).await;
    (plugin.start("unused.sock".as_ref(), Some(channel)), reader)
}

/// Begins a run of a plugin that acks.
pub(super) async fn begin_acking(rig: &Rig, plugin: &mut Plugin) -> (Run, Reader) {
    plugin.features = vec![Feature::Ack];
    let (channel, reader) = open_with(rig, plugin, true).await;
    (plugin.start("unused.sock".as_ref(), Some(channel)), reader)
}

pub(super) fn ids(prefix: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{prefix}-{n}")).collect()
}

#[tokio::test]
async fn events_come_in_order_and_are_settled_once_read_and_survived() {
    let rig = Rig::new(SHORT);
    let mut plugin = rig.plugin("p", &["deployment.*"]).await;
    let (_run, mut reader) = begin(&rig, &mut plugin).await;
    rig.publish("project.created", "not-asked", 1).await;
    rig.publish("deployment.ready", "a", 1_000).await;
    let last = rig.publish("deployment.succeeded", "b", 3).await;
    assert_eq!(reader.next(1_000).await, ids("a", 0..1_000));
    assert_eq!(reader.next(3).await, ids("b", 0..3));
    let status = rig.until("p", |status| status.settled == 1_003 && status.cursor == last).await;
    assert!(status.last_delivered_at.is_some());
    rig.events.shutdown().await;
    let attempts = rig.attempts("p").await;
    assert_eq!(attempts.len(), 1_003);
    let settled =
        |a: &AttemptRecord| (a.result, a.via, a.attempt) == (AttemptResult::Settled, Via::Channel, 1);
    assert!(attempts.iter().all(settled));
    assert_eq!(rig.store.open_counts("p").await.unwrap(), OpenCounts::default());
    assert_eq!(rig.store.cursor("p").await.unwrap(), Some(last));
}

#[tokio::test]
async fn what_a_plugin_read_right_before_it_crashed_is_sent_again_alone() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (run, mut reader) = begin(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", 3).await;
    assert_eq!(reader.next(3).await, ids("e", 0..3));
    // It is sent once the pong of those before it came.
    rig.publish("deployment.ready", "f", 1).await;
    assert_eq!(reader.next(1).await, ids("f", 0..1));
    reader.die();
    plugin.end(&run, Ended::Crashed);
    let (_run, mut reader) = begin(&rig, &mut plugin).await;
    assert_eq!(reader.next(1).await, ids("e", 0..1));
    let status = rig.until("p", |status| status.unsettled == 1 && status.waiting == 3).await;
    assert_eq!((status.settled, status.cursor), (0, 0));
    assert!(reader.events.try_recv().is_err(), "one at a time");
}

#[tokio::test]
async fn what_a_plugin_survived_is_not_sent_again() {
    let rig = Rig::new(SHORT);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (run, mut reader) = begin(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", 3).await;
    reader.next(3).await;
    rig.until("p", |status| status.settled == 3).await;
    reader.die();
    plugin.end(&run, Ended::Crashed);
    rig.publish("deployment.ready", "later", 1).await;
    let (_run, mut reader) = begin(&rig, &mut plugin).await;
    assert_eq!(reader.next(1).await, ["later-0"]);
}

#[tokio::test]
async fn after_a_stop_in_order_the_unsettled_are_sent_again_together() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (run, mut reader) = begin(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", 3).await;
    reader.next(3).await;
    plugin.end(&run, Ended::Stopped);
    let (_run, mut reader) = begin(&rig, &mut plugin).await;
    assert_eq!(reader.next(3).await, ids("e", 0..3));
}

#[tokio::test]
async fn an_event_that_crashes_its_plugin_three_times_is_a_dead_letter_and_the_others_arrive() {
    let rig = Rig::new(SHORT);
    let mut plugin = rig.plugin("p", &["*"]).await;
    rig.publish("deployment.ready", "good", 2).await;
    rig.publish("deployment.ready", "poison", 1).await;
    let last = rig.publish("deployment.ready", "late", 2).await;
    let mut seen = Vec::new();
    let mut crashes = 0;
    while rig.events.status("p").is_none_or(|status| status.dead == 0) {
        crashes += 1;
        assert!(crashes < 8, "{seen:?}");
        let (run, mut reader) = begin(&rig, &mut plugin).await;
        // As long as it is in a group, nobody is blamed.
        loop {
            let id = reader.next(1).await.remove(0);
            seen.push(id.clone());
            if id == "poison-0" {
                break;
            }
        }
        reader.die();
        plugin.end(&run, Ended::Crashed);
        rig.until("p", |status| status.unsettled == 0).await;
    }
    let (_run, mut reader) = begin(&rig, &mut plugin).await;
    while !seen.contains(&"late-1".to_owned()) {
        seen.extend(reader.next(1).await);
    }
    rig.until("p", |status| status.cursor == last).await;
    rig.until("p", |status| status.dead == 1).await;
    rig.events.shutdown().await;
    let dead = rig.deliveries("p", DeliveryState::Dead).await;
    assert_eq!(dead.len(), 1);
    assert_eq!((&*dead[0].event_id, dead[0].attempts, dead[0].crashes), ("poison-0", 3, 3));
    assert_eq!(dead[0].outcome.as_deref(), Some("plugin_crashed"));
    assert_eq!(rig.store.cursor("p").await.unwrap(), Some(last));
}

#[tokio::test]
async fn a_new_channel_to_the_same_run_gets_only_what_may_not_have_been_read() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (run, mut reader) = begin(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "read", 1).await;
    reader.next(1).await;
    // The pong of the first is certain once the second was sent, which needs it.
    rig.publish("deployment.ready", "unread", 1).await;
    reader.next(1).await;
    reader.reads.send_replace(false);
    rig.publish("deployment.ready", "unread-too", 1).await;
    rig.until("p", |status| status.unsettled == 3).await;
    reader.die();
    let (channel, mut again) = open(&rig, &plugin).await;
    let _link = plugin.link_up(&run.link.socket, Some(channel));
    let first = again.next(1).await.remove(0);
    if first == "unread-0" {
        assert_eq!(again.next(1).await, ["unread-too-0"]);
    } else {
        assert_eq!(first, "unread-too-0", "the first was read for certain");
    }
}

#[tokio::test]
async fn a_plugin_that_stands_still_stays_within_its_bounds_and_holds_up_nobody() {
    let rig = Rig::new(SHORT);
    let mut stuck = rig.plugin("stuck", &["*"]).await;
    let mut well = rig.plugin("well", &["*"]).await;
    let (_stuck_run, mut stuck_reader) = begin(&rig, &mut stuck).await;
    let (_well_run, mut well_reader) = begin(&rig, &mut well).await;
    stuck_reader.reads.send_replace(false);
    let count = MAX_EVENTS + 3_000;
    let last = rig.publish("deployment.ready", "e", count).await;
    assert_eq!(well_reader.next(count).await, ids("e", 0..count));
    rig.until("well", |status| status.cursor == last).await;
    // A full line is filled up again only once there is room for many, so it may end somewhat below its bound.
    let full = MAX_EVENTS / 4 * 3..=MAX_EVENTS;
    let status = rig.until("stuck", |status| full.contains(&(status.waiting + status.unsettled))).await;
    assert_eq!(status.settled, 0);
    assert!(status.place < last, "the rest waits in the journal: {status:?}");
    stuck_reader.reads.send_replace(true);
    assert_eq!(stuck_reader.next(count).await, ids("e", 0..count), "nothing is lost, and nothing twice");
}

#[tokio::test]
async fn a_host_that_was_killed_delivers_again_what_was_not_settled_and_loses_nothing() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", 5).await;
    reader.next(5).await;
    // No shutdown: nothing is written after this moment.
    let rig = rig.restart(SHORT).await;
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "f", 1).await;
    assert_eq!(reader.next(6).await, [ids("e", 0..5), ids("f", 0..1)].concat());
}
