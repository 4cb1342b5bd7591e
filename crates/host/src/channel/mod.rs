//! The channel: one WebSocket per plugin, over its socket, with the host as the client.
//!
//! This file is the channel as other rooms see it: opening one, and the handle to an open one. `session` talks, `methods`
//! decides what a request gets.

mod brake;
mod calls;
mod counters;
mod methods;
mod open;
mod patient;
mod pings;
mod reader;
mod session;
mod storage;

use std::sync::{Arc, OnceLock};

use temps_protocol::Ack;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use temps_protocol::HostFrame;

use crate::configuration::Injected;

pub use open::{
    CHANNEL_PATH, CONNECT_TIMEOUT, ChannelSpec, OpenError, Opened, UPGRADE_TIMEOUT, open, open_over,
};

/// Messages that wait to be sent: batches of events, pings, answers. Who sends more waits.
const SEND_QUEUE: usize = 64;

/// Pings of one channel that may wait for their pongs. Each delivery has one out; more are somebody's mistake.
const MAX_PINGS: usize = 64;

/// Acks that may wait for the delivery. A plugin has fewer events in hand; what it sends beyond that is dropped.
const ACK_QUEUE: usize = 256;

/// The sending side of an open channel. Cheap to clone. The channel is closed when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct ChannelHandle {
    /// Cancelled when the channel is lost or closed.
    pub closed: CancellationToken,
    /// Acks of the plugin, for the one who sends it events; none come while the feature is not in force.
    pub acks: Arc<Mutex<mpsc::Receiver<Ack>>>,
    outgoing: mpsc::Sender<Outgoing>,
    closing: CancellationToken,
    pings: Arc<Semaphore>,
    end: Arc<OnceLock<ChannelEnd>>,
}

/// The channel was lost or closed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct ChannelClosed;

/// How a channel ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelEnd {
    /// The host closed it.
    #[error("the host closed the channel")]
    ByHost,
    /// The plugin closed it, or its process ended.
    #[error("the plugin closed the channel{}", with(.0.as_deref()))]
    ByPlugin(Option<String>),
    /// The plugin did not read for longer than the host waits.
    #[error("the plugin did not read from the channel for {0} s")]
    SlowReader(u64),
    /// The plugin sent a longer frame than the protocol allows.
    #[error("the plugin sent a frame of more than {} bytes", temps_protocol::limits::MAX_FRAME_BYTES)]
    FrameTooLong,
    /// What the plugin sent is no WebSocket, or the socket failed.
    #[error("the channel broke: {0}")]
    Broken(String),
}

fn with(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({reason})"))
}

/// What waits to be sent. `Debug` shows none of it, because a frame may hold secrets of the plugin's configuration.
enum Outgoing {
    /// Events, each its own JSON.
    Events(Vec<Arc<str>>),
    /// A ping; its pong is told here.
    Ping(oneshot::Sender<()>),
    /// A frame as it is.
    Frame(String),
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Outgoing::Events(_) => "Events",
            Outgoing::Ping(_) => "Ping",
            Outgoing::Frame(_) => "Frame",
        })
    }
}

impl ChannelHandle {
    /// Queues the plugin's configuration for sending.
    ///
    /// # Errors
    /// [`ChannelClosed`] when the channel ended.
    pub async fn send_config(&self, config: &Injected) -> Result<(), ChannelClosed> {
        let frame = HostFrame::Config(config.expose().clone());
        let frame = serde_json::to_string(&frame).map_err(|_| ChannelClosed)?;
        self.outgoing.send(Outgoing::Frame(frame)).await.map_err(|_| ChannelClosed)
    }

    /// Queues events (each the event's own JSON) for sending, in order, and waits while the queue is full.
    ///
    /// # Errors
    /// [`ChannelClosed`] when the channel ended; which of the events went out is not known then.
    pub async fn send_events(&self, events: Vec<Arc<str>>) -> Result<(), ChannelClosed> {
        self.outgoing.send(Outgoing::Events(events)).await.map_err(|_| ChannelClosed)
    }

    /// Sends a ping behind everything queued so far and waits for its pong, which proves that all of it was read.
    ///
    /// It waits as long as the channel is open: a plugin may be busy with an event for minutes.
    ///
    /// # Errors
    /// [`ChannelClosed`] when the channel ended first.
    pub async fn ping(&self) -> Result<(), ChannelClosed> {
        let _one_of_few = self.pings.acquire().await.map_err(|_| ChannelClosed)?;
        let (told, pong) = oneshot::channel();
        self.outgoing.send(Outgoing::Ping(told)).await.map_err(|_| ChannelClosed)?;
        pong.await.map_err(|_| ChannelClosed)
    }

    /// Sends what is queued, says goodbye, and waits until the channel is closed; it does not wait long for the plugin's goodbye.
    pub async fn close(&self) {
        self.closing.cancel();
        self.closed.cancelled().await;
    }

    /// How the channel ended; `None` while it is open.
    #[must_use]
    pub fn end(&self) -> Option<&ChannelEnd> {
        self.end.get()
    }
}
