//! Sins of the channel.

use serde_json::{Value, json};
use temps_host::plugin::PluginState;
use temps_testkit::{Behaviour, Sin, Step};

use crate::rig::until_state;
use crate::scene::Scene;

/// More bytes of events than a Unix socket holds, so that a plugin that does not read stands in the way of somebody.
const MANY_EVENTS: usize = 1_000;

/// How often the sinner's requests were answered, by `ok` or error code.
fn answers(scene: &Scene) -> Value {
    let text = std::fs::read_to_string(scene.data("sinner").join("answers.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn answered(scene: &Scene) -> u64 {
    answers(scene)
        .as_object()
        .map(|counts| counts.values().filter_map(Value::as_u64).sum())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_never_bound_is_a_failed_start() {
    let scene = Scene::new().await;
    scene.sinner(Sin::SocketNeverBound);
    let crash = scene.crash().await;
    assert!(crash.cause.contains("the channel could not be opened"), "{crash:?}");
    assert_eq!(crash.state, PluginState::Connecting);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_channel_means_a_plugin_without_one_that_is_shown_as_such() {
    let scene = Scene::new().await;
    let statuses = [404, 400, 426, 501];
    let name = |status: u16| format!("refuses-{status}");
    for status in statuses {
        scene.rig.put(&Behaviour::sinful(name(status), Sin::ChannelRefused { status }));
    }
    for status in statuses {
        let running = until_state(&scene.host, &name(status), PluginState::Running).await;
        assert_eq!((running.channel, running.crashes), (Some("none"), 0), "{status}");
    }
    let id = scene.publish("deployment.ready").await;
    for status in statuses {
        scene.until_seen("the event by POST", || scene.events_of(&name(status)).contains(&id)).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_answers_an_error_is_a_failed_start() {
    let scene = Scene::new().await;
    scene.sinner(Sin::ChannelRefused { status: 500 });
    let crash = scene.crash().await;
    assert!(crash.cause.contains("status 500"), "{crash:?}");
    assert_eq!(crash.state, PluginState::Connecting);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_never_answers_is_a_failed_start() {
    let scene = Scene::new().await;
    scene.sinner(Sin::ChannelHangs);
    let crash = scene.crash().await;
    assert!(crash.cause.contains("did not answer the channel's upgrade within 5 s"), "{crash:?}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_after_the_channel_was_accepted_is_a_crash_with_its_status() {
    let scene = Scene::new().await;
    scene.sinner(Sin::ExitAt { step: Step::Channel, code: 7 });
    let crash = scene.crash().await;
    assert_eq!(crash.exit_code, Some(7), "{crash:?}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_is_answered_and_slows_down_nobody_else() {
    const REQUESTS: u64 = 4_000;
    let scene = Scene::new().await;
    scene.sinner(Sin::ChannelFloods { requests: REQUESTS });
    let running = scene.until_state(PluginState::Running).await;
    let id = scene.publish("deployment.succeeded").await;
    scene.until_seen("an event at the neighbour", || scene.events_of("neighbour").contains(&id)).await;
    scene.until_seen("every answer", || answered(&scene) == REQUESTS).await;
    let counts = answers(&scene);
    let known = counts.as_object().unwrap().keys().all(|outcome| outcome == "ok" || outcome == "busy");
    assert!(known && counts["ok"].as_u64() > Some(0), "{counts}");
    let now = scene.host.plugin("sinner").unwrap();
    assert_eq!((now.state, now.pid, now.crashes), (PluginState::Running, running.pid, 0));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_ignored_or_answered_and_the_channel_stays() {
    let scene = Scene::new().await;
    scene.sinner(Sin::GarbageFrames);
    let running = scene.until_state(PluginState::Running).await;
    // One of them has a method, so its sender waits for an answer.
    scene.until_seen("the answer", || answers(&scene) == json!({"invalid_params": 1})).await;
    let id = scene.publish("deployment.ready").await;
    scene.until_seen("an event", || scene.events_of("sinner").contains(&id)).await;
    let now = scene.host.plugin("sinner").unwrap();
    assert_eq!((now.channel, now.pid, now.crashes), (Some("open"), running.pid, 0));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_giant_frame_ends_the_channel_and_so_the_start() {
    let scene = Scene::new().await;
    scene.sinner(Sin::GiantFrame { megabytes: 20 });
    let crash = scene.crash().await;
    assert!(crash.cause.contains("1048576"), "the cause does not name the bound: {crash:?}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_read_keeps_neither_publishers_nor_others_waiting() {
    let scene = Scene::new().await;
    scene.sinner(Sin::SlowReader);
    scene.until_state(PluginState::Running).await;
    let mut last = String::new();
    for _ in 0..MANY_EVENTS {
        last = scene.publish("deployment.succeeded").await;
    }
    scene.until_seen("all events at the neighbour", || scene.events_of("neighbour").contains(&last)).await;
    assert_eq!(scene.events_of("sinner"), Vec::<String>::new());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_dropped_restarts_a_plugin_that_takes_only_one() {
    let scene = Scene::new().await;
    scene.sinner(Sin::DropsChannel { after_ms: 300 });
    let crash = scene.crash().await;
    assert!(crash.cause.contains("channel"), "{crash:?}");
    assert_eq!(crash.state, PluginState::Running);
    scene.until(|seen| seen.starts > 1).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_dropped_is_opened_again_where_both_sides_can() {
    let scene = Scene::new().await;
    let order = Behaviour::sinful("sinner", Sin::DropsChannel { after_ms: 300 })
        .ready_field("features", json!(["reconnect"]));
    scene.rig.put(&order);
    let running = scene.until_state(PluginState::Running).await;
    assert_eq!(running.features, ["reconnect"]);
    scene.until(|seen| seen.channel == Some("lost")).await;
    let id = scene.publish("deployment.ready").await;
    scene.until_seen("an event over a later channel", || scene.events_of("sinner").contains(&id)).await;
    let now = scene.host.plugin("sinner").unwrap();
    assert_eq!((now.pid, now.starts, now.crashes), (running.pid, 1, 0));
    scene.end().await;
}
