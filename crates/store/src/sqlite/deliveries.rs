//! Deliveries and cursors: what became of each event at each plugin.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row};

use super::journal::{limit_of, time};
use super::{SqliteStore, WriteTx};
use crate::{DeliveryRecord, DeliveryState, DeliveryStore, Seq, StoreError};

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn cursor(&self, plugin: &str) -> Result<Option<Seq>, StoreError> {
        let plugin = plugin.to_owned();
        self.read("read a cursor", move |conn| cursor(conn, &plugin)).await
    }

    async fn record_deliveries(
        &self,
        plugin: &str,
        records: Vec<DeliveryRecord>,
        cursor: Option<Seq>,
    ) -> Result<(), StoreError> {
        let plugin = plugin.to_owned();
        self.write("record deliveries", move |tx| record(tx, &plugin, &records, cursor)).await
    }

    async fn deliveries(
        &self,
        plugin: Option<&str>,
        state: Option<DeliveryState>,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        let plugin = plugin.map(str::to_owned);
        self.read("look up deliveries", move |conn| match plugin {
            Some(plugin) => of_plugin(conn, &plugin, state, after, limit),
            None => of_all(conn, state, after, limit),
        })
        .await
    }
}

const COLUMNS: &str = "SELECT plugin, seq, event_id, state, attempts, via, outcome, sent_at, settled_at, latency_ms FROM deliveries";

/// Where a plugin's cursor stands.
pub(super) fn cursor(conn: &Connection, plugin: &str) -> Result<Option<Seq>, StoreError> {
    let sql = "SELECT seq FROM cursors WHERE plugin = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([plugin], |row| row.get(0)).optional()?)
}

/// Writes deliveries and moves the cursor. A cursor never goes back.
pub(super) fn record(
    tx: &WriteTx<'_>,
    plugin: &str,
    records: &[DeliveryRecord],
    cursor: Option<Seq>,
) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT OR REPLACE INTO deliveries
             (plugin, seq, event_id, state, attempts, via, outcome, sent_at, settled_at, latency_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for record in records {
        statement.execute((
            plugin,
            record.seq,
            &record.event_id,
            state_number(record.state),
            record.attempts,
            &record.via,
            &record.outcome,
            record.sent_at.map(|at| at.timestamp_micros()),
            record.settled_at.map(|at| at.timestamp_micros()),
            record.latency_ms,
        ))?;
    }
    if let Some(seq) = cursor {
        let sql = "INSERT INTO cursors (plugin, seq) VALUES (?1, ?2)
                   ON CONFLICT (plugin) DO UPDATE SET seq = max(seq, excluded.seq)";
        tx.prepare_cached(sql)?.execute((plugin, seq))?;
    }
    Ok(())
}

/// Deliveries of one plugin, oldest first.
pub(super) fn of_plugin(
    conn: &Connection,
    plugin: &str,
    state: Option<DeliveryState>,
    after: Seq,
    limit: usize,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let narrowed = match state {
        // Said twice so that the index of unsettled deliveries is taken where it can be.
        Some(DeliveryState::Settled) => " AND state = ?4 AND state = 1",
        Some(_) => " AND state = ?4 AND state <> 1",
        None => " AND ?4 IS NULL",
    };
    let sql = format!("{COLUMNS} WHERE plugin = ?1 AND seq > ?2{narrowed} ORDER BY seq LIMIT ?3");
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map((plugin, after, limit_of(limit), state.map(state_number)), delivery)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deliveries of all plugins, by event and then by plugin. All deliveries of the last event are there, so that the
/// next page can begin after its place.
pub(super) fn of_all(
    conn: &Connection,
    state: Option<DeliveryState>,
    after: Seq,
    limit: usize,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let mut found = Vec::new();
    // A plugin can have deliveries before it has a cursor, when its very first event fails.
    let mut names = conn.prepare_cached(
        "WITH RECURSIVE names(name) AS (
             SELECT min(plugin) FROM deliveries
             UNION ALL SELECT (SELECT min(plugin) FROM deliveries WHERE plugin > name) FROM names WHERE name IS NOT NULL
         ) SELECT name FROM names WHERE name IS NOT NULL",
    )?;
    for name in names.query_map([], |row| row.get::<_, String>(0))? {
        found.extend(of_plugin(conn, &name?, state, after, limit)?);
    }
    found.sort_by(|a, b| (a.seq, &a.plugin).cmp(&(b.seq, &b.plugin)));
    if let Some(last) = limit.checked_sub(1).and_then(|index| found.get(index)).map(|record| record.seq) {
        found.truncate(found.partition_point(|record| record.seq <= last));
    }
    Ok(found)
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<DeliveryRecord> {
    Ok(DeliveryRecord {
        plugin: row.get(0)?,
        seq: row.get(1)?,
        event_id: row.get(2)?,
        state: state_of(row.get(3)?),
        attempts: row.get(4)?,
        via: row.get(5)?,
        outcome: row.get(6)?,
        sent_at: row.get::<_, Option<i64>>(7)?.map(time),
        settled_at: row.get::<_, Option<i64>>(8)?.map(time),
        latency_ms: row.get(9)?,
    })
}

fn state_number(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Sent => 0,
        DeliveryState::Settled => 1,
        DeliveryState::Retrying => 2,
        DeliveryState::Dead => 3,
    }
}

fn state_of(number: u8) -> DeliveryState {
    match number {
        0 => DeliveryState::Sent,
        1 => DeliveryState::Settled,
        2 => DeliveryState::Retrying,
        _ => DeliveryState::Dead,
    }
}
