//! Sins about events.

use temps_host::events::Which;
use temps_host::plugin::PluginState;
use temps_host::store::{AttemptFilter, DeliveryFilter, DeliveryState};
use temps_testkit::{Behaviour, Sin};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_kills_a_plugin_does_not_kill_it_for_ever() {
    let scene = Scene::with(|rig| rig.config.restart.quarantine_after = 0).await;
    scene.sinner(Sin::CrashOnEvent { event_type: "deployment.failed".into() });
    scene.until_state(PluginState::Running).await;
    let fatal = scene.publish("deployment.failed").await;
    let crash = scene.crash().await;
    assert_eq!(crash.signal, Some(6), "{crash:?}");
    // Three crashes on it, and it is given up; what follows is delivered.
    let harmless = scene.publish("deployment.ready").await;
    scene.until_seen("the event after the fatal one", || scene.events_of("sinner").contains(&harmless)).await;
    let count = |id: &str| scene.events_of("sinner").iter().filter(|seen| *seen == id).count();
    scene.until(|seen| seen.state == PluginState::Running && seen.crashes >= 1).await;
    assert!((1..=3).contains(&count(&fatal)), "it came {} times", count(&fatal));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_comes_again_and_the_plugin_goes_on() {
    let scene = Scene::new().await;
    scene.rig.put(
        &temps_testkit::Behaviour::sinful("sinner", Sin::EventStatus { status: 500 })
            .and(Sin::ChannelRefused { status: 404 }),
    );
    scene.until_state(PluginState::Running).await;
    let id = scene.publish("deployment.ready").await;
    let times = || scene.events_of("sinner").iter().filter(|seen| **seen == id).count();
    scene.until_seen("a second try", || times() >= 2).await;
    let now = scene.host.plugin("sinner").unwrap();
    assert_eq!((now.state, now.starts, now.crashes), (PluginState::Running, 1, 0));
    scene.end().await;
}

/// A poison event with a host that quarantines at the first crash that is the plugin's own fault.
async fn is_a_dead_letter_without_quarantine(features: Vec<&str>) {
    let scene = Scene::with(|rig| rig.config.restart.quarantine_after = 1).await;
    scene.rig.put(
        &Behaviour::sinful("sinner", Sin::CrashOnEvent { event_type: "deployment.failed".into() })
            .ready_field("features", features),
    );
    scene.rig.put(&Behaviour::honest("neighbour"));
    scene.until_state(PluginState::Running).await;
    let fatal = scene.publish("deployment.failed").await;
    let dead = DeliveryFilter {
        plugin: Some("sinner".into()),
        state: Some(DeliveryState::Dead),
        limit: 10,
        ..DeliveryFilter::default()
    };
    let buried = async {
        loop {
            let found = scene.host.store().deliveries(dead.clone()).await.unwrap();
            if let Some(record) = found.into_iter().next() {
                return record;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let record = tokio::time::timeout(crate::rig::PATIENCE, buried).await.unwrap();
    assert_eq!((&record.event_id, record.crashes), (&fatal, 3));
    assert_eq!(record.outcome.as_deref(), Some("plugin_crashed"));
    let running = scene.until(|seen| seen.state == PluginState::Running && seen.starts == 4).await;
    assert_eq!(running.crashes, 3, "no quarantine, although one crash of its own would have led there");
    let harmless = scene.publish("deployment.ready").await;
    scene.until_seen("the event after the fatal one", || scene.events_of("sinner").contains(&harmless)).await;
    scene.until_seen("both at the neighbour", || scene.events_of("neighbour").len() == 2).await;
    assert_eq!(scene.host.plugin("neighbour").unwrap().crashes, 0);

    scene.host.events().redeliver("sinner", Which::Event(record.seq), "ops").await.unwrap();
    scene.until(|seen| seen.crashes == 4).await;
    let filter = AttemptFilter {
        plugin: Some("sinner".into()),
        seq: Some(record.seq),
        limit: 10,
        ..AttemptFilter::default()
    };
    let attempts = scene.host.store().attempts(filter).await.unwrap();
    let reasons: Vec<_> = attempts.iter().map(|attempt| attempt.answer.as_deref()).collect();
    assert_eq!(reasons[..3], [Some("plugin_crashed"); 3]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_event_is_a_dead_letter_and_its_plugin_is_not_quarantined_for_it() {
    is_a_dead_letter_without_quarantine(Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_event_is_a_dead_letter_and_a_plugin_that_acks_is_not_quarantined_for_it() {
    is_a_dead_letter_without_quarantine(vec!["ack"]).await;
}
