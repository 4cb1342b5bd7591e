//! What is under way to a plugin: a batch over the channel, or one post.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::journal::Entry;
use super::post::{PostError, post};
use crate::channel::{ChannelClosed, ChannelHandle};
use crate::plugin::Link;

/// How long a post without an answer waits to learn that the plugin went, before it counts as a failure of the event.
/// An exit is seen within milliseconds.
const EXIT_SHOWS_WITHIN: Duration = Duration::from_secs(1);

/// Something under way.
pub(super) type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

/// How it ended.
pub(super) enum Landed {
    /// It is on its way; acks will come.
    Sent,
    /// It was read.
    Read,
    /// The plugin answered the post with success, and what it answered.
    Answered(String),
    /// The post failed, and why.
    Refused(String),
    /// The plugin or its channel went.
    Lost,
}

/// Resolves when what is under way has ended; never when nothing is.
pub(super) async fn landing(flight: &mut Option<Flight>) -> Landed {
    match flight {
        Some(flight) => flight.await,
        None => std::future::pending().await,
    }
}

/// Sends events whose acks come by themselves.
pub(super) fn send(channel: ChannelHandle, batch: &[Arc<Entry>]) -> Flight {
    let events = json(batch);
    Box::pin(async move {
        match channel.send_events(events).await {
            Ok(()) => Landed::Sent,
            Err(ChannelClosed) => Landed::Lost,
        }
    })
}

/// Sends events and waits for the proof that they were read.
pub(super) fn send_and_ping(channel: ChannelHandle, batch: &[Arc<Entry>]) -> Flight {
    let events = json(batch);
    Box::pin(async move {
        let read = async {
            channel.send_events(events).await?;
            channel.ping().await
        };
        match read.await {
            Ok(()) => Landed::Read,
            Err(ChannelClosed) => Landed::Lost,
        }
    })
}

fn json(batch: &[Arc<Entry>]) -> Vec<Arc<str>> {
    batch.iter().map(|entry| entry.json.clone()).collect()
}

/// Posts one event.
pub(super) fn post_one(link: Arc<Link>, entry: Arc<Entry>) -> Flight {
    Box::pin(async move {
        match post(&link, &entry.json).await {
            Ok(said) => Landed::Answered(said),
            Err(PostError::NoAnswer(_))
                if timeout(EXIT_SHOWS_WITHIN, link.closed.cancelled()).await.is_ok() =>
            {
                Landed::Lost
            }
            Err(error) => Landed::Refused(error.to_string()),
        }
    })
}
