//! What the daemon says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which daemon this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Version of temps.
    pub version: String,
    /// Newest version of the plugin protocol that it speaks.
    pub protocol: String,
}

/// The process runs and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
}

/// Whether the daemon can do its work now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// `ready`, or `not_ready` with status 503.
    pub status: String,
    /// Whether the database answered a read just now.
    pub database: bool,
    /// Whether the daemon still takes work, that is, it is not being stopped.
    pub accepting: bool,
    /// Whether every task of the plugin host still works; `false` after a bug ended one, until the daemon is restarted.
    pub host: bool,
}
