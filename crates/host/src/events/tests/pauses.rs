//! Pauses by hand and by itself, and how far a plugin is behind.

use temps_store::DeliveryStore;

use super::channel::{begin_acking, ids};
use super::rig::{LONG, Rig};
use crate::events::temper::MAX_FAILURES;

#[tokio::test]
async fn while_deliveries_are_paused_nothing_is_sent_also_after_a_restart_and_then_everything_in_order() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, _reader) = begin_acking(&rig, &mut plugin).await;
    rig.until("p", |_| true).await;
    rig.events.pause("p", "maintenance", "ops").await.unwrap();
    rig.publish("deployment.ready", "e", 3).await;
    rig.until("p", |status| status.waiting == 3).await;
    let rig = rig.restart(LONG).await;
    let mut plugin = rig.plugin("p", &["*"]).await;
    let status = rig.until("p", |status| status.paused.is_some()).await;
    assert_eq!(status.paused.unwrap().reason, "maintenance", "shown before it runs");
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "f", 1).await;
    rig.until("p", |status| status.waiting == 4).await;
    assert!(reader.events.try_recv().is_err());
    rig.events.resume("p", "ops").await.unwrap();
    assert_eq!(reader.next(4).await, [ids("e", 0..3), ids("f", 0..1)].concat());
    assert!(rig.events.status("p").unwrap().paused.is_none());
}

#[tokio::test]
async fn after_a_hundred_failures_in_a_row_deliveries_pause_and_others_go_on() {
    let rig = Rig::new(LONG);
    let mut failing = rig.plugin("failing", &["*"]).await;
    let mut well = rig.plugin("well", &["*"]).await;
    let (_run, mut bad) = begin_acking(&rig, &mut failing).await;
    let (_run, mut good) = begin_acking(&rig, &mut well).await;
    let count = MAX_FAILURES as usize;
    rig.publish("deployment.ready", "e", count).await;
    for _ in 0..count {
        let id = bad.next(1).await.remove(0);
        bad.ack(&id, Some("broken"));
        let id = good.next(1).await.remove(0);
        good.ack(&id, None);
    }
    let status = rig.until("failing", |status| status.paused.is_some()).await;
    let pause = status.paused.unwrap();
    assert_eq!(pause.paused_by, "host");
    assert!(pause.reason.contains("100 attempts in a row failed, the last one: broken"), "{}", pause.reason);
    assert_eq!(rig.store.pauses().await.unwrap()[0].reason, pause.reason);
    rig.until("well", |status| status.settled == count as u64).await;
    rig.events.resume("failing", "ops").await.unwrap();
    let id = bad.next(1).await.remove(0);
    bad.ack(&id, None);
    rig.until("failing", |status| status.settled == 1).await;
}

#[tokio::test]
async fn another_program_is_given_another_chance() {
    let rig = Rig::new(LONG);
    let pause = temps_store::PauseRecord {
        plugin: "p".into(),
        reason: "100 attempts in a row failed".into(),
        paused_by: "host".into(),
        since: chrono::Utc::now(),
        hash: Some("the program before".into()),
    };
    rig.store.put_pause(pause).await.unwrap();
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    rig.publish("deployment.ready", "e", 1).await;
    assert_eq!(reader.next(1).await, ["e-0"]);
    assert!(rig.store.pauses().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_program_that_failed_is_tried_with_one_event_and_goes_on_when_that_is_handled() {
    let rig = Rig::new(LONG);
    let pause = temps_store::PauseRecord {
        plugin: "p".into(),
        reason: "100 attempts in a row failed".into(),
        paused_by: "host".into(),
        since: chrono::Utc::now(),
        hash: None,
    };
    rig.store.put_pause(pause).await.unwrap();
    let mut plugin = rig.plugin("p", &["*"]).await;
    rig.publish("deployment.ready", "e", 3).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    assert_eq!(reader.next(1).await, ["e-0"], "the host was restarted: the first try is at once");
    rig.until("p", |status| status.unsettled == 1 && status.waiting == 2).await;
    assert!(reader.events.try_recv().is_err());
    reader.ack("e-0", None);
    assert_eq!(reader.next(2).await, ["e-1", "e-2"]);
    rig.until("p", |status| status.paused.is_none()).await;
}

#[tokio::test]
async fn how_far_a_plugin_is_behind_is_measured() {
    let rig = Rig::new(LONG);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let last = rig.publish("deployment.ready", "e", 5).await;
    rig.events.journal.reached().wait_for(|reached| *reached == last).await.unwrap();
    // A plugin that has just come is not known to the deliveries at once.
    rig.until("p", |_| true).await;
    let lag = rig.events.lag("p").await.unwrap().unwrap();
    assert_eq!(lag.events, 5);
    assert!(lag.oldest.is_some());
    assert_eq!(lag.seconds(lag.oldest.unwrap() + chrono::Duration::seconds(90)), 90);
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    reader.next(5).await;
    reader.ack("e-0", Some("no"));
    ids("e", 1..5).iter().for_each(|id| reader.ack(id, None));
    rig.until("p", |status| status.settled == 4 && status.failed == 1).await;
    rig.events.pause("p", "to look", "ops").await.unwrap();
    rig.events.measure_all().await;
    let lag = rig.events.lag("p").await.unwrap().unwrap();
    assert_eq!((lag.events, lag.open.retrying), (0, 1));
    assert!(lag.oldest.is_some(), "the one that is retried");
    let text = rig.metrics.encode();
    for line in [
        "temps_delivery_lag_events{plugin=\"p\"} 0",
        "temps_deliveries_open{plugin=\"p\",kind=\"retrying\"} 1",
        "temps_deliveries_open{plugin=\"p\",kind=\"dead\"} 0",
        "temps_deliveries_paused{plugin=\"p\"} 1",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    assert!(rig.events.lag("nobody").await.unwrap().is_none());
}
