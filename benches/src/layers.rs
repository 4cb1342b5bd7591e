//! What the sandbox costs: a start, and the memory of a plugin with its launcher, with all layers, with none, and with each
//! layer switched off by itself.
//!
//! Off by itself, and not on by itself: that is what an operator can do, and every one of these sandboxes is one that hosts
//! build. Some layers stand on others: without `files` there is no `user`, without `processes` no `process_view`.

use std::collections::HashMap;
use std::time::Instant;

use temps_host::sandbox::{Layer, PluginSandbox, Policies, Policy};
use temps_host::{HostConfig, PluginState};

use crate::Outcome;
use crate::memory::summed_kib;
use crate::rig::Rig;
use crate::stats::{Figure, median};

/// Starts of each sandbox, in turns.
const STARTS: usize = 15;

/// One sandbox, and what was measured of it.
struct Case {
    plugin: String,
    name: String,
    policies: Policies,
    millis: Vec<f64>,
    kib: Vec<f64>,
}

impl Case {
    fn new(index: usize, name: String, policies: Policies) -> Self {
        Self { plugin: format!("bench-{index}"), name, policies, millis: Vec::new(), kib: Vec::new() }
    }
}

fn none() -> Policies {
    Layer::ALL.iter().fold(Policies::unset(), |all, layer| all.with(*layer, Policy::Off))
}

/// Percent of one processor: more than any plugin of these sections uses. One beyond its quota is served after all others, which is
/// no part of what its sandbox costs.
const ENOUGH: u32 = 400;

/// Takes all layers away from one plugin, to compare it with another one.
pub(crate) fn compare(config: &mut HostConfig, without: &str) {
    let own = PluginSandbox { policies: none(), read_only_paths: Vec::new() };
    config.sandbox.plugins.insert(without.to_owned(), own);
    config.limits.all.cpu_quota = Some(ENOUGH);
}

/// What a request takes with all layers beside what it takes with none, both in microseconds.
pub(crate) fn compared(request: &str, with: f64, without: f64) -> Figure {
    Figure::new(&format!("{request} in the sandbox, median"), "µs", with, "the same with no layer", without)
}

/// All layers first, then none, then each one off.
fn cases() -> Vec<Case> {
    let off = |layer: &Layer| {
        (format!("without `{}`", layer.as_str()), Policies::unset().with(*layer, Policy::Off))
    };
    [("all layers".to_owned(), Policies::unset()), ("no layer".to_owned(), none())]
        .into_iter()
        .chain(Layer::ALL.iter().map(off))
        .enumerate()
        .map(|(index, (name, policies))| Case::new(index, name, policies))
        .collect()
}

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    let mut cases = cases();
    let rig = Rig::start_with(|config| give(config, &cases)).await?;
    rig.drop_plugins(cases.len())?;
    rig.running(cases.len()).await?;
    for case in &cases {
        rig.host.stop_plugin(&case.plugin, "bench").await?;
    }
    for _ in 0..STARTS {
        for case in &mut cases {
            start(&rig, case).await?;
        }
    }
    rig.host.shutdown().await;
    Ok(figures(&cases))
}

fn give(config: &mut HostConfig, cases: &[Case]) {
    for case in cases {
        let own = PluginSandbox { policies: case.policies.clone(), read_only_paths: Vec::new() };
        config.sandbox.plugins.insert(case.plugin.clone(), own);
    }
}

async fn start(rig: &Rig, case: &mut Case) -> Outcome<()> {
    let mut view = rig.host.watch_plugin(&case.plugin).ok_or("the plugin is not there")?;
    let begin = Instant::now();
    rig.host.start_plugin(&case.plugin, "bench").await?;
    let pid = view.wait_for(|plugin| plugin.state == PluginState::Running).await?.pid;
    case.millis.push(begin.elapsed().as_secs_f64() * 1e3);
    case.kib.push(with_launcher(pid.ok_or("a running plugin has no process")?)?);
    rig.host.stop_plugin(&case.plugin, "bench").await?;
    Ok(())
}

fn figures(cases: &[Case]) -> Vec<Figure> {
    let [all, none, ..] = cases else { return Vec::new() };
    let line = |case: &Case, floor: &Case, what: &str, unit: &str, pick: fn(&Case) -> &Vec<f64>| {
        let value = |case: &Case| median(pick(case).clone());
        Figure::new(&format!("{what}, {}", case.name), unit, value(case), &floor.name, value(floor))
    };
    let lines = |what: &str, unit: &str, pick: fn(&Case) -> &Vec<f64>| -> Vec<Figure> {
        let without = cases.iter().skip(2).map(|case| line(case, all, what, unit, pick));
        std::iter::once(line(all, none, what, unit, pick)).chain(without).collect()
    };
    let mut figures = lines("spawn to running", "ms", |case| &case.millis);
    figures.extend(lines("plugin and launcher, memory", "KiB", |case| &case.kib));
    figures
}

/// Memory of a plugin and of every process of its launcher; what several processes share counts by its share.
fn with_launcher(plugin: u32) -> Outcome<f64> {
    let parents = parents();
    let host = std::process::id();
    let mut launcher = plugin;
    while let Some(parent) = parents.get(&launcher).filter(|parent| **parent != host) {
        launcher = *parent;
    }
    let is_below =
        |pid: u32| std::iter::successors(Some(pid), |at| parents.get(at).copied()).any(|at| at == launcher);
    let mut sum = 0.0;
    for pid in parents.keys().filter(|pid| is_below(**pid)) {
        sum += summed_kib(&pid.to_string(), "Pss:")?;
    }
    Ok(sum)
}

/// Every process of the machine and its parent.
fn parents() -> HashMap<u32, u32> {
    let parent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name of the program stands in parentheses and may hold anything.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}
