//! One test for each sin of the unruly plugin, under a real host: what the host does, what it shows, and that an honest
//! plugin beside it did not notice.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

mod channel;
mod events;
mod handshake;
mod health;
mod noise;
mod process;
mod python;
#[expect(dead_code, reason = "the tests of the lifecycle use the rest of it")]
#[path = "../lifecycle/rig.rs"]
mod rig;
mod scene;
mod versions;
