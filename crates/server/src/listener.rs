//! Connections: accepted, served, and ended in order.
//!
//! Every connection is bounded: how many there are, how long a request's head may take, and how long the end may take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::metrics::Metrics;

/// Connections at the same time; further ones wait in the system's queue. Each costs a task and some buffers.
const MAX_CONNECTIONS: usize = 1024;

/// How long a request's head may take, so that slow senders do not hold connections.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Wait after a failed accept. The usual reason is that the process has no descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What every connection is served with.
#[derive(Clone)]
pub(crate) struct Doors {
    /// Answers requests.
    pub(crate) router: Router,
    /// Counts connections.
    pub(crate) metrics: Metrics,
    /// Tracks the connections that are open.
    pub(crate) connections: TaskTracker,
    /// Cancelled when no new requests are taken: connections end after what they are doing.
    pub(crate) closing: CancellationToken,
    /// Cancelled when connections end whatever they are doing.
    pub(crate) cut: CancellationToken,
}

/// Takes connections until `closing` is cancelled.
pub(crate) async fn accept(listener: TcpListener, doors: Doors) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = doors.closing.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let inside = doors.clone();
                doors.connections.spawn(async move {
                    inside.metrics.connections.inc();
                    serve(stream, peer, &inside).await;
                    inside.metrics.connections.dec();
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    doors.connections.close();
}

async fn serve(stream: TcpStream, peer: SocketAddr, doors: &Doors) {
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    let used = Arc::new(AtomicBool::new(false));
    let (using, router) = (used.clone(), doors.router.clone());
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        using.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = doors.closing.cancelled() => {
            // Browsers open connections in advance; one that was never used has nothing to finish.
            if !used.load(Ordering::Relaxed) {
                return;
            }
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = doors.cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
