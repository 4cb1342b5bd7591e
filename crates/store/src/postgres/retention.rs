//! Retention: what is too old, or too much, goes; oldest first, a bounded number of rows in each commit, counted. The
//! journal is everybody's, and one host at a time prunes it; each node's audit trail is its own.

use async_trait::async_trait;

use super::PostgresStore;
use super::chain::{self, Due};
use crate::{HostStore, Part, Pruned, Retention, StoreError};

/// Events (or audit records) that one commit drops, with up to a hundred deliveries each. It bounds how long one
/// statement runs.
const ROWS_PER_COMMIT: i64 = 500;

#[async_trait]
impl HostStore for PostgresStore {
    async fn prune(&self, retention: Retention) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (since, keep) = (retention.now - retention.journal_age, bytes(retention.journal_bytes));
        loop {
            let sql = "SELECT events, unsettled FROM journal_prune($1, $2, $3)";
            let row = self.write("drop old events").one(sql, &[&since, &keep, &ROWS_PER_COMMIT]).await?;
            let (events, unsettled): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            if events == 0 {
                break;
            }
            pruned.events += events.unsigned_abs();
            pruned.unsettled += unsettled.unsigned_abs();
        }
        loop {
            let dropped = self.prune_audit(&retention).await;
            let dropped = dropped.map_err(|error| error.during("drop old audit records"))?;
            if dropped == 0 {
                break;
            }
            pruned.audit += dropped;
        }
        Ok(pruned)
    }
}

impl PostgresStore {
    /// Drops audit records from the old end of the trail, in one transaction.
    async fn prune_audit(&self, retention: &Retention) -> Result<u64, StoreError> {
        let since = retention.now - retention.audit_age;
        let keep = i64::try_from(retention.audit_bytes).unwrap_or(i64::MAX);
        let _turn = self.chain.turn().await;
        let lease = self.pool.lease().await?;
        let (conn, node) = (lease.conn(), self.node());
        let step = async {
            conn.batch("BEGIN").await?;
            let sql = "SELECT max(seq)
                FROM (SELECT seq, at, total - octet_length(detail) AS before FROM audit
                      WHERE node = $1 ORDER BY seq LIMIT $4) AS oldest
                WHERE at < $2 OR before < (SELECT audit_total FROM trail_heads WHERE node = $1) - $3";
            let last = conn.one(sql, &[&node, &since, &keep, &ROWS_PER_COMMIT]).await?.try_get(0)?;
            let dropped = match last {
                Some(last) => {
                    let is_due = "SELECT at < $3 OR total - octet_length(detail)
                            < (SELECT audit_total FROM trail_heads WHERE node = $1) - $4
                        FROM audit WHERE node = $1 AND seq = $2";
                    let due = Due { last, is_due, values: &[&since, &keep] };
                    chain::remove_oldest(conn, node, self.chain.seal(), Part::Records, due).await?
                }
                None => 0,
            };
            conn.batch("COMMIT").await?;
            Ok(dropped)
        };
        let dropped = step.await;
        lease.end_transaction(&dropped);
        dropped
    }
}
