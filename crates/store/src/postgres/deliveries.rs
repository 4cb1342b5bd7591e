//! Deliveries and cursors of this node: what became of each event at each plugin.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::connection::text;
use super::pipeline::Pipeline;
use super::pool::On;
use super::trail::Entry;
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
        self.trail.write(Entry::Deliveries(write)).await.map_err(|error| error.during("record deliveries"))
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

impl Record {
    /// About how many bytes go to the server.
    pub(super) fn bytes(&self) -> usize {
        self.records.iter().map(|record| 128 + record.outcome.as_ref().map_or(0, String::len)).sum()
    }
}

/// Adds the statements that write what callers record. Writing it twice is writing it once.
pub(super) fn write<'a>(pipeline: &mut Pipeline, node: &str, news: impl Iterator<Item = &'a Record>) {
    // One statement may write a row once, so of several records of a delivery the last one counts.
    let mut last = BTreeMap::new();
    let mut cursors: BTreeMap<&str, Seq> = BTreeMap::new();
    for Record { plugin, records, cursor } in news {
        last.extend(records.iter().map(|record| ((plugin.as_str(), record.seq), record)));
        if let Some(seq) = *cursor {
            let known = cursors.entry(plugin).or_insert(seq);
            *known = seq.max(*known);
        }
    }
    if !last.is_empty() {
        write_records(pipeline, node, &last);
    }
    if !cursors.is_empty() {
        let (plugins, seqs): (Vec<String>, Vec<Seq>) =
            cursors.into_iter().map(|(plugin, seq)| (plugin.to_owned(), seq)).unzip();
        pipeline.add(
            "INSERT INTO cursors (node, plugin, seq) SELECT $1, * FROM unnest($2::TEXT[], $3::BIGINT[])
             ON CONFLICT (node, plugin) DO UPDATE SET seq = greatest(cursors.seq, excluded.seq)",
            vec![Box::new(node.to_owned()), Box::new(plugins), Box::new(seqs)],
        );
    }
}

fn write_records(pipeline: &mut Pipeline, node: &str, records: &BTreeMap<(&str, Seq), &DeliveryRecord>) {
    let rows = || records.iter().map(|((plugin, _), record)| (*plugin, *record));
    let plugins: Vec<String> = rows().map(|(plugin, _)| plugin.to_owned()).collect();
    let seqs: Vec<Seq> = rows().map(|(_, record)| record.seq).collect();
    let ids: Vec<String> = rows().map(|(_, record)| text(&record.event_id)).collect();
    let states: Vec<i16> = rows().map(|(_, record)| state_number(record.state)).collect();
    let attempts: Vec<i64> = rows().map(|(_, record)| i64::from(record.attempts)).collect();
    let vias: Vec<String> = rows().map(|(_, record)| text(&record.via)).collect();
    let outcomes: Vec<Option<String>> =
        rows().map(|(_, record)| record.outcome.as_deref().map(text)).collect();
    let sent: Vec<Option<DateTime<Utc>>> = rows().map(|(_, record)| record.sent_at).collect();
    let settled: Vec<Option<DateTime<Utc>>> = rows().map(|(_, record)| record.settled_at).collect();
    let latencies: Vec<Option<i64>> = rows().map(|(_, record)| record.latency_ms).collect();
    pipeline.add(
        "INSERT INTO deliveries
            (node, plugin, seq, event_id, state, attempts, via, outcome, sent_at, settled_at, latency_ms)
        SELECT $1, * FROM unnest($2::TEXT[], $3::BIGINT[], $4::TEXT[], $5::SMALLINT[], $6::BIGINT[], $7::TEXT[],
            $8::TEXT[], $9::TIMESTAMPTZ[], $10::TIMESTAMPTZ[], $11::BIGINT[])
        ON CONFLICT (node, plugin, seq) DO UPDATE SET event_id = excluded.event_id, state = excluded.state,
            attempts = excluded.attempts, via = excluded.via, outcome = excluded.outcome, sent_at = excluded.sent_at,
            settled_at = excluded.settled_at, latency_ms = excluded.latency_ms",
        vec![
            Box::new(node.to_owned()),
            Box::new(plugins),
            Box::new(seqs),
            Box::new(ids),
            Box::new(states),
            Box::new(attempts),
            Box::new(vias),
            Box::new(outcomes),
            Box::new(sent),
            Box::new(settled),
            Box::new(latencies),
        ],
    );
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
