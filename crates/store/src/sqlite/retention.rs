//! Retention: what is too old, or too much, goes; oldest first, a bounded number of rows in each commit, counted.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::chain::{self, Due};
use super::{SqliteStore, WriteTx};
use crate::{HostStore, Part, Pruned, Retention, Seal, Seq, StoreError};

#[async_trait]
impl HostStore for SqliteStore {
    async fn prune(&self, retention: Retention) -> Result<Pruned, StoreError> {
        prune(self, retention).await
    }
}

/// Events (or audit records) that one commit drops, with up to a hundred deliveries each. It keeps the writer free for
/// publishes in between.
const ROWS_PER_COMMIT: i64 = 500;

/// Drops what `retention` no longer keeps, from the journal with its deliveries and from the audit trail.
pub(super) async fn prune(store: &SqliteStore, retention: Retention) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned::default();
    loop {
        let step = store.write("drop old events", move |tx| prune_journal(tx, &retention)).await?;
        if step.events == 0 {
            break;
        }
        pruned.events += step.events;
        pruned.unsettled += step.unsettled;
    }
    loop {
        let chain = store.chain.clone();
        let dropped = store
            .write("drop old audit records", move |tx| {
                prune_audit(tx, chain.seal().map(|seal| &**seal), &retention)
            })
            .await?;
        if dropped == 0 {
            break;
        }
        pruned.audit += dropped;
    }
    Ok(pruned)
}

fn prune_journal(tx: &WriteTx<'_>, retention: &Retention) -> Result<Pruned, StoreError> {
    let since = (retention.now - retention.journal_age).timestamp_micros();
    let bytes = i64::try_from(retention.journal_bytes).unwrap_or(i64::MAX);
    let Some(last) = last_to_go(tx, "journal", ["published_at", "json"], since, bytes)? else {
        return Ok(Pruned::default());
    };
    let settled = settled_up_to(tx)?;
    let unsettled: i64 = tx
        .prepare_cached("SELECT count(*) FROM journal WHERE seq <= ?1 AND seq > ?2")?
        .query_row((last, settled), |row| row.get(0))?;
    let events = tx.prepare_cached("DELETE FROM journal WHERE seq <= ?1")?.execute([last])?;
    // By plugin, because that is how deliveries are kept.
    tx.prepare_cached(
        "WITH RECURSIVE names(name) AS (
             SELECT min(plugin) FROM deliveries
             UNION ALL SELECT (SELECT min(plugin) FROM deliveries WHERE plugin > name) FROM names WHERE name IS NOT NULL
         ) DELETE FROM deliveries WHERE plugin IN (SELECT name FROM names WHERE name IS NOT NULL) AND seq <= ?1",
    )?
    .execute([last])?;
    Ok(Pruned { events: events as u64, unsettled: unsettled.unsigned_abs(), audit: 0 })
}

fn prune_audit(tx: &WriteTx<'_>, seal: Option<&dyn Seal>, retention: &Retention) -> Result<u64, StoreError> {
    let since = (retention.now - retention.audit_age).timestamp_micros();
    let bytes = i64::try_from(retention.audit_bytes).unwrap_or(i64::MAX);
    let Some(last) = last_to_go(tx, "audit", ["at", "detail"], since, bytes)? else { return Ok(0) };
    let is_due = |seq: Seq| {
        let sql = "SELECT at < ?1 OR total - octet_length(detail) < (SELECT total FROM audit ORDER BY seq DESC LIMIT 1) - ?2
                   FROM audit WHERE seq = ?3";
        let due = tx.prepare_cached(sql)?.query_row((since, bytes, seq), |row| row.get(0)).optional()?;
        Ok(due.unwrap_or(false))
    };
    chain::remove_oldest(tx, seal, Part::Records, Due { last, is_due: &is_due })
}

/// The last of the rows at the old end that are older than `since` or beyond `bytes`; `None` when nothing has to go.
fn last_to_go(
    conn: &Connection,
    table: &'static str,
    [at, text]: [&'static str; 2],
    since: i64,
    bytes: i64,
) -> Result<Option<i64>, StoreError> {
    let sql = format!(
        "SELECT max(seq)
         FROM (SELECT seq, {at} AS at, total - octet_length({text}) AS before FROM {table}
               ORDER BY seq LIMIT {ROWS_PER_COMMIT})
         WHERE at < ?1 OR before < (SELECT total FROM {table} ORDER BY seq DESC LIMIT 1) - ?2"
    );
    Ok(conn.prepare_cached(&sql)?.query_row((since, bytes), |row| row.get(0)).optional()?.flatten())
}

/// The place up to which every plugin that is let run has settled everything; without any plugin, the whole journal.
fn settled_up_to(conn: &Connection) -> Result<Seq, StoreError> {
    Ok(conn
        .prepare_cached(
            "SELECT coalesce(min(coalesce(c.seq, p.subscribed_from)), 9223372036854775807)
             FROM plugins p LEFT JOIN cursors c ON c.plugin = p.name WHERE p.enabled",
        )?
        .query_row([], |row| row.get(0))?)
}
