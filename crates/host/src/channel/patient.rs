//! A connection to a plugin that may read slowly: it tells apart a plugin that reads little from one that reads nothing.
//!
//! A plugin that works on one event after the other and has a backlog reads a few hundred bytes now and then. The kernel says
//! that a socket can be written to only when three quarters of what waits in it were read, which may take such a plugin
//! minutes. So this stream writes in small pieces, and tries by itself whether there is room.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep, sleep};

/// Longest single write in bytes. The kernel frees the room of a write when all of it was read: this is what a plugin has to
/// read to show that it does.
const MAX_WRITE: usize = 8 * 1024;

/// Time between two tries to write to a socket that the kernel calls full.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// A unix stream that notes its progress in writing.
pub(super) struct PatientStream {
    inner: UnixStream,
    next_try: Option<Pin<Box<Sleep>>>,
    progress: Arc<Progress>,
}

/// When something was last written.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    last_ms: AtomicU64,
}

impl Progress {
    /// When something was last written, or the connection began.
    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    fn note(&self) {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(passed, Ordering::Relaxed);
    }
}

impl PatientStream {
    pub(super) fn new(inner: UnixStream) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress { start: Instant::now(), last_ms: AtomicU64::new(0) });
        (Self { inner, next_try: None, progress: Arc::clone(&progress) }, progress)
    }

    /// Waits for the next try, and tries: the kernel takes a piece as soon as there is any room.
    fn poll_try(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let next_try = self.next_try.get_or_insert_with(|| Box::pin(sleep(TRY_EVERY)));
            if next_try.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.next_try = None;
            match rustix::net::send(&self.inner, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let piece = &buf[..buf.len().min(MAX_WRITE)];
        let written = match Pin::new(&mut self.inner).poll_write(cx, piece) {
            Poll::Pending => self.poll_try(cx, piece),
            ready => ready,
        };
        if written.is_ready() {
            self.next_try = None;
            self.progress.note();
        }
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        self.poll_write(cx, first)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}
