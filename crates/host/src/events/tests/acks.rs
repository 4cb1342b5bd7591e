//! Plugins that ack, over the real channel.

use serde_json::json;
use temps_store::{AttemptResult, DeliveryState, DeliveryStore, JournalStore, OpenCounts};

use super::channel::{begin, begin_acking, ids};
use super::rig::{LONG, Rig, event};
use crate::events::line::WINDOW;
use crate::metrics::Metrics;
use crate::plugin::Ended;

#[tokio::test]
async fn an_event_is_settled_by_its_ack_and_by_nothing_else() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    let last = rig.publish("deployment.ready", "e", 3).await;
    assert_eq!(reader.next(3).await, ids("e", 0..3));
    assert_eq!(rig.events.status("p").unwrap().settled, 0);
    for id in ids("e", 0..3) {
        reader.ack(&id, None);
    }
    rig.until("p", |status| status.settled == 3 && status.cursor == last).await;
    rig.events.shutdown().await;
    let attempts = rig.attempts("p").await;
    assert!(attempts.iter().all(|attempt| attempt.answer.as_deref() == Some("acked")), "{attempts:?}");
    assert_eq!(rig.store.open_counts("p").await.unwrap(), OpenCounts::default());
}

#[tokio::test]
async fn a_plugin_gets_no_more_than_its_window_until_it_acks() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", WINDOW * 3).await;
    assert_eq!(reader.next(WINDOW).await, ids("e", 0..WINDOW));
    rig.until("p", |status| status.unsettled == WINDOW && status.waiting == WINDOW * 2).await;
    assert!(reader.events.try_recv().is_err());
    reader.ack("e-0", None);
    assert_eq!(reader.next(1).await, ids("e", WINDOW..WINDOW + 1));
    assert!(reader.events.try_recv().is_err());
}

#[tokio::test]
async fn an_ack_with_an_error_is_a_failed_attempt_with_its_reason_and_the_next_one_heals_it() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    let last = rig.publish("deployment.ready", "e", 2).await;
    reader.next(2).await;
    reader.ack("e-0", Some("no room"));
    reader.ack("e-1", None);
    let status = rig.until("p", |status| status.settled == 1 && status.failed == 1).await;
    assert_eq!(status.cursor, last, "its row holds what failed");
    // The first wait is a second of real time.
    assert_eq!(reader.next(1).await, ["e-0"]);
    reader.ack("e-0", None);
    rig.until("p", |status| status.settled == 2).await;
    rig.events.shutdown().await;
    let told: Vec<_> =
        rig.attempts("p").await.into_iter().map(|a| (a.event_id, a.attempt, a.result)).collect();
    assert_eq!(told[0], ("e-0".into(), 1, AttemptResult::Failed));
    assert_eq!(told[2], ("e-0".into(), 2, AttemptResult::Settled));
}

#[tokio::test]
async fn acks_that_belong_to_nothing_are_counted_and_change_nothing() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    reader.ack("e-0", None);
    rig.publish("deployment.ready", "e", 2).await;
    reader.next(2).await;
    reader.ack("e-0", None);
    reader.ack("e-0", None);
    reader.ack("never-published", None);
    reader.ack("e-1", None);
    rig.until("p", |status| status.settled == 2).await;
    let strays = rig.metrics.delivery_stray_acks.get_or_create(&Metrics::of("p")).get();
    assert_eq!(strays, 3, "too early, twice, and never sent");
}

#[tokio::test]
async fn a_flood_of_acks_is_cut_off_and_harms_nobody_else() {
    let rig = Rig::new(LONG);
    let mut flooder = rig.plugin("flooder", &["*"]).await;
    let mut well = rig.plugin("well", &["*"]).await;
    let (_run, mut bad) = begin_acking(&rig, &mut flooder).await;
    let (_run, mut good) = begin_acking(&rig, &mut well).await;
    rig.publish("deployment.ready", "e", 1).await;
    bad.next(1).await;
    for n in 0..20_000 {
        bad.say(&json!({"type": "ack", "id": format!("bogus-{n}"), "status": "ok"}));
    }
    good.next(1).await;
    good.ack("e-0", None);
    rig.publish("deployment.ready", "f", 1).await;
    assert_eq!(good.next(1).await, ["f-0"]);
    good.ack("f-0", None);
    rig.until("well", |status| status.settled == 2).await;
    let strays = rig.metrics.delivery_stray_acks.get_or_create(&Metrics::of("flooder")).get();
    // As many as wait at a time, and those that were taken from there while more came in: a small part of the flood.
    assert!(strays <= 200, "{strays} of 20,000 were looked at");
}

#[tokio::test]
async fn acks_mean_nothing_while_the_feature_is_not_in_force() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", 1).await;
    reader.next(1).await;
    reader.ack("e-0", None);
    rig.publish("deployment.ready", "f", 1).await;
    reader.next(1).await;
    assert_eq!(rig.events.status("p").unwrap().settled, 0);
}

#[tokio::test]
async fn a_stop_waits_for_the_acks_of_what_is_in_hand() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (run, mut reader) = begin_acking(&rig, &mut plugin).await;
    let last = rig.publish("deployment.ready", "e", 2).await;
    reader.next(2).await;
    rig.until("p", |status| status.unsettled == 2).await;
    run.link.closed.cancel();
    run.link.work.close();
    rig.publish("deployment.ready", "later", 1).await;
    reader.ack("e-0", None);
    rig.until("p", |status| status.settled == 1).await;
    assert!(!run.link.work.is_empty(), "one is still in hand");
    reader.ack("e-1", None);
    run.link.work.wait().await;
    rig.until("p", |status| status.settled == 2 && status.cursor == last).await;
    assert!(reader.events.try_recv().is_err(), "nothing new was sent");
}

