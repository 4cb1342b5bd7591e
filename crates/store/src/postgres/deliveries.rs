//! Deliveries and cursors of this node: what became of each event at each plugin.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::connection::{Conn, text};
use super::lane::{Batch, Waiting};
use super::pool::On;
use super::{PostgresStore, limit_of};
use crate::{DeliveryRecord, DeliveryState, DeliveryStore, Seq, StoreError};

#[async_trait]
impl DeliveryStore for PostgresStore {
    async fn cursor(&self, plugin: &str) -> Result<Option<Seq>, StoreError> {
        let sql = "SELECT seq FROM cursors WHERE node = $1 AND plugin = $2";
        let row = self.read("read a cursor").maybe(sql, &[&self.node(), &plugin]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    async fn record_deliveries(
        &self,
        plugin: &str,
        records: Vec<DeliveryRecord>,
        cursor: Option<Seq>,
    ) -> Result<(), StoreError> {
        let write = Record { plugin: plugin.to_owned(), records, cursor };
        self.deliveries.write(write).await.map_err(|error| error.during("record deliveries"))
    }

    async fn deliveries(
        &self,
        plugin: Option<&str>,
        state: Option<DeliveryState>,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        find(self.read("look up deliveries"), self.node(), plugin, state, after, limit).await
    }
}

/// What one call records.
pub(super) struct Record {
    plugin: String,
    records: Vec<DeliveryRecord>,
    cursor: Option<Seq>,
}

/// Records of deliveries, in groups. A record replaces the one before, and a cursor never goes back, so writing twice is
/// writing once.
pub(super) struct Deliveries {
    node: String,
}

impl Deliveries {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned() }
    }
}

impl Batch for Deliveries {
    type Item = Record;
    type Output = ();
    const REPEATABLE: bool = true;

    fn bytes(item: &Record) -> usize {
        item.records.iter().map(|record| 128 + record.outcome.as_ref().map_or(0, String::len)).sum()
    }

    async fn write(&self, conn: &Conn, items: &[Waiting<Self>]) -> Result<Vec<()>, StoreError> {
        // One statement may write a row once, so of several records of a delivery the last one counts.
        let mut last = HashMap::new();
        let mut cursors: HashMap<&str, Seq> = HashMap::new();
        for Record { plugin, records, cursor } in items.iter().map(|waiting| &waiting.item) {
            for record in records {
                last.insert((plugin.as_str(), record.seq), record);
            }
            if let Some(seq) = *cursor {
                let known = cursors.entry(plugin).or_insert(seq);
                *known = seq.max(*known);
            }
        }
        write(conn, &self.node, &last, &cursors).await?;
        Ok(vec![(); items.len()])
    }
}

