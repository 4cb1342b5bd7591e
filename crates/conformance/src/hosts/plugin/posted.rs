//! Events by `POST`, for a plugin without a channel.

use std::sync::Arc;

use serde_json::Value;

use super::Plugin;
use super::events::{self, Reply};
use super::http::{Answer, Request};

/// Takes an event.
pub(super) fn take(plugin: &Arc<Plugin>, request: &Request) -> Answer {
    let length = request.header("content-length").and_then(|value| value.parse::<usize>().ok());
    let json = request.header("content-type").is_some_and(|value| value.starts_with("application/json"));
    let event: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let right = length == Some(request.body.len()) && json && event["id"].is_string();
    plugin.ledger.judge("post.request", right, "an event for a plugin without a channel", || {
        format!("{:?} and {event}", plugin.without_secret(&request.headers))
    });
    match events::take(plugin, None, &event) {
        Reply::Error => Answer::status(500),
        Reply::Ok | Reply::Later => {
            events::settle(plugin, &event["id"]);
            Answer::status(204)
        }
    }
}
