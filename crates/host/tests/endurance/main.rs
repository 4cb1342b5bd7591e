//! Plugins and hosts that are killed again and again while requests and events flow.
//!
//! A process of its own, because it counts the descriptors, the memory and the processes of the whole process; its
//! tests run one after the other for the same reason.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "the helpers of a test may stop it, and it reports its counts"
)]

mod flow;
mod gauge;
mod killed_host;
mod killed_plugin;
#[expect(dead_code, reason = "the tests of the lifecycle use the rest of it")]
#[path = "../lifecycle/rig.rs"]
mod rig;

/// Held by the test that runs.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
