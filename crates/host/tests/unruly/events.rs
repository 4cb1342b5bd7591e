//! Sins about events.

use temps_host::plugin::PluginState;
use temps_testkit::Sin;

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
