//! What temps keeps on disk, behind two doors.
//!
//! [`HostStore`] is what the plugin host needs: the event journal, deliveries, grants, names, inspections, the audit
//! trail. [`PlatformStore`] is what the reference platform needs: projects, environments, deployments, tokens. Both
//! doors open on one database, so that a change of the platform and its event are one transaction. [`open()`] opens both:
//! a SQLite file, or with feature `postgres` a database on a PostgreSQL server, which several hosts may share. SQL lives
//! in this crate and nowhere else; the crate knows nothing of processes, sockets or HTTP.

mod address;
pub mod failpoint;
mod host;
mod open;
mod platform;
#[cfg(feature = "postgres")]
pub mod plugin_databases;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod sqlite;
#[cfg(feature = "postgres")]
mod tls;

pub use address::*;
pub use host::*;
pub use open::*;
pub use platform::*;

/// Why the store could not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the file system is full; nothing was written.
    #[error("the database's disk is full; free some space, the next write will go through by itself")]
    Full,
    /// The database was written by a later version of temps.
    #[error(
        "the database has schema {found}, this version of temps knows up to {known}; use the newer temps"
    )]
    TooNew {
        /// Schema version in the file.
        found: u32,
        /// Newest schema version that this build knows.
        known: u32,
    },
    /// The database's file is not what it was written as.
    #[error(
        "the database is damaged ({reason}); restore it from a backup, or move it and the files beside it away to begin with an empty one"
    )]
    Damaged {
        /// What the database said.
        reason: String,
    },
    /// The database refused.
    #[error("the database failed to {action}: {reason}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// What the database said.
        reason: String,
    },
    /// The address of the database cannot be used.
    #[error("the database's address cannot be used: {reason}")]
    BadAddress {
        /// What is wrong with it, without the address itself.
        reason: String,
    },
    /// The database's server cannot be reached; nothing was written.
    #[error(
        "the database cannot be reached ({reason}); it is tried again by itself: see that its server runs, takes \
         connections from here, and that the address is right"
    )]
    Unreachable {
        /// What went wrong last.
        reason: String,
    },
    /// The connection broke before the answer came.
    #[error(
        "the connection to the database broke ({reason}); whether this was written is not known, so do it again: an \
         event with the same id is published once"
    )]
    Lost {
        /// What went wrong.
        reason: String,
    },
    /// Another host works on the same database under this host's name.
    #[error("another host works on this database as node `{node}`; give each host a `node` name of its own")]
    NodeTaken {
        /// The name.
        node: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Says what was being done, where the database's own word for it is too general.
    pub(crate) fn during(self, what: &'static str) -> Self {
        match self {
            StoreError::Database { reason, .. } => StoreError::Database { action: what, reason },
            other => other,
        }
    }
}
