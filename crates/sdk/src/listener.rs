//! A listener that serves only so many connections at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections served at once. A host has at most 64 requests to one plugin, the channel and a health check; further
/// ones wait in the kernel's line.
const MAX_CONNECTIONS: usize = 256;

/// Accepts a connection only while fewer than [`MAX_CONNECTIONS`] are open.
pub(crate) struct Bounded<L> {
    inner: L,
    places: Arc<Semaphore>,
}

impl<L> Bounded<L> {
    pub(crate) fn new(inner: L) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Held<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed, so there is always a place in the end.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (io, address) = self.inner.accept().await;
        (Held { io, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A connection that gives its place back when it ends.
pub(crate) struct Held<Io> {
    io: Io,
    _place: Option<OwnedSemaphorePermit>,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Held<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Held<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// Somebody always knocks.
    struct Busy;

    impl Listener for Busy {
        type Io = tokio::io::Empty;
        type Addr = ();

        async fn accept(&mut self) -> (Self::Io, ()) {
            (tokio::io::empty(), ())
        }

        fn local_addr(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_so_many_connections_are_open_at_once() {
        let mut listener = Bounded::new(Busy);
        let mut open: Vec<_> =
            (0..MAX_CONNECTIONS).map(|_| listener.accept().now_or_never().unwrap()).collect();
        assert!(listener.accept().now_or_never().is_none());
        open.pop();
        assert!(listener.accept().now_or_never().is_some());
    }
}
