//! Connections to a plugin: opened over its socket, kept for the next request, closed when they stand still.
//!
//! One pool belongs to one start of a plugin, so a request never meets a connection to the process before. Each
//! connection has a driver, which also watches its pulse: the one place where a request that stands still is cut,
//! whichever side is to blame.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::body::Upload;
use super::bounds::{Bounds, MAX_POOLED, MAX_RESPONSE_HEAD, MAX_RESPONSE_HEADERS};
use super::traffic::{InFlight, Traffic};
use crate::plugin::{Link, socket};

/// How long a connection may take to finish what it does after its response was read, before it is given up.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectError {
    /// Nobody answers on the socket.
    Refused,
    /// The plugin did not accept in time.
    Slow,
}

/// The connections to one start of a plugin.
#[derive(Debug)]
pub(super) struct Pool {
    link: Arc<Link>,
    bounds: Bounds,
    traffic: Arc<Traffic>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(link: Arc<Link>, bounds: Bounds, traffic: Arc<Traffic>) -> Self {
        Self { link, bounds, traffic, idle: Mutex::default() }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// A connection that was kept, the most recently used first.
    pub(super) fn reuse(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.sender.is_ready() && !connection.pulse.is_over() {
                connection.pulse.begin(self.bounds.idle);
                return Some(connection);
            }
        }
        None
    }

    /// A new connection.
    pub(super) async fn open(&self) -> Result<Connection, ConnectError> {
        let stream = socket::connect(&self.link.socket, self.link.launcher_pid, self.bounds.connect)
            .await
            .inspect_err(|error| tracing::debug!(plugin = %self.link.name, %error, "no connection"))
            .map_err(|error| match error {
                socket::ConnectError::Full { .. } => ConnectError::Slow,
                _ => ConnectError::Refused,
            })?;
        let pulse = Arc::new(Pulse::new(self.bounds.idle));
        let io = TokioIo::new(Watched { stream, pulse: pulse.clone() });
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_RESPONSE_HEADERS)
            .max_header_size(MAX_RESPONSE_HEAD)
            .max_buf_size(2 * MAX_RESPONSE_HEAD)
            .handshake::<_, Upload>(io)
            .await
            .map_err(|_| ConnectError::Refused)?;
        self.traffic.connected();
        let closed = self.link.closed.clone();
        let driver = tokio::spawn(drive(connection, pulse.clone(), closed, self.bounds.pool_idle));
        Ok(Connection { sender, pulse, driver: driver.abort_handle() })
    }

    /// Takes a connection back whose response was read to its end.
    pub(super) fn give_back(self: &Arc<Self>, mut connection: Connection) {
        connection.pulse.rest(self.bounds.pool_idle);
        if connection.sender.is_ready() {
            return self.keep(connection);
        }
        // The driver has a last step to do, or the plugin answered before it had read the request's body.
        let pool = self.clone();
        tokio::spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(SETTLE_TIMEOUT, connection.sender.ready()).await {
                pool.keep(connection);
            }
        });
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.sender.is_closed());
        if idle.len() < MAX_POOLED && !self.link.closed.is_cancelled() {
            idle.push(connection);
        }
    }
}

/// One connection. Dropping it closes it, whatever it is doing.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Upload>,
    pub(super) pulse: Arc<Pulse>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
        self.pulse.end_flight();
    }
}

/// Moves a connection's bytes until it ends, stands still for too long, or rests while its plugin stops.
async fn drive(
    connection: http1::Connection<TokioIo<Watched>, Upload>,
    pulse: Arc<Pulse>,
    closed: CancellationToken,
    check_every: Duration,
) {
    let mut connection = pin!(connection.with_upgrades());
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = closed.cancelled(), if !closing => closing = true,
            () = tokio::time::sleep(pulse.left().min(check_every)) => {}
        }
        if pulse.is_over() || (closing && !pulse.is_busy()) {
            pulse.cut();
            return;
        }
    }
}

/// When something last moved on a connection, how long it may stand still, and what is held for its request.
#[derive(Debug)]
pub(super) struct Pulse {
    born: Instant,
    moved_at: AtomicU64,
    limit: AtomicU64,
    busy: AtomicBool,
    was_cut: AtomicBool,
    read: AtomicU64,
    flight: Mutex<Option<Flight>>,
}

/// What one request holds until it is over: its place among the plugin's requests, and its count.
#[derive(Debug)]
pub(super) struct Flight {
    /// What a stop of the plugin waits for; given up by streams, which have no end of their own.
    pub(super) work: Option<TaskTrackerToken>,
    pub(super) _permit: tokio::sync::OwnedSemaphorePermit,
    pub(super) _counted: InFlight,
}

impl Pulse {
    fn new(limit: Duration) -> Self {
        let pulse = Self {
            born: Instant::now(),
            moved_at: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            busy: AtomicBool::new(true),
            was_cut: AtomicBool::new(false),
            read: AtomicU64::new(0),
            flight: Mutex::new(None),
        };
        pulse.begin(limit);
        pulse
    }

    /// Says that something moved.
    pub(super) fn beat(&self) {
        self.moved_at.store(millis(self.born.elapsed()), Relaxed);
    }

    /// Begins a request that may stand still for `limit`.
    pub(super) fn begin(&self, limit: Duration) {
        self.allow(limit);
        self.busy.store(true, Relaxed);
    }

    /// Sets how long the connection may stand still from now on.
    pub(super) fn allow(&self, limit: Duration) {
        self.limit.store(millis(limit), Relaxed);
        self.beat();
    }

    fn rest(&self, limit: Duration) {
        self.allow(limit);
        self.busy.store(false, Relaxed);
        self.end_flight();
    }

    /// Holds a request's place until it is over, or the connection is cut.
    pub(super) fn hold(&self, flight: Flight) {
        *self.flight.lock().unwrap_or_else(PoisonError::into_inner) = Some(flight);
    }

    /// Takes a request's place away, to hold it on another connection.
    pub(super) fn take_flight(&self) -> Option<Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Makes the request a stream, which may be silent for `limit` and which no stop of the plugin waits for.
    pub(super) fn become_stream(&self, limit: Duration) {
        self.allow(limit);
        if let Some(flight) = &mut *self.flight.lock().unwrap_or_else(PoisonError::into_inner) {
            flight.work = None;
        }
    }

    fn end_flight(&self) {
        drop(self.take_flight());
    }

    fn cut(&self) {
        self.was_cut.store(true, Relaxed);
        self.end_flight();
    }

    /// Whether the connection was closed because it stood still.
    pub(super) fn was_cut(&self) -> bool {
        self.was_cut.load(Relaxed)
    }

    /// Bytes that came from the plugin over this connection so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    fn left(&self) -> Duration {
        let end = self.moved_at.load(Relaxed).saturating_add(self.limit.load(Relaxed));
        Duration::from_millis(end).saturating_sub(self.born.elapsed())
    }

    fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The socket, counting what is read from it.
struct Watched {
    stream: UnixStream,
    pulse: Arc<Pulse>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.pulse.read.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
