//! One request of a plugin over the channel and its answer, against bare socket round trips of the same bytes.

use crate::Outcome;
use crate::floor;
use crate::layers;
use crate::rig::Rig;
use crate::stats::{Figure, Samples};

/// Round trips per repetition.
const COUNT: usize = 20_000;

/// Repetitions of floor and figure, one after the other, of which the best counts.
const REPETITIONS: usize = 3;

/// Bytes of a `get_project` request frame with its WebSocket header, and of its answer.
const REQUEST_BYTES: usize = 78;
const RESPONSE_BYTES: usize = 350;

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    let rig = Rig::start_with(|config| layers::compare(config, "bench-1")).await?;
    rig.drop_plugins(2)?;
    rig.running(2).await?;
    let [mut floors, mut figures, mut bare] = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..REPETITIONS {
        floors.push(floor::ping_pong(rig.directory.path(), REQUEST_BYTES, RESPONSE_BYTES, COUNT).await?);
        for (plugin, samples) in [("bench-0", &mut figures), ("bench-1", &mut bare)] {
            let body = rig.get(plugin, &format!("/rtt?n={COUNT}")).await?;
            samples.push(Samples::from_nanos(serde_json::from_slice(&body)?));
        }
    }
    let piped: f64 = serde_json::from_slice(&rig.get("bench-0", "/pipelined?n=50000&width=32").await?)?;
    rig.host.shutdown().await;
    let floor_name = "unix socket ping-pong of the same bytes, same runtime";
    let best = |samples: &[Samples], pick: fn(&Samples) -> f64| {
        samples.iter().map(pick).fold(f64::INFINITY, f64::min) / 1000.0
    };
    let line = |name: &str, pick: fn(&Samples) -> f64| {
        Figure::new(name, "µs", best(&figures, pick), floor_name, best(&floors, pick))
    };
    let serial = 1e6 / best(&floors, |s| s.quantile(0.5));
    Ok(vec![
        line("channel request, smallest", Samples::min),
        line("channel request, median", |s| s.quantile(0.5)),
        line("channel request, 99th percentile", |s| s.quantile(0.99)),
        layers::compared(
            "channel request",
            best(&figures, |s| s.quantile(0.5)),
            best(&bare, |s| s.quantile(0.5)),
        ),
        Figure::new("channel requests, 32 at once", "1/s", piped, "ping-pong, one at a time", serial),
    ])
}
