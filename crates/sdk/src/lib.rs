//! The Rust author's crate: implement [`ExternalPlugin`], name it in [`main!`](crate::main), and the result is a plugin.
//!
//! The crate does what the protocol asks of a plugin: the two handshake lines, an HTTP server on the unix
//! socket, the health route, the channel, events in order, the check of the auth secret, an orderly end. It knows
//! only the wire types of `temps-protocol`. It must never know the host's own code: a plugin built with it runs
//! under any host that speaks the protocol.
//!
//! ```no_run
//! use temps_plugin_sdk::prelude::*;
//!
//! struct Greeter;
//!
//! impl ExternalPlugin for Greeter {
//!     fn manifest(&self) -> PluginManifest {
//!         PluginManifest::builder("greeter", "1.0.0").event("deployment.*").build()
//!     }
//!
//!     fn router(&self, ctx: PluginContext) -> axum::Router {
//!         axum::Router::new().route("/greeting", get(|| async { "hello" })).with_state(ctx)
//!     }
//!
//!     fn on_event(&self, _ctx: &PluginContext, event: PluginEvent) {
//!         tracing::info!(event.event_type, "something happened");
//!     }
//! }
//!
//! temps_plugin_sdk::main!(Greeter);
//! ```
//!
//! # What a plugin may rely on
//!
//! - **Standard output** belongs to the handshake. From the first instruction of [`run_plugin`] on, whatever the
//!   plugin or a library prints there goes to standard error, where it is a log line and harms nothing.
//! - **Routes** of the plugin answer only callers that show the auth secret; see [`RouteAuth`].
//! - **Events** come one at a time and in order, on a thread of their own: a handler may block or ask the platform
//!   without keeping routes, health or answers waiting. A panic in a handler is logged and the plugin goes on.
//! - **The channel** may be lost and made again, or never come: the plugin goes on, and a question to the platform
//!   waits for a channel no longer than its time-out.
//! - **The configuration** that the manifest declares is there before [`ExternalPlugin::on_start`] runs:
//!   [`PluginContext::config`]. [`ExternalPlugin::on_config`] runs after each change.
//! - **The end** comes by SIGTERM, SIGINT, or the death of the host; [`ExternalPlugin::on_shutdown`] runs each time that
//!   [`ExternalPlugin::on_start`] had succeeded.

mod arguments;
mod auth;
mod channel;
mod config;
mod context;
mod events;
mod host_death;
mod kv;
mod life;
mod listener;
mod log;
mod platform;
mod plugin;
pub mod prelude;
mod problem;
mod routes;
mod run;
mod socket;
mod stdout;
#[cfg(feature = "testing")]
pub mod testing;
mod ui;

pub use auth::RouteAuth;
pub use config::ConfigError;
pub use context::{Logger, PluginContext};
pub use kv::{Entry, KvClient, KvError};
pub use platform::{PlatformClient, PlatformError};
pub use plugin::{BoxError, ExternalPlugin};
pub use run::run_plugin;
pub use temps_protocol as protocol;

/// Writes the `main` function of a plugin from an expression that makes the plugin.
///
/// `main!(SlackNotifier);` is `fn main() -> ExitCode { run_plugin(SlackNotifier) }`. Write that by hand where `main` has
/// something to do first.
#[macro_export]
macro_rules! main {
    ($plugin:expr $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::run_plugin($plugin)
        }
    };
}
