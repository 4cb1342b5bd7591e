//! A start's channel: opened, told the configuration first, and opened again after it was lost.

use std::sync::Arc;
use std::time::Duration;

use temps_protocol::Feature;
use tokio_util::sync::CancellationToken;

use super::{Progress, StartContext};
use crate::channel::{self, ChannelHandle, ChannelSpec, Opened};
use crate::plugin::link::Link;

/// Tries to open a new channel after one was lost, and the wait before each.
const RECONNECT_WAITS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// `Ok(None)` when the plugin has no channel.
pub(super) async fn open_channel(
    context: &StartContext,
    link: &Link,
) -> Result<Option<ChannelHandle>, String> {
    let shared = &context.shared;
    let spec = ChannelSpec {
        name: context.name.clone(),
        secret: context.secret.clone(),
        grants: context.grants.clone(),
        platform: Arc::clone(&shared.platform),
        store: Arc::clone(&shared.store),
        config: context.config.clone(),
        acks: link.features.contains(&Feature::Ack),
        audit: shared.audit.clone(),
        metrics: shared.metrics.clone(),
        tap: link.tap.clone(),
    };
    let told = link.tap.request("GET", channel::CHANNEL_PATH);
    let opened = channel::open(spec, &link.socket, link.launcher_pid).await;
    match &opened {
        Ok(Opened::Channel(_)) => told.answered(101),
        Ok(Opened::Unsupported { status }) | Err(channel::OpenError::Refused { status }) => {
            told.answered(*status)
        }
        Err(_) => {}
    }
    match opened {
        Ok(Opened::Channel(channel)) => {
            if link.features.contains(&Feature::Config) {
                tell_config(context, channel.clone()).await;
            }
            Ok(Some(channel))
        }
        Ok(Opened::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Opens a new channel for a plugin that accepts one, with a few tries.
pub(crate) async fn reconnect(context: StartContext, link: Arc<Link>) {
    let mut last = String::new();
    for wait in RECONNECT_WAITS {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = context.over.cancelled() => return,
        }
        match open_channel(&context, &link).await {
            Ok(Some(channel)) => {
                let link = Arc::new(renewed(&link, Some(channel)));
                return context.report(Progress::Reconnected(link)).await;
            }
            Ok(None) => last = "the plugin does not offer it any more".to_owned(),
            Err(why) => last = why,
        }
    }
    let why = format!("the channel was lost and could not be opened again: {last}");
    context.report(Progress::ReconnectFailed(why)).await;
}

/// The same start with another channel, open for new work.
fn renewed(link: &Link, channel: Option<ChannelHandle>) -> Link {
    Link {
        name: link.name.clone(),
        incarnation: link.incarnation,
        socket: link.socket.clone(),
        launcher_pid: link.launcher_pid,
        secret: link.secret.clone(),
        manifest: Arc::clone(&link.manifest),
        ready: Arc::clone(&link.ready),
        features: link.features.clone(),
        channel,
        has_ui: link.has_ui,
        closed: CancellationToken::new(),
        work: link.work.clone(),
        ended: link.ended.clone(),
        blames_an_event: Arc::clone(&link.blames_an_event),
        tap: link.tap.clone(),
    }
}

/// Sends the configuration before anything else goes over a channel, and again after each change as long as it is open.
async fn tell_config(context: &StartContext, channel: ChannelHandle) {
    let mut config = context.config.clone();
    let first = config.borrow_and_update().clone();
    // A channel that is closed already is noticed by whoever watches it.
    if channel.send_config(&first).await.is_err() {
        return;
    }
    let over = context.over.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = config.changed() => if changed.is_err() { return },
                () = channel.closed.cancelled() => return,
                () = over.cancelled() => return,
            }
            let config = config.borrow_and_update().clone();
            if channel.send_config(&config).await.is_err() {
                return;
            }
        }
    });
}
