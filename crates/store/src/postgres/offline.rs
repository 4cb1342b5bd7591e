//! A node's audit chain, read beside its host or after it: the node's name is not taken, and nothing is written.

use tokio::sync::watch;
use tokio::time::Instant;

use super::chain;
use super::connection::{Conn, Connector};
use crate::{ChainPage, PostgresUrl, Seal, StoreError};

/// Reads the chain of one node.
pub struct ChainReader {
    conn: Conn,
    node: String,
}

impl ChainReader {
    /// Connects once.
    ///
    /// # Errors
    /// [`StoreError`] when the server cannot be reached or refuses.
    pub async fn open(url: &PostgresUrl, node: &str) -> Result<Self, StoreError> {
        let (head, _) = watch::channel(0);
        let conn = Connector::new(url, "audit verify", head)?.connect(Instant::now()).await?;
        Ok(Self { conn, node: node.to_owned() })
    }

    /// As [`AuditStore::audit_chain`](crate::AuditStore::audit_chain).
    ///
    /// # Errors
    /// What the server says.
    pub async fn page(&self, seal: &dyn Seal, after: i64, limit: usize) -> Result<ChainPage, StoreError> {
        chain::snapshot(&self.conn, &self.node, seal, after, limit).await
    }
}

impl std::fmt::Debug for ChainReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainReader").field("node", &self.node).finish_non_exhaustive()
    }
}
