//! For tests of plugins: a small host, without the real one.
//!
//! [`TestHost`] drives a plugin inside the test: its routes, events, questions and end, over pipes in memory, with
//! nothing on disk but a data directory that goes with it. [`PluginProcess`] does the same with a built executable,
//! over a real unix socket, as a host would start it. Both answer the plugin's questions from a script
//! ([`TestPlatform`]). They know the protocol and this crate, never the real host.
//!
//! Enable the feature `testing` in `[dev-dependencies]`:
//!
//! ```toml
//! [dev-dependencies]
//! temps-plugin-sdk = { version = "0.1", features = ["testing"] }
//! ```
//!
//! ```
//! use temps_plugin_sdk::prelude::*;
//! use temps_plugin_sdk::testing::TestHost;
//!
//! struct Notifier;
//!
//! impl ExternalPlugin for Notifier {
//!     fn manifest(&self) -> PluginManifest {
//!         PluginManifest::builder("notifier", "1.0.0").event("deployment.*").build()
//!     }
//!
//!     fn router(&self, ctx: PluginContext) -> axum::Router {
//!         axum::Router::new().route("/name", get(name)).with_state(ctx)
//!     }
//!
//!     async fn handle_event(&self, ctx: &PluginContext, event: PluginEvent) -> Result<(), BoxError> {
//!         let project = ctx.platform().get_project(event.project_id.ok_or("no project")?).await?;
//!         tracing::info!(project.name, "deployed");
//!         Ok(())
//!     }
//! }
//!
//! async fn name(State(ctx): State<PluginContext>) -> String {
//!     ctx.plugin_name().to_owned()
//! }
//!
//! # fn main() -> Result<(), BoxError> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let host = TestHost::start(Notifier).await?;
//! assert_eq!(host.http().get("/name").await?.text(), "notifier");
//!
//! // The platform knows no project yet, so the handler fails ...
//! let event = TestHost::event("deployment.succeeded").project(42);
//! assert!(host.deliver(event.clone()).await.is_err());
//!
//! // ... and now it knows one.
//! host.platform().knows_project(42, "my-app");
//! host.deliver(event).await?;
//! assert_eq!(host.platform().asked().len(), 2);
//!
//! host.shutdown().await;
//! # Ok(())
//! # })
//! # }
//! ```

mod channel;
mod client;
mod host;
mod memory;
mod platform;
mod process;
mod storage;

pub use client::{Streaming, TestClient, TestResponse};
pub use host::{TestEvent, TestHost, TestHostBuilder};
pub use platform::TestPlatform;
pub use process::{PluginProcess, PluginProcessBuilder};

/// Why a test could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The plugin did not start; the text says why.
    #[error("the plugin did not start: {0}")]
    Start(String),
    /// The plugin could not be reached, or what it sent is not of the protocol.
    #[error("the plugin could not be talked to: {0}")]
    Wire(String),
    /// The plugin did not handle an event; the text is the handler's error.
    #[error("the event was not handled: {0}")]
    Event(String),
    /// Something took longer than a test waits.
    #[error("{0} took longer than 30 s")]
    Timeout(&'static str),
}

/// How long a test waits for anything that a plugin is to do. Generous, because machines that test are busy.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
