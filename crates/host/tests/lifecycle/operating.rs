//! What operators do: stop, start, restart, turn off, reload settings, read logs.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::time::Duration;

use temps_host::PluginHost;
use temps_host::host::OperateError;
use temps_host::plugin::PluginState;
use temps_host::store::AuditFilter;
use temps_testkit::{Behaviour, Sin};

use crate::rig::{Rig, is_alive, trail, until, until_state};

/// Whether the last stop of a plugin ended with SIGKILL.
async fn was_killed(host: &PluginHost, name: &str) -> bool {
    let filter = AuditFilter {
        plugin: Some(name.to_owned()),
        kind: Some("plugin.stopped".to_owned()),
        newest_first: true,
        limit: 1,
        ..AuditFilter::default()
    };
    host.audit(filter).await.unwrap()[0].detail["killed"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_a_clean_one_and_lasts_until_the_start() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    let running = until_state(&host, "hello", PluginState::Running).await;
    host.stop_plugin("hello", "ada").await.unwrap();
    let stopped = host.plugin("hello").unwrap();
    assert_eq!((stopped.state, stopped.crashes, stopped.pid), (PluginState::Stopped, 0, None));
    assert!(!is_alive(running.pid.unwrap()));
    assert_eq!(stopped.allowed_actions, ["start", "disable"]);
    assert!(!was_killed(&host, "hello").await, "it was killed, not asked");
    host.stop_plugin("hello", "ada").await.unwrap();
    host.start_plugin("hello", "ada").await.unwrap();
    let again = until_state(&host, "hello", PluginState::Running).await;
    let error = host.start_plugin("hello", "ada").await.unwrap_err();
    assert!(matches!(&error, OperateError::NotNow { state: "running", .. }), "{error}");
    host.restart_plugin("hello", "ada").await.unwrap();
    let restarted = until(&host, "hello", |s| s.state == PluginState::Running && s.pid != again.pid).await;
    assert_eq!((restarted.starts, restarted.crashes), (3, 0));
    let trail = trail(&host, "hello").await;
    for kind in ["operator.stop", "operator.start", "operator.restart"] {
        assert!(trail.contains(&kind.to_owned()), "{kind} is not in {trail:?}");
    }
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_ignores_sigterm_is_killed_after_its_grace() {
    let mut rig = Rig::new();
    rig.config.stop_grace = Duration::from_millis(300);
    let host = rig.host().await;
    rig.put(&Behaviour::sinful("stubborn", Sin::IgnoresSigterm).and(Sin::Daemonises));
    let running = until_state(&host, "stubborn", PluginState::Running).await;
    host.stop_plugin("stubborn", "ada").await.unwrap();
    assert!(!is_alive(running.pid.unwrap()));
    assert_eq!(host.plugin("stubborn").unwrap().crashes, 0);
    assert!(was_killed(&host, "stubborn").await);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_plugin_stays_off_with_the_next_host_until_it_is_enabled() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    let running = until_state(&host, "hello", PluginState::Running).await;
    let kept = rig.config.state_dir.join("artifacts").join(running.hash.as_ref().unwrap()).join("plugin");
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&kept).unwrap());
    let before = inode();
    host.disable_plugin("hello", "ada").await.unwrap();
    host.shutdown().await;
    let host = rig.host().await;
    let disabled = until(&host, "hello", |s| s.state == PluginState::Disabled && s.hash.is_some()).await;
    assert_eq!(disabled.starts, 0);
    assert_eq!(inode(), before, "a program that was there was removed and copied again");
    assert!(disabled.reason.as_ref().unwrap().contains("temps plugin enable hello"), "{disabled:?}");
    host.enable_plugin("hello", "ada").await.unwrap();
    until_state(&host, "hello", PluginState::Running).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_operate_what_is_not_there() {
    let rig = Rig::new();
    let host = rig.host().await;
    let error = host.stop_plugin("nobody", "ada").await.unwrap_err();
    assert!(matches!(error, OperateError::UnknownPlugin(_)), "{error}");
    assert!(host.logs("nobody", 1).is_err());
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_before_they_count_and_places_stay() {
    let rig = Rig::new();
    let host = rig.host().await;
    let mut settings = rig.config.clone();
    settings.health.interval = Duration::ZERO;
    assert!(host.reload(settings).await.is_err());
    let mut settings = rig.config.clone();
    settings.state_dir = rig.home.path().join("elsewhere");
    assert!(host.reload(settings).await.is_err());
    let mut settings = rig.config.clone();
    settings.stop_grace = Duration::from_millis(200);
    host.reload(settings).await.unwrap();
    rig.put(&Behaviour::sinful("stubborn", Sin::IgnoresSigterm));
    until_state(&host, "stubborn", PluginState::Running).await;
    host.stop_plugin("stubborn", "ada").await.unwrap();
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_outlives_restarts_and_the_host() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    until_state(&host, "hello", PluginState::Running).await;
    host.restart_plugin("hello", "ada").await.unwrap();
    until(&host, "hello", |s| s.state == PluginState::Running && s.starts == 2).await;
    let (lines, _) = host.logs("hello", 1_000).unwrap();
    assert!(lines.iter().filter(|line| line.message == "it runs").count() == 2, "{lines:?}");
    host.shutdown().await;
    let host = rig.host().await;
    until_state(&host, "hello", PluginState::Running).await;
    let (lines, _) = host.logs("hello", 1_000).unwrap();
    assert!(lines.iter().filter(|line| line.message == "it runs").count() == 3, "{lines:?}");
    host.shutdown().await;
}
