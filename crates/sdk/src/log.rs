//! Logs: JSON lines on standard error, one object per event, as hosts read them.

use std::io;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Levels when `RUST_LOG` is not set or cannot be read.
const DEFAULT_LEVELS: &str = "info";

/// Sends `tracing` to standard error. A plugin that has set a subscriber of its own keeps it.
///
/// `RUST_LOG` chooses levels as `info` or `warn,my_plugin=debug`; the fuller filter language of some programs is
/// not read, because its reader is larger than a small plugin.
pub(crate) fn init() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let levels = Targets::from_str(if wanted.is_empty() { DEFAULT_LEVELS } else { &wanted })
        .or_else(|_| Targets::from_str(DEFAULT_LEVELS))
        .unwrap_or_default()
        // At its finest level this library shows whole frames, and secrets of the configuration are among them.
        .with_target("tungstenite", LevelFilter::DEBUG);
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        // A log that cannot be written must not end the plugin.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    let _ = tracing_subscriber::registry().with(levels).with(lines).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic: {}", describe(panic.payload()));
    }));
}

/// The text of a panic.
pub(crate) fn describe(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}
