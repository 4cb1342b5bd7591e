//! One plugin: its state, its process, and what others may use of it while it runs.

pub mod link;
pub mod snapshot;

pub use link::Link;
pub use snapshot::{PluginSnapshot, PluginState};
