//! What a delivery looks at of a link: how it gives events, what it wants, and when it is over.

use std::sync::Arc;

use temps_protocol::Feature;
use tokio::sync::watch;

use super::super::adapted::adapted;
use super::super::filter;
use super::super::journal::Entry;
use super::super::line::Mode;
use crate::channel::ChannelHandle;
use crate::plugin::{Ended, Link};
use crate::registry::PluginHandle;
use crate::versions::{ApiVersions, major_of};

/// How this run of a plugin gets its events.
pub(super) fn mode_of(link: &Link) -> Mode {
    match &link.channel {
        None => Mode::Post,
        Some(_) if link.features.contains(&Feature::Ack) => Mode::Ack,
        Some(_) => Mode::Read,
    }
}

/// Whether the plugin asked for an event, may receive its type, and may see its project.
pub(super) fn wanted(link: &Link, handle: &PluginHandle, versions: &ApiVersions, entry: &Arc<Entry>) -> bool {
    let asked = link
        .manifest
        .events
        .iter()
        .any(|pattern| temps_protocol::event::pattern_matches(pattern, &entry.event_type));
    if !asked {
        return false;
    }
    let granted = {
        let grants = handle.grants.borrow();
        grants.allows_event(&entry.event_type)
            && entry.project_id.is_none_or(|project| grants.allows_project(project))
    };
    if !granted || link.manifest.filters.is_empty() {
        return granted;
    }
    // The manifest's filters speak of the form that the plugin knows. An event without one is to fail where it is seen.
    adapted(versions, entry, major_of(&link.manifest))
        .map_or(true, |entry| filter::passes(&link.manifest.filters, &entry))
}

/// Waits for a link that takes work. `None` when the plugin is gone.
pub(super) async fn next_link(
    links: &mut watch::Receiver<Option<Arc<Link>>>,
    served: Option<&Arc<Link>>,
) -> Option<Arc<Link>> {
    let is_served = |link: &Arc<Link>| served.is_some_and(|served| Arc::ptr_eq(served, link));
    let usable = |link: &Arc<Link>| !link.closed.is_cancelled() && !is_served(link);
    links.wait_for(|link| link.as_ref().is_some_and(usable)).await.ok()?.clone()
}

/// Resolves when nothing more comes of this link. While the plugin has events `in_hand`, its answers are waited for.
pub(super) async fn is_over(link: &Arc<Link>, links: &mut watch::Receiver<Option<Arc<Link>>>, in_hand: bool) {
    let another = |now: &Option<Arc<Link>>| now.as_ref().is_some_and(|now| !Arc::ptr_eq(now, link));
    let mut ended = link.ended.clone();
    tokio::select! {
        () = link.closed.cancelled(), if !in_hand => {}
        () = closed(link.channel.as_ref()) => {}
        Ok(_) = ended.wait_for(Option::is_some) => {}
        _ = links.wait_for(another) => {}
    }
}

/// Waits until a run has ended, and says how.
pub(super) async fn how(ended: &mut watch::Receiver<Option<Ended>>) -> Ended {
    let how = ended.wait_for(Option::is_some).await;
    how.ok().and_then(|how| *how).unwrap_or(Ended::Stopped)
}

/// Waits until another link is there, and says whether it belongs to the same run.
pub(super) async fn replaced(link: &Arc<Link>, links: &mut watch::Receiver<Option<Arc<Link>>>) -> bool {
    let another = |now: &Option<Arc<Link>>| now.as_ref().is_some_and(|now| !Arc::ptr_eq(now, link));
    let now = links.wait_for(another).await;
    now.is_ok_and(|now| now.as_ref().is_some_and(|now| now.incarnation == link.incarnation))
}

async fn closed(channel: Option<&ChannelHandle>) {
    match channel {
        Some(channel) => channel.closed.cancelled().await,
        None => std::future::pending().await,
    }
}
