//! Retention: what is too old, or too much, goes; oldest first, a bounded number of rows in each commit, counted. The
//! journal is everybody's, and one host at a time prunes it; each node's audit trail and attempts are its own.

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::chain::{self, Due};
use crate::{HostStore, Part, Pruned, Retention, StoreError};

/// Events (or audit records) that one commit drops, with up to a hundred deliveries each. It bounds how long one
/// statement runs.
const ROWS_PER_COMMIT: i64 = 500;

/// Attempts that one commit drops. Nothing hangs on them.
const ATTEMPTS_PER_COMMIT: i64 = 5_000;

/// How many times its size the journal may have while it is made of events that some delivery still retries.
const STRETCH: i64 = 2;

#[async_trait]
impl HostStore for PostgresStore {
    async fn prune(&self, retention: Retention) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        self.prune_journal(&retention, &mut pruned).await?;
        let since = retention.now - retention.audit_age;
        let (attempts, bytes) = (bound(retention.attempts), bound(retention.audit_bytes));
        pruned.attempts = self.prune_trail("drop old attempts", ATTEMPTS, &[&since, &attempts]).await?;
        pruned.audit = self.prune_trail("drop old audit records", RECORDS, &[&since, &bytes]).await?;
        Ok(pruned)
    }
}

/// What goes of a part of the trail.
#[derive(Clone, Copy)]
struct Rule {
    part: Part,
    /// The last of the oldest rows that is due: given the node, how many rows to look at, and the bounds.
    last: &'static str,
    most: i64,
    /// Whether one row is due: given the node, its place, and the bounds.
    is_due: &'static str,
}

const RECORDS: Rule = Rule {
    part: Part::Records,
    last: "SELECT max(seq)
        FROM (SELECT seq, at, total - octet_length(detail) AS before FROM audit WHERE node = $1 ORDER BY seq LIMIT $2)
            AS oldest
        WHERE at < $3 OR before < (SELECT audit_total FROM trail_heads WHERE node = $1) - $4",
    most: ROWS_PER_COMMIT,
    is_due: "SELECT at < $3 OR total - octet_length(detail) < (SELECT audit_total FROM trail_heads WHERE node = $1) - $4
        FROM audit WHERE node = $1 AND seq = $2",
};

const ATTEMPTS: Rule = Rule {
    part: Part::Attempts,
    last: "SELECT max(id) FROM (SELECT id, ended_at FROM attempts WHERE node = $1 ORDER BY id LIMIT $2) AS oldest
        WHERE ended_at < $3 OR id <= (SELECT attempt_id FROM trail_heads WHERE node = $1) - $4",
    most: ATTEMPTS_PER_COMMIT,
    is_due: "SELECT ended_at < $3 OR id <= (SELECT attempt_id FROM trail_heads WHERE node = $1) - $4
        FROM attempts WHERE node = $1 AND id = $2",
};

impl PostgresStore {
    async fn prune_journal(&self, retention: &Retention, pruned: &mut Pruned) -> Result<(), StoreError> {
        let since = retention.now - retention.journal_age;
        let keep = bound(retention.journal_bytes);
        let keep_retried = keep.saturating_mul(STRETCH);
        let sql = "SELECT events, unsettled, next FROM journal_prune($1, $2, $3, $4, $5)";
        let mut place = Some(0_i64);
        while let Some(after) = place {
            let on = self.write("drop old events");
            let row = on.one(sql, &[&since, &keep, &keep_retried, &after, &ROWS_PER_COMMIT]).await?;
            pruned.events += row.try_get::<_, i64>(0)?.unsigned_abs();
            pruned.unsettled += row.try_get::<_, i64>(1)?.unsigned_abs();
            place = row.try_get(2)?;
        }
        Ok(())
    }

    async fn prune_trail(
        &self,
        action: &'static str,
        rule: Rule,
        bounds: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        let mut pruned = 0;
        loop {
            let dropped = self.prune_some(rule, bounds).await.map_err(|error| error.during(action))?;
            if dropped == 0 {
                return Ok(pruned);
            }
            pruned += dropped;
        }
    }

    /// Drops rows from the old end of a part of the trail, in one transaction.
    async fn prune_some(&self, rule: Rule, bounds: &[&(dyn ToSql + Sync)]) -> Result<u64, StoreError> {
        let _turn = self.chain.turn().await;
        let lease = self.pool.lease().await?;
        let (conn, node) = (lease.conn(), self.node());
        let step = async {
            conn.batch("BEGIN").await?;
            let mut values: Vec<&(dyn ToSql + Sync)> = vec![&node, &rule.most];
            values.extend(bounds);
            let dropped = match conn.one(rule.last, &values).await?.try_get(0)? {
                Some(last) => {
                    let due = Due { last, is_due: rule.is_due, values: bounds };
                    chain::remove_oldest(conn, node, self.chain.seal(), rule.part, due).await?
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

/// PostgreSQL's integers have a sign.
fn bound(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
