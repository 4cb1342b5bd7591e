//! Upgrades: WebSockets and whatever else plugin and caller agree on, as bytes in both directions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::forward::Answer;
use super::refusal::Refusal;
use super::traffic::Traffic;

/// How long both sides may take to hand over their connection after the switch was agreed.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may move once one side has ended its direction. What the other still has to say comes at once.
const HALF_OPEN_IDLE: Duration = Duration::from_secs(5);

/// The protocol that a request asks to change to, if the host passes that on.
///
/// Other versions of HTTP are not: requests inside them would reach the plugin unchecked.
pub(super) fn wanted(method: &Method, version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = headers.get(header::UPGRADE)?;
    let name = protocol.to_str().ok()?.to_ascii_lowercase();
    let carries_requests =
        name.split(',').any(|p| ["h2", "http", "tls"].iter().any(|http| p.trim().starts_with(http)));
    (asks && version == Version::HTTP_11 && method == Method::GET && !carries_requests)
        .then(|| protocol.clone())
}

/// Answers the caller with the plugin's 101 and joins both connections until one ends or both are silent for `idle`.
pub(super) fn join(
    mut answer: Answer,
    caller: OnUpgrade,
    asked: &HeaderValue,
    idle: Duration,
    traffic: Arc<Traffic>,
) -> Result<Response<Body>, Refusal> {
    let agreed = answer.response.headers().get(header::UPGRADE).cloned().ok_or(Refusal::BadAnswer)?;
    if !names(asked, &agreed) {
        return Err(Refusal::BadAnswer);
    }
    let plugin = hyper::upgrade::on(&mut answer.response);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = std::mem::take(answer.response.headers_mut());
    let connection = answer.connection;
    connection.pulse.become_stream(idle);
    tokio::spawn(async move {
        let _flight = connection.pulse.take_flight();
        let both = async { tokio::try_join!(caller, plugin) };
        if let Ok(Ok((caller, plugin))) = tokio::time::timeout(SWITCH_TIMEOUT, both).await {
            carry(caller, plugin, idle, &traffic).await;
        }
    });
    Ok(response)
}

/// Marks a response as the switch that it is, after its headers were cleaned.
pub(super) fn mark(headers: &mut HeaderMap, agreed: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, agreed);
}

fn names(asked: &HeaderValue, agreed: &HeaderValue) -> bool {
    let (Ok(asked), Ok(agreed)) = (asked.to_str(), agreed.to_str()) else { return false };
    asked.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case(agreed.trim()))
}

async fn carry(caller: Upgraded, plugin: Upgraded, idle: Duration, traffic: &Arc<Traffic>) {
    let meter =
        Arc::new(Meter { born: Instant::now(), moved_at: AtomicU64::new(0), half_open: Notify::new() });
    let mut caller = Metered { inner: TokioIo::new(caller), meter: meter.clone(), traffic: traffic.clone() };
    let mut plugin = TokioIo::new(plugin);
    let mut copying = std::pin::pin!(tokio::io::copy_bidirectional(&mut caller, &mut plugin));
    let (mut idle, mut half_open) = (idle, false);
    loop {
        let end = Duration::from_millis(meter.moved_at.load(Relaxed)).saturating_add(idle);
        let left = end.saturating_sub(meter.born.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            biased;
            _ = &mut copying => return,
            () = meter.half_open.notified(), if !half_open => {
                half_open = true;
                idle = idle.min(HALF_OPEN_IDLE);
                meter.beat();
            }
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// What is known of a joined pair of connections.
struct Meter {
    born: Instant,
    moved_at: AtomicU64,
    half_open: Notify,
}

impl Meter {
    fn beat(&self) {
        self.moved_at.store(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// The caller's connection, counting what moves and noticing when a direction ends.
struct Metered {
    inner: TokioIo<Upgraded>,
    meter: Arc<Meter>,
    traffic: Arc<Traffic>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        if read > 0 {
            self.traffic.moved_in(read);
            self.meter.beat();
        } else if polled.is_ready() {
            self.meter.half_open.notify_one();
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.traffic.moved_out(*written as u64);
            self.meter.beat();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.meter.half_open.notify_one();
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
