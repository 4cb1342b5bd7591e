//! Retention: what is too old, or too much, goes; oldest first, a bounded number of rows in each commit, counted. The
//! journal is everybody's, and one host at a time prunes it; each node's audit trail is its own.

use async_trait::async_trait;

use super::PostgresStore;
use super::connection::Params;
use crate::{HostStore, Pruned, Retention, StoreError};

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
        let (since, keep) = (retention.now - retention.audit_age, bytes(retention.audit_bytes));
        loop {
            let sql = "SELECT audit_prune($1, $2, $3, $4)";
            let values: Params<'_> = &[&self.node(), &since, &keep, &ROWS_PER_COMMIT];
            let dropped: i64 = self.write("drop old audit records").one(sql, values).await?.try_get(0)?;
            if dropped == 0 {
                break;
            }
            pruned.audit += dropped.unsigned_abs();
        }
        Ok(pruned)
    }
}
