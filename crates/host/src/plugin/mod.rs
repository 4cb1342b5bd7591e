//! One plugin: its state, its process, and what others may use of it while it runs.

pub mod handshake;
pub mod link;
pub mod logfile;
mod logline;
pub mod logs;
pub mod process;
pub mod restart;
pub mod snapshot;
pub mod socket;
pub mod state;

pub use link::{Ended, Link};
pub use snapshot::{CrashReport, PluginSnapshot, PluginState};
