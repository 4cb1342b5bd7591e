//! Requests through the host to a plugin's route, against the same plugin asked directly on its socket.

use std::time::Instant;

use axum::body::Body;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;

use crate::Outcome;
use crate::floor::connect;
use crate::layers;
use crate::rig::{Rig, bench_plugin, copy_named};
use crate::spawn::{end, start_by_hand};
use crate::stats::{Figure, Samples};

/// Requests of one repetition, one after the other.
const COUNT: usize = 5_000;

/// Repetitions of floor and figure, one after the other, of which the best counts.
const REPETITIONS: usize = 3;

/// Connections of the rate measurement.
const CONNECTIONS: usize = 16;

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    let rig = Rig::start_with(|config| layers::compare(config, "bench-1")).await?;
    rig.drop_plugins(2)?;
    rig.running(2).await?;
    let address = rig.serve().await?;
    let by_hand = rig.directory.path().join("by-hand");
    copy_named(&bench_plugin()?, &by_hand, "by-hand")?;
    let child = start_by_hand(&by_hand, rig.directory.path())?;
    let socket = rig.directory.path().join("by-hand.sock");

    let [mut through, mut bare, mut direct] = [Vec::new(), Vec::new(), Vec::new()];
    let (mut through_rate, mut direct_rate) = (0f64, 0f64);
    for _ in 0..REPETITIONS {
        let mut sender = open(connect(&socket).await?).await?;
        direct.push(serial(&mut sender, "/ping").await?);
        let mut sender = open(tokio::net::TcpStream::connect(address).await?).await?;
        through.push(serial(&mut sender, "/api/x/bench-0/ping").await?);
        bare.push(serial(&mut sender, "/api/x/bench-1/ping").await?);
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            senders.push(open(connect(&socket).await?).await?);
        }
        direct_rate = direct_rate.max(parallel(senders, "/ping").await?);
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            senders.push(open(tokio::net::TcpStream::connect(address).await?).await?);
        }
        through_rate = through_rate.max(parallel(senders, "/api/x/bench-0/ping").await?);
    }
    end(child);
    rig.host.shutdown().await;
    let best = |samples: &[Samples], pick: fn(&Samples) -> f64| {
        samples.iter().map(pick).fold(f64::INFINITY, f64::min) / 1000.0
    };
    let floor_name = "same plugin on its own socket, without the host";
    let line = |name: &str, pick: fn(&Samples) -> f64| {
        Figure::new(name, "µs", best(&through, pick), floor_name, best(&direct, pick))
    };
    Ok(vec![
        line("proxied request, smallest", Samples::min),
        line("proxied request, median", |s| s.quantile(0.5)),
        line("proxied request, 99th percentile", |s| s.quantile(0.99)),
        layers::compared(
            "proxied request",
            best(&through, |s| s.quantile(0.5)),
            best(&bare, |s| s.quantile(0.5)),
        ),
        Figure::new("proxied requests, 16 connections", "1/s", through_rate, floor_name, direct_rate),
    ])
}

pub(crate) async fn open<S>(stream: S) -> Outcome<SendRequest<Empty<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

pub(crate) async fn ask(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> Outcome<()> {
    let request = axum::http::Request::get(path)
        .header("host", "localhost")
        .header("authorization", "Bearer by-hand")
        .body(Empty::<Bytes>::new())?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    Body::new(response.into_body()).collect().await?;
    if status.is_success() { Ok(()) } else { Err(format!("{path} answered {status}").into()) }
}

pub(crate) async fn serial(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> Outcome<Samples> {
    let mut nanos = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let begin = Instant::now();
        ask(sender, path).await?;
        nanos.push(begin.elapsed().as_nanos() as u64);
    }
    Ok(Samples::from_nanos(nanos))
}

async fn parallel(senders: Vec<SendRequest<Empty<Bytes>>>, path: &'static str) -> Outcome<f64> {
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let requests = COUNT / CONNECTIONS;
    for mut sender in senders {
        tasks.spawn(async move {
            for _ in 0..requests {
                ask(&mut sender, path).await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok((requests * CONNECTIONS) as f64 / begin.elapsed().as_secs_f64())
}
