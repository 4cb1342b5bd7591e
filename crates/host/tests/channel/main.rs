//! What the host promises about a plugin's channel, over real unix sockets, against plugins that the tests play.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the helpers of tests panic like the tests themselves"
)]

mod events;
mod misbehaviour;
mod opening;
mod requests;
mod rig;
