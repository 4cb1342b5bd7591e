//! One plugin: its state, its process, and what others may use of it while it runs.

pub(crate) mod accept;
pub(crate) mod actor;
pub mod handshake;
pub mod health;
pub mod link;
pub mod logfile;
mod logline;
pub mod logs;
pub mod process;
pub mod restart;
pub mod snapshot;
pub mod socket;
mod start;
pub mod state;

pub use link::{Ended, Link};
pub use snapshot::{CrashReport, PluginSnapshot, PluginState};
