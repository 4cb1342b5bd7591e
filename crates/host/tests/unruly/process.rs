//! Sins of a process that runs: it does not leave, it leaves something behind, it takes what it can get.

use std::time::Duration;

use temps_host::plugin::PluginState;
use temps_testkit::{Behaviour, Sin};

use crate::rig::is_alive;
use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_ignores_sigterm_is_killed_after_the_grace() {
    let scene = Scene::with(|rig| rig.config.stop_grace = Duration::from_millis(500)).await;
    scene.sinner(Sin::IgnoresSigterm);
    let pid = scene.until_state(PluginState::Running).await.pid.unwrap();
    scene.host.stop_plugin("sinner", "ada").await.unwrap();
    let stopped = scene.until_state(PluginState::Stopped).await;
    assert!(!is_alive(pid), "it is still there");
    assert_eq!((stopped.pid, stopped.crashes), (None, 0));
    let (lines, _) = scene.host.logs("sinner", 100).unwrap();
    assert!(lines.iter().any(|line| line.message.contains("killed")), "{lines:?}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_leaves_in_a_session_of_its_own_ends_with_it() {
    let scene = Scene::new().await;
    scene.sinner(Sin::Daemonises);
    scene.until_state(PluginState::Running).await;
    let beat = scene.data("sinner").join("daemon.beat");
    scene.until_seen("the daemon", || beat.exists()).await;
    scene.host.stop_plugin("sinner", "ada").await.unwrap();
    scene.until_state(PluginState::Stopped).await;
    // It beats ten times a second; nothing that lives stays silent for a second.
    let last = std::fs::read(&beat).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(std::fs::read(&beat).unwrap(), last, "the daemon lives");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_after_ready_is_drained_for_ever_and_kept_within_bounds() {
    let scene = Scene::with(|rig| rig.config.health.interval = Duration::from_millis(100)).await;
    let order = Behaviour::sinful("sinner", Sin::FloodsStdout { megabytes: 50 })
        .and(Sin::FloodsStderr { megabytes: 50 });
    scene.rig.put(&order);
    let running = scene.until_state(PluginState::Running).await;
    // A plugin whose output nobody reads blocks in a write and answers no more.
    scene.until(|seen| seen.health == Some("ok")).await;
    let flooded = || {
        let (lines, _) = scene.host.logs("sinner", 10_000).unwrap();
        assert!(lines.len() <= 1_000, "the ring holds {} lines", lines.len());
        ["stdout", "stderr"].iter().all(|stream| lines.iter().any(|line| line.stream == *stream))
    };
    scene.until_seen("lines of both streams", flooded).await;
    let now = scene.host.plugin("sinner").unwrap();
    assert_eq!((now.state, now.pid, now.crashes), (PluginState::Running, running.pid, 0));
    let kept: u64 = files(&scene.rig.config.state_dir.join("logs/sinner"));
    assert!(kept <= 55 * 1024 * 1024, "{kept} bytes of log");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_leaks_descriptors_takes_none_of_the_hosts() {
    let scene = Scene::new().await;
    let before = descriptors("self");
    scene.sinner(Sin::LeaksDescriptors);
    let pid = scene.until_state(PluginState::Running).await.pid.unwrap();
    scene.until_seen("the leak", || descriptors(&pid.to_string()) > 500).await;
    let now = descriptors("self");
    assert!(now < before + 200, "the host had {before} descriptors and has {now}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_computes_for_ever_is_stopped_like_any_other() {
    let scene = Scene::new().await;
    scene.sinner(Sin::EatsCpu { threads: 4 });
    let pid = scene.until_state(PluginState::Running).await.pid.unwrap();
    let id = scene.publish("deployment.ready").await;
    scene.until_seen("the event at the busy plugin", || scene.events_of("sinner").contains(&id)).await;
    scene.host.stop_plugin("sinner", "ada").await.unwrap();
    scene.until_state(PluginState::Stopped).await;
    assert!(!is_alive(pid));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_ends_every_moment_is_quarantined_with_its_status() {
    let scene = Scene::new().await;
    scene.sinner(Sin::ExitAfter { ms: 200 });
    let quarantined = scene.until_state(PluginState::Quarantined).await;
    assert_eq!((quarantined.starts, quarantined.crashes), (5, 5));
    let crash = quarantined.last_crash.clone().unwrap();
    assert_eq!((crash.exit_code, crash.signal), (Some(1), None), "{crash:?}");
    scene.end().await;
}

fn descriptors(pid: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or_default()
}

/// Bytes of all files in a directory.
fn files(directory: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}
