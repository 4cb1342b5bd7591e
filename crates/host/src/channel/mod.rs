//! The channel: one WebSocket per plugin, over its socket, with the host as the client.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// The sending side of an open channel. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChannelHandle {
    /// Cancelled when the channel is lost or closed.
    pub closed: CancellationToken,
}

/// The channel was lost or closed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct ChannelClosed;

impl ChannelHandle {
    /// Queues events (each the event's own JSON) for sending, in order, and waits while the queue is full.
    ///
    /// # Errors
    /// [`ChannelClosed`] when the channel ended; which of the events went out is not known then.
    pub async fn send_events(&self, events: Vec<Arc<str>>) -> Result<(), ChannelClosed> {
        let _ = events;
        Err(ChannelClosed)
    }

    /// Sends a ping behind everything queued so far and waits for its pong, which proves that all of it was read.
    ///
    /// # Errors
    /// [`ChannelClosed`] when the channel ended first.
    pub async fn ping(&self) -> Result<(), ChannelClosed> {
        Err(ChannelClosed)
    }
}
