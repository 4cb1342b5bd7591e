//! Sins before ready. Those before the manifest are found at inspection: such a program is never really started.

use std::time::Duration;

use temps_host::plugin::PluginState;
use temps_testkit::{Behaviour, Sin, Step};

use crate::rig::{until, until_state};
use crate::scene::Scene;

/// Time for a handshake line where a test waits for it to run out. An honest plugin needs milliseconds.
const SHORT: Duration = Duration::from_secs(3);

async fn impatient() -> Scene {
    Scene::with(|rig| rig.config.handshake_timeout = SHORT).await
}

/// The sinner is refused, and the reason says all of `wanted`.
async fn is_refused(scene: Scene, sin: Sin, wanted: &[&str]) {
    scene.sinner(sin);
    let reason = scene.refusal().await;
    for words in wanted {
        assert!(reason.contains(words), "{words:?} is not in {reason:?}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_says_nothing_is_refused() {
    is_refused(impatient().await, Sin::NoOutput, &["no manifest line within 3 s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_line_is_refused() {
    is_refused(impatient().await, Sin::HalfALine, &["no manifest line within 3 s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_100_megabytes_is_refused_at_its_bound() {
    let before = resident_bytes();
    is_refused(Scene::new().await, Sin::HugeLine { megabytes: 100 }, &["longer than 65536 bytes"]).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 90_000_000, "the host kept the line: it grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_line_before_the_manifest_is_refused_with_advice() {
    is_refused(Scene::new().await, Sin::Chatter, &["Listening for connections", "logs to stderr"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_line_of_another_type_is_refused() {
    is_refused(
        Scene::new().await,
        Sin::WrongTypeFirst,
        &["expected a line of type \"manifest\"", "greeting"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_before_the_manifest_is_refused() {
    is_refused(
        Scene::new().await,
        Sin::ReadyBeforeManifest,
        &["expected a line of type \"manifest\", found type \"ready\""],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_before_the_manifest_is_refused_with_its_status() {
    is_refused(Scene::new().await, Sin::ExitAt { step: Step::Start, code: 7 }, &["status 7"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_name_is_refused_and_the_reason_names_the_character() {
    let scene = Scene::new().await;
    scene.rig.put_as("sinner", &Behaviour::honest("../Evil"));
    let reason = scene.refusal().await;
    assert!(reason.contains("name") && reason.contains("'.'"), "{reason}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_the_host_is_refused() {
    let scene = Scene::new().await;
    scene.rig.put_as("sinner", &Behaviour::honest("plugins"));
    assert!(scene.refusal().await.contains("kept for the host"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plugins_name_is_held_and_the_owner_stays() {
    let scene = Scene::new().await;
    scene.rig.put_as("sinner", &Behaviour::honest("neighbour").manifest_field("version", "6.6.6"));
    let held = scene.until_state(PluginState::Held).await;
    let reason = held.reason.clone().unwrap();
    assert!(reason.contains("temps plugin adopt neighbour") && held.pid.is_none(), "{reason}");
    assert_eq!(scene.host.plugin("neighbour").unwrap().manifest.as_ref().unwrap().version, "1.0.0");
    // The owner is not disturbed by the claim, but the claim stands in its trail, so the end is checked by hand.
    assert_eq!(scene.host.plugin("neighbour").unwrap().starts, 1);
    scene.host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_files_with_one_new_name_one_runs_and_the_other_is_held() {
    let scene = Scene::new().await;
    let first = Behaviour::honest("twin").manifest_field("description", "the first");
    let second = Behaviour::honest("twin").manifest_field("description", "the second");
    scene.rig.put_as("twin-a", &first);
    scene.rig.put_as("twin-b", &second);
    let running = until_state(&scene.host, "twin", PluginState::Running).await;
    let other = if running.file.ends_with("twin-a") { "twin-b" } else { "twin-a" };
    let held = until_state(&scene.host, other, PluginState::Held).await;
    assert!(held.reason.as_ref().unwrap().contains("claims the name twin"), "{held:?}");
    assert_eq!(scene.host.plugin("twin").unwrap().pid, running.pid);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_changes_after_inspection_stops_the_start() {
    let scene = Scene::new().await;
    scene.sinner(Sin::ChangingManifest);
    let refused = scene.until_state(PluginState::Refused).await;
    assert!(refused.reason.as_ref().unwrap().contains("events"), "{refused:?}");
    assert_eq!(refused.pid, None);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_false_is_a_failed_start() {
    let scene = Scene::new().await;
    scene.sinner(Sin::ReadyFalse);
    let crash = scene.crash().await;
    assert!(crash.cause.contains("ready:false"), "{crash:?}");
    assert_eq!(crash.state, PluginState::AwaitingReady);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_after_each_step_is_a_crash_in_the_state_that_it_was_in() {
    let scene = Scene::new().await;
    for (name, step, states) in [
        ("after-manifest", Step::Manifest, &[PluginState::AwaitingReady][..]),
        // Between ready and the exit the host may or may not have come further.
        (
            "after-ready",
            Step::Ready,
            &[PluginState::AwaitingReady, PluginState::Connecting, PluginState::Running],
        ),
    ] {
        scene.rig.put(&Behaviour::sinful(name, Sin::ExitAt { step, code: 7 }));
        let crash =
            until(&scene.host, name, |seen| seen.last_crash.is_some()).await.last_crash.clone().unwrap();
        assert_eq!(crash.exit_code, Some(7), "{name}: {crash:?}");
        assert!(states.contains(&crash.state), "{name}: {crash:?}");
        assert!(crash.cause.contains("exited with status 7"), "{name}: {crash:?}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_never_succeeds_ends_in_quarantine() {
    let scene = Scene::new().await;
    scene.sinner(Sin::ExitAt { step: Step::Manifest, code: 7 });
    let quarantined = scene.until_state(PluginState::Quarantined).await;
    assert_eq!((quarantined.crashes, quarantined.pid), (5, None));
    let reason = quarantined.reason.clone().unwrap();
    assert!(reason.contains("crashed too often") && reason.contains("status 7"), "{reason}");
    scene.end().await;
}

/// Memory of this process that is in use, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}
