//! What all server-sent streams share: when they end, and what keeps them alive.

use std::time::Duration;

use axum::response::sse::{Event, KeepAlive};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// How long one stream lasts. The caller's token is checked again when it comes back, so a revoked one ends with it.
const MAX_STREAM: Duration = Duration::from_secs(60 * 60);

/// Silence after which a comment is sent, so that a caller that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The end of a stream: its time is over, or the daemon is being stopped.
pub(super) struct Ending {
    closing: CancellationToken,
    until: Instant,
}

impl Ending {
    pub(super) fn new(app: &App) -> Self {
        Self { closing: app.closing().clone(), until: Instant::now() + MAX_STREAM }
    }

    /// Waits for `work`; `None` when the stream is over first.
    pub(super) async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => None,
            () = tokio::time::sleep_until(self.until) => None,
            done = work => Some(done),
        }
    }
}

pub(super) fn keep_alive() -> KeepAlive {
    KeepAlive::new().interval(KEEP_ALIVE)
}

/// An event of a stream with a JSON document as its data.
pub(super) fn json_event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}
