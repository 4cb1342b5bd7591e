//! What operators do: redeliver, discard, replay, pause and resume, against the real store and channel.

use temps_store::{
    AttemptResult, AuditFilter, AuditStore, DeliveryNews, DeliveryState, DeliveryStore, JournalStore,
    OpenChange,
};

use super::channel::{Reader, begin_acking, ids};
use super::rig::{LONG, Plugin, Rig, Run};
use crate::events::{DeliveryError, ReplayFrom, Which};

async fn start(rig: &Rig) -> (Plugin, Run, Reader) {
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (run, reader) = begin_acking(rig, &mut plugin).await;
    rig.until("p", |_| true).await;
    (plugin, run, reader)
}

/// Settles so many events that were published as `e-0`, `e-1` and so on.
async fn settle(rig: &Rig, reader: &mut Reader, count: usize) {
    let before = rig.events.status("p").map_or(0, |status| status.settled);
    rig.publish("deployment.ready", "e", count).await;
    for _ in 0..count {
        let id = reader.next(1).await.remove(0);
        reader.ack(&id, None);
    }
    rig.until("p", |status| status.settled == before + count as u64).await;
}

/// Makes dead letters of events without waiting for their seven attempts: the store says so, and a new host reads it.
async fn bury(rig: Rig, reader: &mut Reader, count: usize) -> (Rig, Plugin, Run, Reader, Vec<i64>) {
    rig.publish("deployment.ready", "bad", count).await;
    for _ in 0..count {
        let id = reader.next(1).await.remove(0);
        reader.ack(&id, Some("cannot"));
    }
    rig.until("p", |status| status.failed == count as u64).await;
    rig.events.shutdown().await;
    let mut seqs = Vec::new();
    let mut news = DeliveryNews::default();
    for mut record in rig.deliveries("p", DeliveryState::Retrying).await {
        seqs.push(record.seq);
        (record.state, record.next_attempt_at) = (DeliveryState::Dead, None);
        news.open.push(OpenChange::Put(Box::new(record)));
    }
    assert_eq!(seqs.len(), count);
    rig.store.record_deliveries("p", news).await.unwrap();
    let rig = rig.restart(LONG).await;
    let (plugin, run, reader) = start(&rig).await;
    (rig, plugin, run, reader, seqs)
}

async fn kinds(rig: &Rig) -> Vec<String> {
    let filter = AuditFilter { plugin: Some("p".into()), limit: 100, ..AuditFilter::default() };
    let records = rig.store.audit(filter).await.unwrap();
    records.into_iter().map(|record| format!("{} {}", record.actor, record.kind)).collect()
}

#[tokio::test]
async fn a_settled_event_is_delivered_again_on_request_and_counts_on() {
    let rig = Rig::new(LONG);
    let (_plugin, _run, mut reader) = start(&rig).await;
    settle(&rig, &mut reader, 2).await;
    let seq = rig.store.event("e-0").await.unwrap().unwrap().seq;
    assert_eq!(rig.events.redeliver("p", Which::Event(seq), "ops").await.unwrap(), 1);
    assert_eq!(reader.next(1).await, ["e-0"]);
    reader.ack("e-0", None);
    rig.until("p", |status| status.settled == 3).await;
    rig.events.shutdown().await;
    let last = rig.attempts("p").await.pop().unwrap();
    assert_eq!((&*last.event_id, last.attempt, last.result), ("e-0", 2, AttemptResult::Settled));
}

