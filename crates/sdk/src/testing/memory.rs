//! Connections in memory: what a test's plugin listens on instead of a socket.

use std::io;

use axum::serve::Listener;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Bytes that a pipe holds in each direction before its writer waits.
const PIPE_BYTES: usize = 64 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 16;

/// Makes a listener, and the end that connects to it.
pub(super) fn listener() -> (MemoryListener, MemoryConnector) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    (MemoryListener(receiver), MemoryConnector(sender))
}

pub(super) struct MemoryListener(mpsc::Receiver<DuplexStream>);

#[derive(Debug, Clone)]
pub(super) struct MemoryConnector(mpsc::Sender<DuplexStream>);

impl MemoryConnector {
    pub(super) async fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        self.0.send(far).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}

impl Listener for MemoryListener {
    type Io = DuplexStream;
    type Addr = &'static str;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.0.recv().await {
            Some(stream) => (stream, "memory"),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok("memory")
    }
}
