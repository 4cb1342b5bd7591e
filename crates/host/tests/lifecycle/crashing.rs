//! Crashes: seen at once, reported, started again with backoff, quarantined, and recovered.

use std::time::Duration;

use rustix::process::Signal;
use temps_host::plugin::PluginState;
use temps_testkit::{Behaviour, Sin, Step};

use crate::rig::{Rig, send_signal, trail, until, until_state};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_plugin_is_back_with_a_report_of_what_happened() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    rig.put(&Behaviour::honest("neighbour"));
    let before = until_state(&host, "hello", PluginState::Running).await;
    let neighbour = until_state(&host, "neighbour", PluginState::Running).await;
    send_signal(before.pid.unwrap(), Signal::KILL);
    let after = until(&host, "hello", |s| s.state == PluginState::Running && s.pid != before.pid).await;
    assert_eq!((after.starts, after.crashes), (2, 1));
    let crash = after.last_crash.clone().unwrap();
    assert_eq!((crash.signal, crash.exit_code, crash.state), (Some(9), None, PluginState::Running));
    assert!(crash.cause.contains("signal 9"), "{crash:?}");
    assert_eq!(host.plugin("neighbour").unwrap().pid, neighbour.pid, "the neighbour noticed");
    assert!(trail(&host, "hello").await.contains(&"plugin.crashed".to_owned()));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fifth_crash_quarantines_and_the_half_open_try_recovers() {
    let mut rig = Rig::new();
    rig.config.restart.half_open_every = Duration::from_millis(1_500);
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    let mut starts = 0;
    for _ in 0..5 {
        let running = until(&host, "hello", |s| s.state == PluginState::Running && s.starts > starts).await;
        starts = running.starts;
        send_signal(running.pid.unwrap(), Signal::KILL);
    }
    let quarantined = until_state(&host, "hello", PluginState::Quarantined).await;
    assert_eq!((quarantined.starts, quarantined.crashes), (5, 5));
    assert!(quarantined.next_start_at.is_some());
    assert!(quarantined.reason.as_ref().unwrap().contains("temps plugin start hello"), "{quarantined:?}");
    let recovered = until_state(&host, "hello", PluginState::Running).await;
    assert_eq!(recovered.starts, 6);
    assert!(trail(&host, "hello").await.contains(&"plugin.quarantined".to_owned()));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_starts_a_quarantined_plugin_at_any_time() {
    let mut rig = Rig::new();
    rig.config.restart.quarantine_after = 1;
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    let running = until_state(&host, "hello", PluginState::Running).await;
    send_signal(running.pid.unwrap(), Signal::KILL);
    until_state(&host, "hello", PluginState::Quarantined).await;
    host.start_plugin("hello", "ada").await.unwrap();
    until_state(&host, "hello", PluginState::Running).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_at_which_step_and_with_which_last_words() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::sinful("leaver", Sin::ExitAt { step: Step::Manifest, code: 7 }));
    let crashed = until(&host, "leaver", |s| s.last_crash.is_some()).await;
    let crash = crashed.last_crash.clone().unwrap();
    assert_eq!((crash.exit_code, crash.state), (Some(7), PluginState::AwaitingReady));
    assert!(crash.cause.contains("exited with status 7 while ready was awaited"), "{crash:?}");
    rig.put(&Behaviour::sinful("refuser", Sin::ReadyFalse));
    let crashed = until(&host, "refuser", |s| s.last_crash.is_some()).await;
    assert!(crashed.last_crash.as_ref().unwrap().cause.contains("ready:false"), "{crashed:?}");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_not_well_is_restarted_unless_somebody_debugs_it() {
    let mut rig = Rig::new();
    rig.config.health.interval = Duration::from_millis(50);
    rig.config.health.timeout = Duration::from_secs(5);
    let host = rig.host().await;
    rig.put(&Behaviour::honest("calm"));
    until_state(&host, "calm", PluginState::Running).await;
    host.debug_plugin("calm", true, "ada").await.unwrap();
    until(&host, "calm", |s| s.health == Some("suspended")).await;
    host.debug_plugin("calm", false, "ada").await.unwrap();
    until(&host, "calm", |s| s.health == Some("ok")).await;

    rig.put(&Behaviour::sinful("sick", Sin::HealthStatus { status: 500, after_ms: 0 }));
    let crashed = until(&host, "sick", |s| s.last_crash.is_some()).await;
    let crash = crashed.last_crash.clone().unwrap();
    assert!(crash.cause.contains("health failed 3 times") && crash.cause.contains("500"), "{crash:?}");
    assert_eq!(crash.state, PluginState::Running);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_the_inspected_one_stops_the_start() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::sinful("changing", Sin::ChangingManifest));
    let refused = until_state(&host, "changing", PluginState::Refused).await;
    assert!(refused.reason.as_ref().unwrap().contains("different: events"), "{refused:?}");
    assert_eq!(refused.pid, None);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_channel_is_opened_again_where_the_plugin_can_and_restarts_it_where_not() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("steady"));
    let steady = until_state(&host, "steady", PluginState::Running).await;
    assert_eq!(steady.channel, Some("open"));

    rig.put(&Behaviour::sinful("dropper", Sin::DropsChannel { after_ms: 100 }));
    let crashed = until(&host, "dropper", |s| s.last_crash.is_some()).await;
    let crash = crashed.last_crash.clone().unwrap();
    assert!(crash.cause.contains("channel") && crash.state == PluginState::Running, "{crash:?}");

    rig.put(
        &Behaviour::sinful("returner", Sin::DropsChannel { after_ms: 100 })
            .ready_field("features", vec!["reconnect"]),
    );
    let mut lost = 0;
    until_state(&host, "returner", PluginState::Running).await;
    while lost < 2 {
        until(&host, "returner", |s| s.channel == Some("lost")).await;
        until(&host, "returner", |s| s.channel == Some("open")).await;
        lost += 1;
    }
    let returner = host.plugin("returner").unwrap();
    assert_eq!((returner.starts, returner.crashes), (1, 0), "{returner:?}");
    assert_eq!(returner.features, ["reconnect"]);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_without_a_channel_runs_and_is_shown_as_such() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::sinful("deaf", Sin::ChannelRefused { status: 404 }));
    let running = until_state(&host, "deaf", PluginState::Running).await;
    assert_eq!(running.channel, Some("none"));
    rig.put(&Behaviour::sinful("grumpy", Sin::ChannelRefused { status: 500 }));
    let crashed = until(&host, "grumpy", |s| s.last_crash.is_some()).await;
    let crash = crashed.last_crash.clone().unwrap();
    assert!(crash.cause.contains("500") && crash.state == PluginState::Connecting, "{crash:?}");
    host.shutdown().await;
}