#[tokio::test]
async fn dead_letters_come_again_one_by_one_or_all_and_are_discarded() {
    let rig = Rig::new(LONG);
    let (_plugin, _run, mut reader) = start(&rig).await;
    let (rig, _plugin, _run, mut reader, seqs) = bury(rig, &mut reader, 4).await;
    assert_eq!(rig.events.redeliver("p", Which::Event(seqs[1]), "ops").await.unwrap(), 1);
    assert_eq!(reader.next(1).await, ["bad-1"]);
    reader.ack("bad-1", None);
    rig.until("p", |status| status.settled == 1).await;
    assert_eq!(rig.events.discard("p", Which::Event(seqs[3]), "ops").await.unwrap(), 1);
    let again = rig.events.discard("p", Which::Event(seqs[3]), "ops").await;
    assert!(matches!(again, Err(DeliveryError::NotNow(_))), "{again:?}");
    assert_eq!(rig.events.redeliver("p", Which::AllDead, "ops").await.unwrap(), 2);
    let mut both = reader.next(2).await;
    both.sort();
    assert_eq!(both, ["bad-0", "bad-2"]);
    both.iter().for_each(|id| reader.ack(id, None));
    rig.until("p", |status| status.settled == 3).await;
    assert_eq!(rig.events.discard("p", Which::AllDead, "ops").await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_retried_comes_at_once_on_request_and_never_again_once_discarded() {
    let rig = Rig::new(LONG);
    let (_plugin, _run, mut reader) = start(&rig).await;
    rig.publish("deployment.ready", "e", 2).await;
    reader.next(2).await;
    ids("e", 0..2).iter().for_each(|id| reader.ack(id, Some("not now")));
    // After a second of real time; the next wait is five.
    reader.next(2).await;
    ids("e", 0..2).iter().for_each(|id| reader.ack(id, Some("not now")));
    rig.until("p", |status| status.failed == 4).await;
    let unwanted = rig.store.event("e-1").await.unwrap().unwrap().seq;
    assert_eq!(rig.events.discard("p", Which::Event(unwanted), "ops").await.unwrap(), 1);
    let seq = rig.store.event("e-0").await.unwrap().unwrap().seq;
    rig.events.redeliver("p", Which::Event(seq), "ops").await.unwrap();
    assert_eq!(reader.next(1).await, ["e-0"]);
    reader.ack("e-0", None);
    rig.until("p", |status| status.settled == 1).await;
    rig.events.shutdown().await;
    let counts = rig.store.open_counts("p").await.unwrap();
    assert_eq!((counts.retrying, counts.dead), (0, 0));
}

#[tokio::test]
async fn a_replay_brings_everything_from_its_place_or_time_on_in_order_and_leaves_dead_letters() {
    let rig = Rig::new(LONG);
    let (_plugin, _run, mut reader) = start(&rig).await;
    settle(&rig, &mut reader, 3).await;
    let (rig, _plugin, _run, mut reader, buried) = bury(rig, &mut reader, 1).await;
    let first = rig.store.event("e-1").await.unwrap().unwrap();
    let again = rig.events.replay("p", ReplayFrom::Seq(first.seq), "ops").await.unwrap();
    assert_eq!(again, 3, "two that were settled and the dead one, which stays");
    assert_eq!(reader.next(2).await, ["e-1", "e-2"]);
    reader.ack("e-1", None);
    reader.ack("e-2", None);
    rig.until("p", |status| status.settled == 2 && status.cursor == buried[0]).await;
    assert!(reader.events.try_recv().is_err());
    rig.events.replay("p", ReplayFrom::Time(first.published_at), "ops").await.unwrap();
    let replayed = reader.next(2).await;
    assert!(
        replayed == ["e-0", "e-1"] || replayed == ["e-1", "e-2"],
        "they were published at once: {replayed:?}"
    );
    let far = rig.events.replay("p", ReplayFrom::Seq(1_000), "ops").await;
    assert!(matches!(far, Err(DeliveryError::NotNow(_))), "{far:?}");
    let later = first.published_at + chrono::Duration::hours(1);
    assert!(rig.events.replay("p", ReplayFrom::Time(later), "ops").await.is_err());
}

#[tokio::test]
async fn a_replay_survives_a_kill_of_the_host() {
    let rig = Rig::new(LONG);
    let (_plugin, _run, mut reader) = start(&rig).await;
    settle(&rig, &mut reader, 3).await;
    rig.events.pause("p", "to look at it", "ops").await.unwrap();
    rig.events.replay("p", ReplayFrom::Seq(0), "ops").await.unwrap();
    assert_eq!(rig.store.cursor("p").await.unwrap(), Some(0));
    let rig = rig.restart(LONG).await;
    let mut plugin = rig.plugin("p", &["*"]).await;
    let (_run, mut reader) = begin_acking(&rig, &mut plugin).await;
    rig.until("p", |status| status.paused.is_some()).await;
    rig.events.resume("p", "ops").await.unwrap();
    assert_eq!(reader.next(3).await, ids("e", 0..3));
}

#[tokio::test]
async fn orders_for_a_plugin_that_does_not_run_are_carried_out_and_all_are_audited_with_who() {
    let rig = Rig::new(LONG);
    let (plugin, run, mut reader) = start(&rig).await;
    settle(&rig, &mut reader, 2).await;
    plugin.end(&run, crate::plugin::Ended::Stopped);
    let seq = rig.store.event("e-1").await.unwrap().unwrap().seq;
    rig.events.redeliver("p", Which::Event(seq), "ada").await.unwrap();
    rig.events.discard("p", Which::Event(seq), "bob").await.unwrap();
    rig.events.replay("p", ReplayFrom::Seq(seq), "eve").await.unwrap();
    rig.events.pause("p", "why not", "ada").await.unwrap();
    rig.events.resume("p", "bob").await.unwrap();
    let resumed = rig.events.resume("p", "bob").await;
    assert!(matches!(resumed, Err(DeliveryError::NotNow(_))), "{resumed:?}");
    rig.events.shutdown().await;
    assert!(rig.audit.flush().await);
    assert_eq!(
        kinds(&rig).await,
        [
            "ada deliveries.redelivered",
            "bob deliveries.discarded",
            "eve deliveries.replayed",
            "ada deliveries.paused",
            "bob deliveries.resumed",
        ]
    );
}

#[tokio::test]
async fn an_order_that_makes_no_sense_says_so() {
    let rig = Rig::new(LONG);
    let (_plugin, _run, mut reader) = start(&rig).await;
    let unknown = rig.events.pause("nobody", "x", "ops").await;
    assert!(matches!(unknown, Err(DeliveryError::UnknownPlugin(_))), "{unknown:?}");
    let seq = rig.publish("deployment.ready", "e", 1).await;
    reader.next(1).await;
    let on_its_way = rig.events.redeliver("p", Which::Event(seq), "ops").await;
    assert!(on_its_way.unwrap_err().to_string().contains("on its way"));
    let in_hand = rig.events.discard("p", Which::Event(seq), "ops").await;
    assert!(in_hand.unwrap_err().to_string().contains("at this moment"));
    assert!(rig.events.redeliver("p", Which::Event(seq + 100), "ops").await.is_err());
}
