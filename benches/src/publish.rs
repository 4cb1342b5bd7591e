//! Publishing and its latency: how many durable publishes a second, how many of them share a commit, and how long one event
//! takes from its publish to its ack. The floor is a file that the same bytes are appended to, synced as often as the store
//! committed, in the same run.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use temps_protocol::PluginEvent;

use crate::Outcome;
use crate::events::{publish, sample_event};
use crate::floor;
use crate::rig::Rig;
use crate::stats::{Figure, Samples};

/// Events of each run, by how many publishers there are: a lone one waits for the disk each time.
const RUNS: [(usize, usize); 3] = [(1, 3_000), (16, 20_000), (64, 40_000)];

/// Events whose way from publish to ack is timed, one after the other.
const TIMED: usize = 2_000;

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    let mut figures = Vec::new();
    for (publishers, events) in RUNS {
        figures.extend(rate(publishers, events).await?);
    }
    figures.extend(latency().await?);
    Ok(figures)
}

/// Durable publishes without a plugin.
async fn rate(publishers: usize, events: usize) -> Outcome<[Figure; 2]> {
    let rig = Rig::start().await?;
    let (commits, begin) = (rig.store.commits(), Instant::now());
    publish(&rig, publishers, events).await?;
    let value = events as f64 / begin.elapsed().as_secs_f64();
    let shared = events as f64 / (rig.store.commits() - commits).max(1) as f64;
    let path = rig.directory.path().join("floor.log");
    let batch = (shared.round() as usize).max(1);
    let floor = tokio::task::spawn_blocking(move || append(&path, events, batch)).await??;
    rig.host.shutdown().await;
    let rate = Figure::new(
        &format!("durable publishes, {publishers} publisher(s)"),
        "events/s",
        value,
        &format!("same bytes appended to a file, fdatasync every {batch}"),
        floor,
    );
    let sharing = Figure::new(
        &format!("events in one commit, {publishers} publisher(s)"),
        "events",
        shared,
        "one commit for each event",
        1.0,
    );
    Ok([rate, sharing])
}

fn append(path: &Path, events: usize, batch: usize) -> std::io::Result<f64> {
    let mut file = std::fs::File::create(path)?;
    let line = serde_json::to_vec(&sample_event())?;
    let begin = Instant::now();
    for index in 1..=events {
        file.write_all(&line)?;
        if index % batch == 0 {
            file.sync_data()?;
        }
    }
    file.sync_data()?;
    Ok(events as f64 / begin.elapsed().as_secs_f64())
}

/// From before the publish until the plugin's ack has settled the event, one event at a time.
async fn latency() -> Outcome<[Figure; 2]> {
    let rig = Rig::start().await?;
    rig.drop_plugins(1)?;
    rig.running(1).await?;
    let mut status = rig.host.events().watch("bench-0").ok_or("the plugin has no deliveries")?;
    let mut nanos = Vec::with_capacity(TIMED);
    for count in 1..=TIMED as u64 {
        let begin = Instant::now();
        rig.host.publish(sample_event()).await?;
        status.wait_for(|status| status.settled >= count).await?;
        nanos.push(begin.elapsed().as_nanos() as u64);
    }
    let measured = Samples::from_nanos(nanos);
    let floor = latency_floor(rig.directory.path()).await?;
    rig.host.shutdown().await;
    let figure = |name: &str, share: f64| {
        Figure::new(
            &format!("publish to ack, {name}"),
            "µs",
            measured.quantile(share) / 1_000.0,
            "append and fdatasync, then the bytes over a socket and back",
            floor.quantile(share) / 1_000.0,
        )
    };
    Ok([figure("median", 0.5), figure("99th percentile", 0.99)])
}

/// The same bytes made durable in a file, and then sent to another process, which answers with as many as an ack has.
async fn latency_floor(directory: &Path) -> Outcome<Samples> {
    let event = sample_event();
    let line = serde_json::to_vec(&event)?;
    let ack = serde_json::json!({"type": "ack", "id": event.id, "status": "ok"}).to_string();
    let frame = frame_of(&event).len();
    let mut file = std::fs::File::create(directory.join("floor.log"))?;
    let mut echo = floor::Echo::start(directory, frame, ack.len()).await?;
    let mut nanos = Vec::with_capacity(TIMED);
    for _ in 0..TIMED {
        let begin = Instant::now();
        file.write_all(&line)?;
        file.sync_data()?;
        echo.round_trip().await?;
        nanos.push(begin.elapsed().as_nanos() as u64);
    }
    Ok(Samples::from_nanos(nanos))
}

fn frame_of(event: &PluginEvent) -> String {
    serde_json::json!({"type": "event", "event": event}).to_string()
}
