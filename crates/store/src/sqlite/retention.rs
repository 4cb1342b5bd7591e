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

/// Attempts that one commit drops. Nothing hangs on them.
const ATTEMPTS_PER_COMMIT: i64 = 5_000;

/// How many times its size the journal may have while it is made of events that some delivery still retries.
const STRETCH: i64 = 2;

/// Drops what `retention` no longer keeps: from the journal with its open deliveries, from the attempts, and from the audit
/// trail.
pub(super) async fn prune(store: &SqliteStore, retention: Retention) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned::default();
    let mut place = Some(0);
    while let Some(after) = place {
        let step = store.write("drop old events", move |tx| prune_journal(tx, &retention, after)).await?;
        pruned.events += step.events;
        pruned.unsettled += step.unsettled;
        place = step.next;
    }
    loop {
        let chain = store.chain.clone();
        let dropped = store
            .write("drop old attempts", move |tx| {
                prune_attempts(tx, chain.seal().map(|seal| &**seal), &retention)
            })
            .await?;
        if dropped == 0 {
            break;
        }
        pruned.attempts += dropped;
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

/// What one commit dropped of the journal, and the place after which the next one looks, if there may be more.
struct Step {
    events: u64,
    unsettled: u64,
    next: Option<Seq>,
}

/// Looks at the oldest events after `after`. Those that a delivery still retries stay when the journal is too large, until
/// it is much too large or they are too old.
fn prune_journal(tx: &WriteTx<'_>, retention: &Retention, after: Seq) -> Result<Step, StoreError> {
    let since = (retention.now - retention.journal_age).timestamp_micros();
    let bytes = i64::try_from(retention.journal_bytes).unwrap_or(i64::MAX);
    let settled = settled_up_to(tx)?;
    let mut step = Step { events: 0, unsettled: 0, next: None };
    let mut looking = tx.prepare_cached(
        "SELECT seq, published_at < ?2, total - octet_length(json) < last - ?3, total - octet_length(json) < last - ?4,
                EXISTS (SELECT 1 FROM deliveries d WHERE d.seq = journal.seq AND d.state IN (2, 4))
         FROM journal, (SELECT total AS last FROM journal ORDER BY seq DESC LIMIT 1)
         WHERE seq > ?1 ORDER BY seq LIMIT ?5",
    )?;
    let mut rows = looking.query((after, since, bytes, bytes.saturating_mul(STRETCH), ROWS_PER_COMMIT))?;
    let mut gone: Vec<Seq> = Vec::new();
    while let Some(row) = rows.next()? {
        let seq: Seq = row.get(0)?;
        let (old, beyond, far_beyond, retried): (bool, bool, bool, bool) =
            (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        step.next = (old || beyond).then_some(seq);
        if step.next.is_none() {
            break;
        }
        if old || far_beyond || !retried {
            gone.push(seq);
            step.unsettled += u64::from(seq > settled || retried);
        }
    }
    for seq in &gone {
        tx.prepare_cached("DELETE FROM journal WHERE seq = ?1")?.execute([seq])?;
        tx.prepare_cached("DELETE FROM deliveries WHERE seq = ?1")?.execute([seq])?;
    }
    step.events = gone.len() as u64;
    // What was recorded of an event after it had gone.
    tx.prepare_cached("DELETE FROM deliveries WHERE seq < (SELECT min(seq) FROM journal)")?.execute([])?;
    Ok(step)
}

/// Drops attempts from their old end.
fn prune_attempts(
    tx: &WriteTx<'_>,
    seal: Option<&dyn Seal>,
    retention: &Retention,
) -> Result<u64, StoreError> {
    let since = (retention.now - retention.audit_age).timestamp_micros();
    let kept = i64::try_from(retention.attempts).unwrap_or(i64::MAX);
    let last: Option<i64> = tx
        .prepare_cached(
            "SELECT max(id) FROM (SELECT id, ended_at FROM attempts ORDER BY id LIMIT ?3)
             WHERE ended_at < ?1 OR id <= (SELECT max(id) FROM attempts) - ?2",
        )?
        .query_row((since, kept, ATTEMPTS_PER_COMMIT), |row| row.get(0))?;
    let Some(last) = last else { return Ok(0) };
    let is_due = |id: Seq| {
        let sql =
            "SELECT ended_at < ?1 OR id <= (SELECT max(id) FROM attempts) - ?2 FROM attempts WHERE id = ?3";
        let due = tx.prepare_cached(sql)?.query_row((since, kept, id), |row| row.get(0)).optional()?;
        Ok(due.unwrap_or(false))
    };
    chain::remove_oldest(tx, seal, Part::Attempts, Due { last, is_due: &is_due })
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