async fn write(
    conn: &Conn,
    node: &str,
    records: &HashMap<(&str, Seq), &DeliveryRecord>,
    cursors: &HashMap<&str, Seq>,
) -> Result<(), StoreError> {
    // Rows are locked in one order, so that nobody who writes several can lock out another.
    let mut rows: Vec<_> = records.iter().collect();
    rows.sort_unstable_by_key(|(key, _)| **key);
    let plugins: Vec<&str> = rows.iter().map(|(key, _)| key.0).collect();
    let seqs: Vec<Seq> = rows.iter().map(|(key, _)| key.1).collect();
    let ids: Vec<&str> = rows.iter().map(|(_, record)| record.event_id.as_str()).collect();
    let states: Vec<i16> = rows.iter().map(|(_, record)| state_number(record.state)).collect();
    let attempts: Vec<i64> = rows.iter().map(|(_, record)| i64::from(record.attempts)).collect();
    let vias: Vec<&str> = rows.iter().map(|(_, record)| record.via.as_str()).collect();
    let outcomes: Vec<Option<String>> =
        rows.iter().map(|(_, record)| record.outcome.as_deref().map(text)).collect();
    let sent: Vec<Option<DateTime<Utc>>> = rows.iter().map(|(_, record)| record.sent_at).collect();
    let settled: Vec<Option<DateTime<Utc>>> = rows.iter().map(|(_, record)| record.settled_at).collect();
    let latencies: Vec<Option<i64>> = rows.iter().map(|(_, record)| record.latency_ms).collect();
    let cursor_plugins: Vec<&str> = cursors.keys().copied().collect();
    let cursor_seqs: Vec<Seq> = cursors.values().copied().collect();
    let sql = "WITH moved AS (
            INSERT INTO cursors (node, plugin, seq) SELECT $1, * FROM unnest($12::TEXT[], $13::BIGINT[])
            ON CONFLICT (node, plugin) DO UPDATE SET seq = greatest(cursors.seq, excluded.seq)
        )
        INSERT INTO deliveries
            (node, plugin, seq, event_id, state, attempts, via, outcome, sent_at, settled_at, latency_ms)
        SELECT $1, * FROM unnest($2::TEXT[], $3::BIGINT[], $4::TEXT[], $5::SMALLINT[], $6::BIGINT[], $7::TEXT[],
            $8::TEXT[], $9::TIMESTAMPTZ[], $10::TIMESTAMPTZ[], $11::BIGINT[])
        ON CONFLICT (node, plugin, seq) DO UPDATE SET event_id = excluded.event_id, state = excluded.state,
            attempts = excluded.attempts, via = excluded.via, outcome = excluded.outcome, sent_at = excluded.sent_at,
            settled_at = excluded.settled_at, latency_ms = excluded.latency_ms";
    conn.execute(
        sql,
        &[
            &node,
            &plugins,
            &seqs,
            &ids,
            &states,
            &attempts,
            &vias,
            &outcomes,
            &sent,
            &settled,
            &latencies,
            &cursor_plugins,
            &cursor_seqs,
        ],
    )
    .await?;
    Ok(())
}

/// Deliveries by event and then by plugin. For all plugins, all deliveries of the last event are there.
async fn find(
    on: On<'_>,
    node: &str,
    plugin: Option<&str>,
    state: Option<DeliveryState>,
    after: Seq,
    limit: usize,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    // `WITH TIES` adds what has the last event's place, which is one delivery where the plugin is given.
    let of_plugin = if plugin.is_some() { "plugin = $5" } else { "$5::TEXT IS NULL" };
    let narrowed = match state {
        // Said twice so that the index of unsettled deliveries is taken where it can be.
        Some(DeliveryState::Settled) => "state = $4 AND state = 1",
        Some(_) => "state = $4 AND state <> 1",
        None => "$4::SMALLINT IS NULL",
    };
    let sql = format!(
        "SELECT plugin, seq, event_id, state, attempts, via, outcome, sent_at, settled_at, latency_ms FROM deliveries
         WHERE node = $1 AND seq > $2 AND {of_plugin} AND {narrowed} ORDER BY seq FETCH FIRST $3 ROWS WITH TIES"
    );
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&node, &after, &limit_of(limit), &state.map(state_number), &plugin];
    let rows = on.query(&sql, &values).await?;
    let mut found = rows.iter().map(delivery).collect::<Result<Vec<_>, _>>()?;
    found.sort_by(|a, b| (a.seq, &a.plugin).cmp(&(b.seq, &b.plugin)));
    Ok(found)
}

fn delivery(row: &Row) -> Result<DeliveryRecord, StoreError> {
    Ok(DeliveryRecord {
        plugin: row.try_get(0)?,
        seq: row.try_get(1)?,
        event_id: row.try_get(2)?,
        state: state_of(row.try_get(3)?),
        attempts: u32::try_from(row.try_get::<_, i64>(4)?).unwrap_or(u32::MAX),
        via: row.try_get(5)?,
        outcome: row.try_get(6)?,
        sent_at: row.try_get(7)?,
        settled_at: row.try_get(8)?,
        latency_ms: row.try_get(9)?,
    })
}

fn state_number(state: DeliveryState) -> i16 {
    match state {
        DeliveryState::Sent => 0,
        DeliveryState::Settled => 1,
        DeliveryState::Retrying => 2,
        DeliveryState::Dead => 3,
    }
}

fn state_of(number: i16) -> DeliveryState {
    match number {
        0 => DeliveryState::Sent,
        1 => DeliveryState::Settled,
        2 => DeliveryState::Retrying,
        _ => DeliveryState::Dead,
    }
}
