//! Sins of health.

use std::time::Duration;

use temps_host::plugin::PluginState;
use temps_testkit::Sin;

use crate::scene::Scene;

/// Asks often, and waits long enough that an honest plugin on a loaded machine is never taken for an ill one.
async fn attentive() -> Scene {
    Scene::with(|rig| {
        rig.config.health.interval = Duration::from_millis(100);
        rig.config.health.timeout = Duration::from_secs(2);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn health_that_answers_500_is_restarted_after_three_times() {
    let scene = attentive().await;
    scene.sinner(Sin::HealthStatus { status: 500, after_ms: 0 });
    let crash = scene.crash().await;
    assert!(crash.cause.contains("health failed 3 times") && crash.cause.contains("500"), "{crash:?}");
    assert_eq!(crash.state, PluginState::Running);
    scene.until(|seen| seen.starts > 1).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_that_never_answers_is_restarted_after_three_times() {
    let scene = attentive().await;
    scene.sinner(Sin::HealthHangs);
    let crash = scene.crash().await;
    assert!(
        crash.cause.contains("health failed 3 times") && crash.cause.contains("not answered"),
        "{crash:?}"
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_that_fails_later_is_shown_before_anything_is_done() {
    let scene = Scene::with(|rig| {
        rig.config.health.interval = Duration::from_millis(100);
        rig.config.health.failures = 1_000;
    })
    .await;
    scene.sinner(Sin::HealthStatus { status: 503, after_ms: 1_000 });
    scene.until(|seen| seen.health == Some("ok")).await;
    let failing = scene.until(|seen| seen.health == Some("failing")).await;
    assert_eq!((failing.state, failing.starts), (PluginState::Running, 1));
    scene.end().await;
}
