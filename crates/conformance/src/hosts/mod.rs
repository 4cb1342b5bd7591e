//! The kit the other way round: checks a host, with plugins that play a script.
//!
//! [`run`] writes scripted plugins into the plugins directory of a running host, makes it do what hosts do (publish, pass
//! requests on, stop, start), and gathers what the plugins saw. Each of them judges the host by itself and tells its
//! verdicts at its own route `GET /report`, so a host can be checked without [`run`] as well.
//!
//! A scripted plugin shares no code with a host or an SDK. It speaks HTTP and WebSocket by hand, so that it sees each
//! byte that a library would hide.

mod checks;
mod drive;
mod ledger;
pub mod plugin;
mod script;

pub use checks::{NOT_CHECKED, host_checks};
pub use drive::{Hook, Hooks, HostError, HostOptions, run};
pub use script::Script;