#[tokio::test]
async fn what_was_not_acked_when_the_plugin_crashed_comes_again_alone_first() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (run, mut reader) = begin_acking(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", 4).await;
    reader.next(4).await;
    reader.ack("e-0", None);
    rig.until("p", |status| status.settled == 1).await;
    reader.die();
    plugin.end(&run, Ended::Crashed);
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    assert_eq!(reader.next(1).await, ["e-1"]);
    rig.until("p", |status| status.unsettled == 1).await;
    assert!(reader.events.try_recv().is_err(), "one at a time");
    reader.ack("e-1", None);
    assert_eq!(reader.next(2).await, ["e-2", "e-3"]);
}

#[tokio::test]
async fn what_failed_is_tried_again_after_the_host_was_killed_and_what_was_settled_is_not() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", 3).await;
    reader.next(3).await;
    reader.ack("e-0", None);
    reader.ack("e-1", Some("not now"));
    reader.ack("e-2", None);
    rig.until("p", |status| status.settled == 2).await;
    while rig.store.open_counts("p").await.unwrap().retrying == 0 {
        tokio::task::yield_now().await;
    }
    let rig = rig.restart(LONG).await;
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "f", 1).await;
    let mut next = reader.next(2).await;
    next.sort();
    assert_eq!(next, ["e-1", "f-0"]);
    next.iter().for_each(|id| reader.ack(id, None));
    rig.until("p", |status| status.settled == 2).await;
    rig.events.shutdown().await;
    assert_eq!(rig.attempts("p").await.len(), 5);
}

#[tokio::test]
async fn strict_order_holds_back_the_project_of_a_failing_event_only() {
    let rig = Rig::new(LONG);
    let strict = |manifest: &mut temps_protocol::PluginManifest| {
        manifest.ordering = Some(temps_protocol::manifest::Ordering::Strict);
    };
    let mut plugin = rig.plugin_with("p", strict).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    let of = |project, id: &str| temps_protocol::PluginEvent {
        project_id: Some(project),
        ..event("deployment.ready", id)
    };
    rig.store
        .publish(vec![of(1, "a-1"), of(1, "a-2"), of(2, "b-1"), of(2, "b-2"), of(1, "a-3")])
        .await
        .unwrap();
    assert_eq!(reader.next(2).await, ["a-1", "b-1"]);
    reader.ack("a-1", Some("not now"));
    reader.ack("b-1", None);
    assert_eq!(reader.next(1).await, ["b-2"]);
    reader.ack("b-2", None);
    rig.until("p", |status| status.settled == 2 && status.failed == 1).await;
    // After a second of real time the project goes on, in order and one by one.
    for id in ["a-1", "a-2", "a-3"] {
        assert_eq!(reader.next(1).await, [id]);
        assert!(reader.events.try_recv().is_err());
        reader.ack(id, None);
    }
    rig.until("p", |status| status.settled == 5).await;
    rig.events.shutdown().await;
    assert_eq!(rig.store.open_counts("p").await.unwrap(), OpenCounts::default());
}

#[tokio::test]
async fn what_was_held_goes_out_when_the_plugin_no_longer_asks_for_strict_order() {
    let rig = Rig::new(LONG);
    let strict = |manifest: &mut temps_protocol::PluginManifest| {
        manifest.ordering = Some(temps_protocol::manifest::Ordering::Strict);
    };
    let mut plugin = rig.plugin_with("p", strict).await;
    let (run, mut reader) = begin_acking(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", 2).await;
    assert_eq!(reader.next(1).await, ["e-0"]);
    reader.ack("e-0", Some("not now"));
    rig.until("p", |status| status.failed == 1).await;
    plugin.end(&run, Ended::Stopped);
    let mut plugin = {
        drop(plugin);
        rig.plugin("p", &["*"]).await
    };
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    let mut both = reader.next(2).await;
    both.sort();
    assert_eq!(both, ["e-0", "e-1"]);
    assert!(rig.deliveries("p", DeliveryState::Held).await.is_empty());
}

#[tokio::test]
async fn filters_let_pass_what_they_name_and_the_cursor_passes_the_rest() {
    let rig = Rig::new(LONG);
    let filtered = |manifest: &mut temps_protocol::PluginManifest| {
        manifest.filters = vec![temps_protocol::EventFilter {
            path: "data.environment".into(),
            any_of: vec![json!("production"), json!("staging")],
        }];
    };
    let mut plugin = rig.plugin_with("p", filtered).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    let of = |environment: &str| temps_protocol::PluginEvent {
        data: json!({"environment": environment}),
        ..event("deployment.ready", environment)
    };
    let published = rig.store.publish(vec![of("preview"), of("production"), of("test")]).await.unwrap();
    assert_eq!(reader.next(1).await, ["production"]);
    reader.ack("production", None);
    let last = published.last().unwrap().seq;
    rig.until("p", |status| status.cursor == last && status.settled == 1).await;
    assert!(reader.events.try_recv().is_err());
}
