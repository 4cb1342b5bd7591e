//! Memory at rest: the host without plugins, and what each plugin adds to the host and beside it.

use std::time::Duration;

use crate::Outcome;
use crate::rig::Rig;
use crate::stats::Figure;

/// Plugins at rest.
const PLUGINS: usize = 50;

/// Time for queues, caches and late tasks to come to rest.
const REST: Duration = Duration::from_secs(2);

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    let floor = private_kib("self")?;
    let rig = Rig::start().await?;
    tokio::time::sleep(REST).await;
    let empty = private_kib("self")?;
    rig.drop_plugins(PLUGINS)?;
    rig.running(PLUGINS).await?;
    tokio::time::sleep(REST).await;
    let full = private_kib("self")?;
    let mut plugin_kib = 0.0;
    for plugin in rig.host.plugins() {
        plugin_kib += private_kib(&plugin.pid.ok_or("a running plugin has no process")?.to_string())?;
    }
    rig.host.shutdown().await;
    let per_plugin = (full - empty) / PLUGINS as f64;
    let plugin = plugin_kib / PLUGINS as f64;
    Ok(vec![
        Figure::new(
            "host at rest, no plugin, private memory",
            "KiB",
            empty,
            "runtime alone, before the host is built",
            floor,
        ),
        Figure::new(
            "host's memory for each plugin at rest",
            "KiB",
            per_plugin,
            "private memory of the plugin's own process",
            plugin,
        ),
    ])
}

/// Private memory of a process in KiB: what would be free if it ended.
fn private_kib(pid: &str) -> Outcome<f64> {
    summed_kib(pid, "Private_")
}

/// Memory of a process in KiB: the lines of its `smaps_rollup` that begin so.
pub(crate) fn summed_kib(pid: &str, line: &str) -> Outcome<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let mut sum = 0.0;
    for line in rollup.lines().filter(|text| text.starts_with(line)) {
        sum +=
            line.split_whitespace().nth(1).ok_or("a line of smaps_rollup has no number")?.parse::<f64>()?;
    }
    Ok(sum)
}
