//! How fast plugins start: one, and a hundred at once, against the same program started by hand.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use temps_host::PluginState;

use crate::Outcome;
use crate::rig::{Rig, bench_plugin, copy_named};
use crate::stats::{Figure, Samples};

/// Starts of one plugin.
const STARTS: usize = 20;

/// Plugins that start at once.
const CROWD: usize = 100;

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    Ok(vec![one().await?, crowd().await?])
}

async fn one() -> Outcome<Figure> {
    let rig = Rig::start().await?;
    rig.drop_plugins(1)?;
    rig.running(1).await?;
    let by_hand = rig.directory.path().join("by-hand");
    copy_named(&bench_plugin()?, &by_hand, "by-hand")?;
    let (mut nanos, mut floor) = (Vec::new(), Vec::new());
    let mut view = rig.host.watch_plugin("bench-0").ok_or("the plugin is not there")?;
    for _ in 0..STARTS {
        rig.host.stop_plugin("bench-0", "bench").await?;
        let begin = Instant::now();
        rig.host.start_plugin("bench-0", "bench").await?;
        view.wait_for(|plugin| plugin.state == PluginState::Running).await?;
        nanos.push(begin.elapsed().as_nanos() as u64);
        let begin = Instant::now();
        let child = start_by_hand(&by_hand, rig.directory.path())?;
        floor.push(begin.elapsed().as_nanos() as u64);
        end(child);
    }
    rig.host.shutdown().await;
    let millis = |nanos: Vec<u64>| Samples::from_nanos(nanos).quantile(0.5) / 1e6;
    Ok(Figure::new(
        "spawn to running, channel open, median",
        "ms",
        millis(nanos),
        "same program by hand, to its ready line",
        millis(floor),
    ))
}

async fn crowd() -> Outcome<Figure> {
    let rig = Rig::start().await?;
    rig.drop_plugins(CROWD)?;
    rig.running(CROWD).await?;
    // The first take-up copies, hashes and inspects; what is measured is the start of a host that knows its plugins.
    rig.host.shutdown().await;
    let root = rig.directory.path();
    let begin = Instant::now();
    let again = rig.restart().await?;
    again.running(CROWD).await?;
    let value = begin.elapsed().as_secs_f64() * 1e3;
    again.host.shutdown().await;
    let by_hand = root.join("by-hand");
    copy_named(&bench_plugin()?, &by_hand, "by-hand")?;
    let begin = Instant::now();
    let threads: Vec<_> = (0..CROWD)
        .map(|index| {
            let (by_hand, directory) = (by_hand.clone(), root.join(format!("crowd{index}")));
            std::thread::spawn(move || {
                std::fs::create_dir(&directory).map_err(|error| error.to_string())?;
                start_by_hand(&by_hand, &directory).map_err(|error| error.to_string())
            })
        })
        .collect();
    let mut children = Vec::new();
    for thread in threads {
        children.push(thread.join().map_err(|_| "a thread of the floor panicked")??);
    }
    let floor = begin.elapsed().as_secs_f64() * 1e3;
    children.into_iter().for_each(end);
    Ok(Figure::new(
        "host start to 100 plugins running",
        "ms",
        value,
        "100 of the same program by hand, to their ready lines",
        floor,
    ))
}

/// Starts the bench plugin as a host would, and waits for its two lines.
pub(crate) fn start_by_hand(program: &Path, directory: &Path) -> Outcome<Child> {
    let mut child = Command::new(program)
        .arg("--socket-path")
        .arg(directory.join("by-hand.sock"))
        .args(["--auth-secret", "by-hand", "--data-dir"])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
    for _ in 0..2 {
        lines.next().ok_or("the plugin ended before it was ready")??;
    }
    Ok(child)
}

/// Ends a plugin that was started by hand.
pub(crate) fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}
