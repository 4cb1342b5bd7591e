//! Opening both doors of a database by its address, whichever engine is behind it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::sqlite::SqliteStore;
use crate::{DatabaseAddress, HostStore, PlatformStore, StoreError};

/// Both doors of one database.
#[async_trait]
pub trait Store: HostStore + PlatformStore {
    /// Finishes the writes that are queued and closes the database. What comes later fails with [`StoreError::Closed`].
    ///
    /// Nothing is lost without it: each write that was confirmed is durable. It exists so that a program can end in order.
    async fn close(&self);
}

#[async_trait]
impl Store for SqliteStore {
    async fn close(&self) {
        SqliteStore::close(self).await;
    }
}

/// Opens the database at `address`, and brings its schema up to date. `node` is this host's name on a database that
/// several hosts share; a SQLite file belongs to one host and needs none.
///
/// # Errors
/// What the engine says: see [`SqliteStore::open`] and `PostgresStore::open`. [`StoreError::BadAddress`] when this build
/// has no engine for the address.
pub async fn open(address: &DatabaseAddress, node: &str) -> Result<Arc<dyn Store>, StoreError> {
    match address {
        DatabaseAddress::Sqlite(path) => Ok(SqliteStore::open(path)?),
        #[cfg(feature = "postgres")]
        DatabaseAddress::Postgres(url) => Ok(crate::postgres::PostgresStore::open(url, node).await?),
        #[cfg(not(feature = "postgres"))]
        DatabaseAddress::Postgres(_) => {
            let _ = node;
            Err(without_postgres())
        }
    }
}

/// What an operator wants to know of a database before trusting it with events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The engine with its version.
    pub engine: String,
    /// Whether the connection is encrypted; `None` where there is none.
    pub encrypted: Option<bool>,
    /// For each door its schema's version in the database (0 before the first start) and in this program.
    pub schema: Vec<(&'static str, u32, u32)>,
    /// What an operator should change, each with why.
    pub warnings: Vec<String>,
}

/// Looks at a database, and changes nothing: a server is asked, a file is not opened beside the daemon that works on it.
///
/// # Errors
/// What the engine says.
pub async fn check(address: &DatabaseAddress) -> Result<Health, StoreError> {
    match address {
        DatabaseAddress::Sqlite(_) => {
            Ok(Health { engine: "SQLite".into(), encrypted: None, schema: Vec::new(), warnings: Vec::new() })
        }
        #[cfg(feature = "postgres")]
        DatabaseAddress::Postgres(url) => crate::postgres::check(url).await,
        #[cfg(not(feature = "postgres"))]
        DatabaseAddress::Postgres(_) => Err(without_postgres()),
    }
}

/// Why an address of a server cannot be used by this build.
#[cfg(not(feature = "postgres"))]
#[must_use]
pub fn without_postgres() -> StoreError {
    StoreError::BadAddress {
        reason: "this temps was built without PostgreSQL; build it with feature `postgres`".into(),
    }
}
