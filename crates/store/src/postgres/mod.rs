//! PostgreSQL: one database that several hosts may share, each under a name of its own.
//!
//! This file is the engine's face: opening, and the ways in that both doors use. What is written often goes through
//! lanes with group commit ([`lane`]), the platform's transactions one after another ([`changes`]), everything else over
//! a few connections ([`pool`]). One more connection holds the host's name and hears of every commit ([`standing`]).
//! Tables live in a schema of their own, `temps`, so that a database may have others beside it.

mod attempts;
mod audit;
mod chain;
mod changes;
mod config;
mod connection;
mod deliveries;
mod health;
mod journal;
mod key_value;
mod lane;
mod migrations;
mod narrowed;
mod offline;
mod pipeline;
mod platform;
mod plugins;
mod pool;
mod retention;
mod standing;
#[cfg(test)]
mod tests;
mod trail;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{PostgresUrl, Seq, Store, StoreError};
use chain::Chain;
use changes::Changes;
use connection::{Connector, REACH_TIMEOUT};
pub(crate) use health::check;
use journal::Publishes;
use lane::Lane;
pub use offline::ChainReader;
use pool::{On, Pool};
use standing::Standing;
use trail::Trail;

/// Connections that one host holds at most: one that listens, one for each lane, one for the platform's transactions, and
/// the pool. A server's own default is 100 for all who use it.
pub const MAX_CONNECTIONS: usize = 1 + 2 + 1 + pool::CONNECTIONS;

/// Longest name of a node, in bytes.
pub const MAX_NODE_LEN: usize = 63;

/// A store on a PostgreSQL server. Both doors open on it.
///
/// It works on the tokio runtime that it was opened on.
pub struct PostgresStore {
    standing: Standing,
    head: watch::Receiver<Seq>,
    publishes: Lane<Publishes>,
    trail: Lane<Trail>,
    chain: Chain,
    changes: Changes,
    pool: Pool,
    stop: watch::Sender<bool>,
    follower: Mutex<Option<JoinHandle<()>>>,
}

impl PostgresStore {
    /// Connects, takes the name `node`, and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError::BadAddress`] for a URL that cannot be used, [`StoreError::Unreachable`] when there is no server,
    /// [`StoreError::NodeTaken`] when another host works under this name, [`StoreError::TooNew`] when a later version of
    /// temps wrote the database, [`StoreError::Database`] for everything that the server refuses.
    pub async fn open(url: &PostgresUrl, node: &str) -> Result<Arc<Self>, StoreError> {
        if !is_node(node) {
            return Err(StoreError::BadAddress {
                reason: format!(
                    "the node's name must have 1 to {MAX_NODE_LEN} letters, digits, dots, dashes or underscores"
                ),
            });
        }
        let (announce, head) = watch::channel(0);
        let connector = Connector::new(url, node, announce.clone())?;
        let standing = Standing::new(node);
        let conn = connector.connect(Instant::now() + REACH_TIMEOUT).await?;
        migrations::migrate(&conn).await?;
        let listening = standing::listen(conn, &standing, &announce).await?;
        let chain = Chain::default();
        let (stop, stopped) = watch::channel(false);
        let follower =
            standing::follow(listening, connector.clone(), standing.clone(), announce.clone(), stopped);
        let follower = Mutex::new(Some(tokio::spawn(follower)));
        Ok(Arc::new(Self {
            publishes: Lane::start(
                Publishes::new(node, announce.clone()),
                connector.clone(),
                standing.clone(),
            ),
            trail: Lane::start(Trail::new(node, chain.clone()), connector.clone(), standing.clone()),
            chain,
            changes: Changes::start(connector.clone(), standing.clone(), announce),
            pool: Pool::new(connector, standing.clone()),
            standing,
            head,
            stop,
            follower,
        }))
    }

    /// This host's name, which its rows carry.
    #[must_use]
    pub fn node(&self) -> &str {
        self.standing.node()
    }

    /// Where a statement runs that only reads.
    fn read(&self, action: &'static str) -> On<'_> {
        On::Pool { pool: &self.pool, reads: true, action }
    }

    /// Where a statement runs that writes.
    fn write(&self, action: &'static str) -> On<'_> {
        On::Pool { pool: &self.pool, reads: false, action }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn close(&self) {
        tokio::join!(self.publishes.close(), self.trail.close(), self.changes.close());
        self.pool.close();
        // Last, so that the name is held for as long as anything is written under it.
        self.stop.send_replace(true);
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower {
            let _ = follower.await;
        }
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("standing", &self.standing).finish_non_exhaustive()
    }
}

/// Whether `name` can be a node's.
#[must_use]
pub fn is_node(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NODE_LEN
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// JSON that this crate wrote.
fn json_of(text: &str) -> Result<Value, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Database {
        action: "read JSON that it holds",
        reason: format!("the text is damaged: {e}"),
    })
}

/// PostgreSQL counts rows in 64 bits with a sign.
fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
