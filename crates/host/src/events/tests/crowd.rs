//! Many plugins, and those that lag far behind.

use super::channel::open;
use super::rig::{LONG, Rig, SHORT};
use crate::events::EventTail;

#[tokio::test]
async fn a_hundred_plugins_that_keep_up_share_the_reads_of_one() {
    let rig = Rig::new(LONG);
    let mut plugins = Vec::new();
    for n in 0..100 {
        let mut plugin = rig.plugin(&format!("p{n}"), &["*"]).await;
        let (channel, reader) = open(&rig, &plugin).await;
        let run = plugin.start("unused.sock".as_ref(), Some(channel));
        plugins.push((plugin, run, reader));
    }
    for round in 0..5 {
        rig.publish("deployment.ready", &format!("e{round}"), 20).await;
        for (_, _, reader) in &mut plugins {
            assert_eq!(reader.next(20).await[19], format!("e{round}-19"));
        }
    }
    assert_eq!(rig.events.lagging_reads(), 0);
}

#[tokio::test]
async fn a_plugin_far_behind_reads_for_itself_until_it_has_caught_up() {
    let rig = Rig::new(SHORT);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let count = 9_000;
    let last = rig.publish("deployment.ready", "old", count).await;
    rig.events.journal.reached().wait_for(|reached| *reached == last).await.unwrap();
    let (channel, mut reader) = open(&rig, &plugin).await;
    let _run = plugin.start("unused.sock".as_ref(), Some(channel));
    let ids = reader.next(count).await;
    assert!(ids.iter().enumerate().all(|(n, id)| *id == format!("old-{n}")), "in order, each once");
    let reads = rig.events.lagging_reads();
    assert!(reads > 0);
    rig.until("p", |status| status.settled == count as u64).await;
    rig.publish("deployment.ready", "new", 5).await;
    reader.next(5).await;
    assert_eq!(rig.events.lagging_reads(), reads);
}

#[tokio::test]
async fn the_journal_can_be_followed_from_a_place_and_from_now() {
    let rig = Rig::new(SHORT);
    rig.publish("deployment.ready", "old", 150).await;
    let mut all = EventTail::new(rig.store.clone(), Some(0));
    let mut new = EventTail::new(rig.store.clone(), None);
    let waiting = tokio::spawn(async move { new.next().await.unwrap().event.id });
    tokio::task::yield_now().await;
    rig.publish("deployment.ready", "new", 1).await;
    assert_eq!(waiting.await.unwrap(), "new-0");
    for n in 0..150 {
        assert_eq!(all.next().await.unwrap().event.id, format!("old-{n}"));
    }
    assert_eq!(all.next().await.unwrap().event.id, "new-0");
}
