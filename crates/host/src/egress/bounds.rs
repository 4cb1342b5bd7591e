//! How much one plugin may take of its way out.

use std::time::Duration;

/// Bounds of one plugin. Its own, so that no plugin takes anything from another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections to hosts outside, at a time.
    pub(crate) connections: usize,
    /// New connections in one minute. Each becomes a record of the audit trail, which would lose its oldest ones to a flood.
    pub(crate) a_minute: u32,
    /// How long a plugin has for its line, and then for its TLS hello.
    pub(crate) first_bytes: Duration,
    /// How long connecting may take, for all addresses of a name together.
    pub(crate) connect: Duration,
    /// How long a connection may be without a byte in either direction.
    pub(crate) idle: Duration,
    /// Longest time that a connection may be open.
    pub(crate) longest: Duration,
    /// Most bytes of one connection, both directions together.
    pub(crate) bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 32,
            a_minute: 600,
            first_bytes: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            longest: Duration::from_secs(24 * 60 * 60),
            bytes: 64 << 30,
        }
    }
}
