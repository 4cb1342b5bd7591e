//! What tests of the workspace share: an unruly plugin with a switch for every sin, and the specification's vectors.
//!
//! Nothing here is shipped, and nothing here knows the host or an SDK: a plugin that a test starts speaks the
//! protocol by hand, so that a mistake in an SDK cannot hide a mistake in the host.

pub mod authority;
pub mod behaviour;
pub mod binaries;
pub mod daemon;
pub mod faults;
pub mod played_host;
pub mod postgres;
pub mod skip;
pub mod slack;
pub mod uml;
pub mod unruly;
pub mod vectors;

pub use behaviour::{Behaviour, Sin, Step};
pub use played_host::PlayedHost;
pub use postgres::Postgres;
pub use skip::skip;
pub use uml::Uml;
