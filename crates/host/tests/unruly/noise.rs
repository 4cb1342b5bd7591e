//! Sins of a plugin that takes all it can get. Each of them meets its limit, ends in the report that names it, and meanwhile an
//! honest plugin goes on.

use std::time::Duration;

use temps_host::PluginSnapshot;
use temps_host::sandbox::{Layer, State};
use temps_testkit::{Behaviour, Sin};

use crate::rig::{PATIENCE, trail, until};
use crate::scene::Scene;

/// Tasks for which a group has room beside those of the plugin.
const LAUNCHER_TASKS: u32 = 5;

/// A host that looks often at what its plugins use. Limits are small, so that they are met soon.
async fn scene() -> Scene {
    Scene::with(|rig| {
        rig.config.usage_every = Duration::from_millis(100);
        rig.config.restart.quarantine_after = 0;
        let limits = &mut rig.config.limits.all;
        (limits.memory_max, limits.tasks_max) = (Some(64 << 20), Some(32));
        (limits.nofile, limits.disk_max) = (Some(256), Some(8 << 20));
    })
    .await
}

/// Whether the sinner's sandbox has a layer in full. Something weaker, for each process on its own, ends the noise without a report
/// that names the limit.
async fn has(scene: &Scene, layer: Layer) -> bool {
    let quiet = until(&scene.host, "neighbour", |seen| seen.layers.is_some()).await;
    let layers = quiet.layers.as_ref().unwrap();
    layers.iter().any(|report| report.layer == layer && report.state == State::InForce)
}

fn near(snapshot: &PluginSnapshot, limit: &str) -> bool {
    snapshot.usage.iter().flat_map(|usage| &usage.near_limits).any(|near| near.starts_with(limit))
}

/// Waits until the kernel has held the sinner back for the first time; it tells nobody by itself.
async fn held_back(scene: &Scene) {
    let look = async {
        while scene.host.explain("sinner").await.unwrap().used.throttled.is_none_or(|times| times == 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it is never held back");
}

/// The neighbour takes an event, while the noise goes on.
async fn neighbour_answers(scene: &Scene) {
    let id = scene.publish("deployment.ready").await;
    scene.until_seen("the neighbour's event", || scene.events_of("neighbour").contains(&id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_bomb_is_ended_again_and_again_and_the_reports_name_memory_max() {
    let scene = scene().await;
    if !has(&scene, Layer::Memory).await {
        return temps_testkit::skip(
            "a_memory_bomb_is_ended_again_and_again_and_the_reports_name_memory_max",
            "no control group watches over memory here",
        );
    }
    scene.sinner(Sin::EatsMemory { megabytes: 500 });
    let crash = scene.crash().await;
    assert_eq!(crash.out_of_memory, Some(true), "{crash:?}");
    assert!(crash.cause.contains("memory_max"), "{crash:?}");
    neighbour_answers(&scene).await;
    scene.until(|seen| seen.crashes >= 3).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_stays_within_tasks_max_and_is_shown_near_it() {
    let scene = scene().await;
    if !has(&scene, Layer::Tasks).await {
        return temps_testkit::skip(
            "a_fork_bomb_stays_within_tasks_max_and_is_shown_near_it",
            "no control group counts tasks here",
        );
    }
    scene.sinner(Sin::Forks { processes: 200 });
    let seen = scene.until(|seen| near(seen, "tasks_max")).await;
    let tasks = seen.usage.as_ref().unwrap().tasks.unwrap();
    // The group counts the launcher's tasks as well, and has room for a few of them.
    assert!(tasks <= 32 + LAUNCHER_TASKS, "{tasks} tasks");
    neighbour_answers(&scene).await;
    assert_eq!(scene.host.plugin("sinner").unwrap().crashes, 0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_computes_for_ever_is_held_to_its_quota_and_shown_near_it() {
    let scene = scene().await;
    if !has(&scene, Layer::Cpu).await {
        return temps_testkit::skip(
            "a_plugin_that_computes_for_ever_is_held_to_its_quota_and_shown_near_it",
            "no control group restricts processor time here",
        );
    }
    scene.sinner(Sin::EatsCpu { threads: 4 });
    scene.until(|seen| near(seen, "cpu_quota")).await;
    held_back(&scene).await;
    neighbour_answers(&scene).await;
    scene.end().await;
}

/// The list of processors of a process, as the kernel says it.
fn processors(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_computes_for_ever_is_served_after_all_others_and_so_is_its_next_start() {
    let test = "a_plugin_that_computes_for_ever_is_served_after_all_others_and_so_is_its_next_start";
    let scene = scene().await;
    if !has(&scene, Layer::Cpu).await {
        return temps_testkit::skip(test, "no control group restricts processor time here");
    }
    scene.sinner(Sin::EatsCpu { threads: 4 });
    let background = |wanted: bool| {
        let host = scene.host.clone();
        async move {
            while host.explain("sinner").await.is_none_or(|seen| seen.used.background != wanted) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            host.explain("sinner").await.unwrap().pid.unwrap()
        }
    };
    let within = |look| tokio::time::timeout(PATIENCE, look);
    let pid = within(background(true)).await.expect("it stays where it is");
    let own = processors(std::process::id());
    let count = std::thread::available_parallelism().unwrap().get();
    let of_neighbour = scene.host.explain("neighbour").await.unwrap();
    assert!(!of_neighbour.used.background);
    if std::path::Path::new("/sys/fs/cgroup/cpuset").exists() && count > 1 {
        assert!(processors(pid).parse::<u32>().is_ok(), "one processor: {}", processors(pid));
        assert_eq!(processors(of_neighbour.pid.unwrap()), own);
    }
    neighbour_answers(&scene).await;
    // It has no quota before it is ready, so this is what was remembered.
    scene.host.restart_plugin("sinner", "test").await.unwrap();
    let next = scene.until(|seen| seen.pid.is_some_and(|now| now != pid)).await;
    assert!(scene.host.explain("sinner").await.unwrap().used.background, "{next:?}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_leaks_descriptors_is_shown_near_nofile_and_takes_no_more() {
    let scene = scene().await;
    scene.sinner(Sin::LeaksDescriptors);
    let seen = scene.until(|seen| near(seen, "nofile")).await;
    assert!(seen.usage.as_ref().unwrap().most_descriptors.unwrap() <= 256);
    neighbour_answers(&scene).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_fills_its_disk_is_ended_and_the_report_names_disk_max() {
    let scene = scene().await;
    scene.rig.put(&Behaviour::sinful("sinner", Sin::FillsDisk { megabytes: 40 }));
    let crash = scene.crash().await;
    assert!(crash.cause.contains("disk_max"), "{crash:?}");
    neighbour_answers(&scene).await;
    assert!(trail(&scene.host, "sinner").await.iter().any(|kind| kind == "plugin.crashed"));
    scene.end().await;
}
