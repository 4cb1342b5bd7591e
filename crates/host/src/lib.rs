//! The plugin host as a library.
//!
//! A platform implements [`Platform`], builds a [`PluginHost`], mounts [`PluginHost::router`] and publishes events. The host
//! does the rest: it discovers executables, inspects them, starts and supervises them, talks with them, delivers events
//! and forwards requests. It prints nothing, has no REST of its own, and never works on a plugin's word alone.

pub mod artifacts;
pub mod audit;
pub mod channel;
pub mod config;
pub mod configuration;
pub mod database;
pub mod discovery;
pub mod egress;
pub mod events;
pub mod grants;
pub mod host;
mod inspect;
mod intake;
pub mod metrics;
pub mod operate;
pub mod places;
pub mod platform;
pub mod plugin;
pub mod proxy;
pub mod registry;
pub mod sandbox;
pub mod secrets;
pub mod shutdown;
pub mod storage;
pub mod tap;
pub mod usage;
pub mod versions;
pub mod wire_ids;

pub use config::HostConfig;
pub use host::{PluginHost, PluginHostBuilder};
pub use platform::{Caller, Platform, PlatformError, Role};
pub use plugin::{PluginSnapshot, PluginState};
pub use temps_protocol as protocol;
pub use temps_store as store;
pub use versions::ApiVersions;
pub use wire_ids::{EntityKind, WireIds};

/// Becomes the launcher when this process was started as one, and never returns then. Otherwise it does nothing.
///
/// Call it first in `main`, before threads or a runtime exist: the host starts the program's own executable again to
/// launch plugins. `PluginHost` refuses to start when the executable does not answer as a launcher.
pub fn launcher() {
    temps_sandbox::launcher();
}
