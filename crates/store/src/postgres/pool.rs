//! The connections for reads and for small writes that stand alone: a few, handed out one statement at a time.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_postgres::Row;

use super::connection::{Conn, Connector, Params, REACH_TIMEOUT};
use super::standing::Standing;
use crate::StoreError;

/// Connections for reads and small writes. A few keep one long look into the audit trail from holding up deliveries; more
/// would take places at the server that other hosts need.
pub(super) const CONNECTIONS: usize = 4;

/// Hands out connections, and opens those that are missing.
pub(super) struct Pool {
    connector: Connector,
    standing: Standing,
    places: Semaphore,
    idle: Mutex<Vec<Conn>>,
}

/// Where a statement runs: on a connection inside a transaction, or on any connection of the pool by itself.
#[derive(Clone, Copy)]
pub(super) enum On<'a> {
    /// This connection.
    Conn(&'a Conn),
    /// Any connection. A statement that only reads is run once more when its connection breaks, because reading twice
    /// harms nobody. Of one that writes it is not known then whether it was carried out, and the caller is told so.
    Pool {
        /// The connections.
        pool: &'a Pool,
        /// Whether the statement only reads.
        reads: bool,
        /// What is being done, for errors.
        action: &'static str,
    },
}

/// A connection that is in use.
pub(super) struct Lease<'a> {
    conn: Conn,
    pool: &'a Pool,
    _place: SemaphorePermit<'a>,
}

impl On<'_> {
    /// Runs a statement and returns its rows.
    pub(super) async fn query(self, sql: &str, values: Params<'_>) -> Result<Vec<Row>, StoreError> {
        let (pool, reads, action) = match self {
            On::Conn(conn) => return conn.query(sql, values).await,
            On::Pool { pool, reads, action } => (pool, reads, action),
        };
        let outcome = match pool.query(sql, values).await {
            Err(StoreError::Lost { .. }) if reads => pool.query(sql, values).await,
            done => done,
        };
        outcome.map_err(|error| error.during(action))
    }

    /// Runs a statement that returns at most one row.
    pub(super) async fn maybe(self, sql: &str, values: Params<'_>) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, values).await?.into_iter().next())
    }

    /// Runs a statement that returns one row.
    pub(super) async fn one(self, sql: &str, values: Params<'_>) -> Result<Row, StoreError> {
        let none = || StoreError::Database { action: "run a statement", reason: "it returned no row".into() };
        self.maybe(sql, values).await?.ok_or_else(none)
    }

    /// Runs a statement and returns how many rows it concerned.
    pub(super) async fn execute(self, sql: &str, values: Params<'_>) -> Result<u64, StoreError> {
        match self {
            On::Conn(conn) => conn.execute(sql, values).await,
            On::Pool { pool, action, .. } => {
                let lease = pool.lease().await?;
                let outcome = lease.conn.execute(sql, values).await;
                lease.end(&outcome);
                outcome.map_err(|error| error.during(action))
            }
        }
    }
}

impl Pool {
    pub(super) fn new(connector: Connector, standing: Standing) -> Self {
        Self { connector, standing, places: Semaphore::new(CONNECTIONS), idle: Mutex::default() }
    }

    /// Takes no further work; idle connections end, and the others with the work that is on them.
    pub(super) fn close(&self) {
        self.places.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn query(&self, sql: &str, values: Params<'_>) -> Result<Vec<Row>, StoreError> {
        let lease = self.lease().await?;
        let outcome = lease.conn.query(sql, values).await;
        lease.end(&outcome);
        outcome
    }

    /// A connection for several statements. Whoever takes one ends it with [`Lease::end`] or [`Lease::end_transaction`].
    pub(super) async fn lease(&self) -> Result<Lease<'_>, StoreError> {
        let place = self.places.acquire().await.map_err(|_| StoreError::Closed)?;
        self.standing.check()?;
        let conn = match self.take() {
            Some(conn) => conn,
            None => self.connector.connect(Instant::now() + REACH_TIMEOUT).await?,
        };
        Ok(Lease { conn, pool: self, _place: place })
    }

    /// An idle connection that has not ended.
    fn take(&self) -> Option<Conn> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|conn| !conn.is_closed())
    }
}

impl Lease<'_> {
    /// The connection.
    pub(super) fn conn(&self) -> &Conn {
        &self.conn
    }

    /// Gives the connection back after a transaction that ended well. After any other it ends, and the transaction with it.
    pub(super) fn end_transaction<T>(self, outcome: &Result<T, StoreError>) {
        if outcome.is_ok() {
            self.end(outcome);
        }
    }

    /// Gives the connection back if it still works. One whose caller went away in the middle is not given back: it ends
    /// when its statement has.
    pub(super) fn end<T>(self, outcome: &Result<T, StoreError>) {
        if !self.conn.is_closed()
            && !matches!(outcome, Err(StoreError::Lost { .. }))
            && !self.pool.places.is_closed()
        {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.conn);
        }
    }
}
