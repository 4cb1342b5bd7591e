//! Sins of a plugin that takes all it can get. Each of them meets its limit, ends in the report that names it, and meanwhile an
//! honest plugin goes on.

use std::time::Duration;

use temps_host::sandbox::{Layer, State, Step};
use temps_host::{PluginSnapshot, PluginState};
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

/// Waits for what the kernel tells nobody by itself.
async fn in_time(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let look = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("not seen: {what}"));
}

/// Waits until the sinner is in the background.
async fn behind_others(scene: &Scene) {
    let is_behind = async || scene.host.explain("sinner").await.is_some_and(|seen| seen.used.background);
    in_time("the sinner in the background", is_behind).await;
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
async fn a_fork_bomb_that_does_not_stop_has_a_fifth_of_its_quota() {
    let test = "a_fork_bomb_that_does_not_stop_has_a_fifth_of_its_quota";
    let scene = scene().await;
    if !has(&scene, Layer::Tasks).await || !has(&scene, Layer::Cpu).await {
        return temps_testkit::skip(test, "no control group counts tasks and restricts processor time here");
    }
    scene.sinner(Sin::Forks { processes: 200 });
    scene.until(|seen| seen.state == PluginState::Running).await;
    in_time("a fifth of the quota", async || share(&scene, "sinner").await == Some(5)).await;
    assert_eq!(share(&scene, "neighbour").await, Some(25));
    let layers = scene.host.explain("sinner").await.unwrap().layers;
    let cpu = layers.iter().find(|report| report.layer == Layer::Cpu).unwrap();
    assert_eq!(cpu.state, State::InForce, "{cpu:?}");
    neighbour_answers(&scene).await;
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
    let used = async || scene.host.explain("sinner").await.unwrap().used;
    in_time("that it is held back", async || used().await.throttled.is_some_and(|times| times > 0)).await;
    neighbour_answers(&scene).await;
    scene.end().await;
}

/// What a file of the plugin's control groups says; `None` where the kernel does not have it, and while it does not run.
async fn group_says(scene: &Scene, plugin: &str, file: &str) -> Option<String> {
    let explained = scene.host.explain(plugin).await.unwrap();
    let directories = explained.steps.iter().find_map(|step| match step {
        Step::JoinGroups { directories } => Some(directories),
        _ => None,
    });
    let found = directories?.iter().find_map(|at| std::fs::read_to_string(at.join(file)).ok());
    found.map(|text| text.trim().to_owned())
}

/// The share of a processor that the plugin may have now, in percent.
async fn share(scene: &Scene, plugin: &str) -> Option<u32> {
    let (quota, span) = match group_says(scene, plugin, "cpu.max").await {
        Some(both) => both.split_once(' ').map(|(quota, span)| (quota.to_owned(), span.to_owned()))?,
        None => (
            group_says(scene, plugin, "cpu.cfs_quota_us").await?,
            group_says(scene, plugin, "cpu.cfs_period_us").await?,
        ),
    };
    Some(quota.parse::<u32>().ok()? * 100 / span.parse::<u32>().ok()?)
}

/// Fields of what the kernel says about a process: its parent, and the policy that it is scheduled by, which is 0 for most.
const PARENT: usize = 4;
const POLICY: usize = 41;

fn field(pid: u32, number: usize) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field stands in parentheses and may hold anything.
    text.rsplit(") ").next().unwrap().split(' ').nth(number - 3).unwrap().parse().unwrap()
}

/// Whether the plugin keeps to one processor, where groups can see to that.
async fn keeps_to_one_processor(scene: &Scene, plugin: &str) -> bool {
    let list = group_says(scene, plugin, "cpuset.cpus").await;
    list.is_none_or(|list| list.parse::<u32>().is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_computes_for_ever_is_served_after_all_others_and_so_is_its_next_start() {
    let test = "a_plugin_that_computes_for_ever_is_served_after_all_others_and_so_is_its_next_start";
    let scene = scene().await;
    if !has(&scene, Layer::Cpu).await {
        return temps_testkit::skip(test, "no control group restricts processor time here");
    }
    scene.sinner(Sin::EatsCpu { threads: 4 });
    behind_others(&scene).await;
    assert_ne!(group_says(&scene, "sinner", "cpu.idle").await.as_deref(), Some("0"));
    assert!(keeps_to_one_processor(&scene, "sinner").await);
    assert_ne!(group_says(&scene, "neighbour", "cpu.idle").await.as_deref(), Some("1"));
    assert!(!scene.host.explain("neighbour").await.unwrap().used.background);
    neighbour_answers(&scene).await;

    // A start has no quota before it is ready, so this is what was remembered.
    let pid = scene.host.plugin("sinner").unwrap().pid;
    scene.host.restart_plugin("sinner", "test").await.unwrap();
    let next = scene.until(|seen| seen.pid.is_some() && seen.pid != pid).await;
    assert!(scene.host.explain("sinner").await.unwrap().used.background, "{next:?}");
    assert!(keeps_to_one_processor(&scene, "sinner").await);
    // Its launcher began behind all others; now what it takes is for its group to say, and the launcher itself only waits.
    let mut pid = next.pid.unwrap();
    while pid != std::process::id() {
        assert_eq!(field(pid, POLICY), 0, "process {pid}");
        pid = field(pid, PARENT);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_in_the_background_that_is_asked_to_end_is_served_like_others() {
    let test = "a_plugin_in_the_background_that_is_asked_to_end_is_served_like_others";
    let scene = scene().await;
    if !has(&scene, Layer::Cpu).await || group_says(&scene, "neighbour", "cpu.idle").await.is_none() {
        return temps_testkit::skip(test, "no control group puts its programs behind others here");
    }
    let order = Behaviour::sinful("sinner", Sin::EatsCpu { threads: 4 }).and(Sin::IgnoresSigterm);
    scene.rig.put(&order);
    behind_others(&scene).await;
    let idle = async |wanted: &str| group_says(&scene, "sinner", "cpu.idle").await.as_deref() == Some(wanted);
    in_time("that it gives way", async || idle("1").await).await;
    // It does not end by itself, so there is time to look.
    let stop = scene.host.stop_plugin("sinner", "test");
    let (stopped, ()) = tokio::join!(stop, in_time("that it gives way no more", async || idle("0").await));
    stopped.unwrap();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_an_operator_starts_anew_is_served_like_others() {
    let scene = scene().await;
    scene.rig.put(&Behaviour::honest("sinner"));
    let mut pid = scene.until(|seen| seen.state == PluginState::Running).await.pid;
    // Twice, because what is left of a run may be cleared away behind the start that follows it.
    for _ in 0..2 {
        scene.host.restart_plugin("sinner", "test").await.unwrap();
        pid = scene.until(|seen| seen.state == PluginState::Running && seen.pid != pid).await.pid;
    }
    assert!(!scene.host.explain("sinner").await.unwrap().used.background);
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
