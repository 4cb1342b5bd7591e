//! Deliveries of this node: what is written of each plugin in one commit, what is still open, and what operators do with
//! it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::attempts::{self, AttemptRows, small};
use super::connection::{Params, text};
use super::pipeline::{Pipeline, Value};
use super::pool::On;
use super::trail::Entry;
use super::{PostgresStore, limit_of};
use crate::{
    AttemptFilter, AttemptRecord, CursorMove, DeliveryFilter, DeliveryHistory, DeliveryNews, DeliveryRecord,
    DeliveryState, DeliveryStore, JournalEntry, MAX_PAGE_BYTES, OpenChange, OpenCounts, OpenDelivery,
    PauseRecord, Seq, StoreError, Which,
};

#[async_trait]
impl DeliveryStore for PostgresStore {
    async fn cursor(&self, plugin: &str) -> Result<Option<Seq>, StoreError> {
        let sql = "SELECT seq FROM cursors WHERE node = $1 AND plugin = $2";
        let row = self.read("read a cursor").maybe(sql, &[&self.node(), &plugin]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    async fn record_deliveries(&self, plugin: &str, news: DeliveryNews) -> Result<(), StoreError> {
        let written = self.trail.write(Entry::Deliveries(News { plugin: plugin.to_owned(), news })).await;
        written.map_err(|error| error.during("record deliveries"))
    }

    async fn delivery_history(
        &self,
        plugin: &str,
        after: Seq,
        up_to: Seq,
    ) -> Result<Vec<DeliveryHistory>, StoreError> {
        let sql = "SELECT seq, max(attempts), max(state) FROM (
                SELECT seq, attempt AS attempts, NULL::SMALLINT AS state FROM attempts
                WHERE node = $1 AND seq > $3 AND seq <= $4 AND plugin = $2
                UNION ALL
                SELECT seq, attempts, state FROM deliveries
                WHERE node = $1 AND plugin = $2 AND seq > $3 AND seq <= $4
            ) AS known GROUP BY seq ORDER BY seq";
        let rows =
            self.read("look up deliveries").query(sql, &[&self.node(), &plugin, &after, &up_to]).await?;
        let history = |row: &Row| {
            Ok(DeliveryHistory {
                seq: row.try_get(0)?,
                attempts: small(row.try_get(1)?),
                open: row.try_get::<_, Option<i16>>(2)?.map(state_of),
            })
        };
        rows.iter().map(history).collect()
    }

    async fn retries(&self, plugin: &str, limit: usize) -> Result<Vec<OpenDelivery>, StoreError> {
        let values: Params<'_> = &[&self.node(), &plugin, &limit_of(limit)];
        with_events(self.read("look up retries"), "state = 2", "next_attempt_at, seq", values).await
    }

    async fn retries_of_project(
        &self,
        plugin: &str,
        project_id: Option<i32>,
        limit: usize,
    ) -> Result<Vec<OpenDelivery>, StoreError> {
        let values: Params<'_> = &[&self.node(), &plugin, &limit_of(limit), &project_id];
        let those = "state IN (2, 4) AND project_id IS NOT DISTINCT FROM $4";
        with_events(self.read("look up retries"), those, "seq", values).await
    }

    async fn retrying_projects(&self, plugin: &str, limit: usize) -> Result<Vec<Option<i32>>, StoreError> {
        let sql = "SELECT DISTINCT project_id FROM deliveries
                   WHERE node = $1 AND plugin = $2 AND state IN (2, 4) LIMIT $3";
        let rows =
            self.read("look up retries").query(sql, &[&self.node(), &plugin, &limit_of(limit)]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    async fn release_held(&self, plugin: &str, at: DateTime<Utc>) -> Result<u64, StoreError> {
        let sql = "UPDATE deliveries SET state = 2, next_attempt_at = $3 WHERE node = $1 AND plugin = $2 AND state = 4";
        self.write("release deliveries").execute(sql, &[&self.node(), &plugin, &at]).await
    }

    async fn redeliver(&self, plugin: &str, which: Which, at: DateTime<Utc>) -> Result<u64, StoreError> {
        let on = self.write("deliver again");
        match which {
            Which::AllDead => {
                let sql = "UPDATE deliveries SET state = 2, failures = 0, crashes = 0, next_attempt_at = $3
                    WHERE node = $1 AND plugin = $2 AND state = 3
                      AND EXISTS (SELECT FROM journal WHERE journal.seq = deliveries.seq)";
                on.execute(sql, &[&self.node(), &plugin, &at]).await
            }
            Which::Event(seq) => {
                let sql = "INSERT INTO deliveries (node, plugin, seq, event_id, event_type, project_id, state, attempts,
                                                   failures, crashes, next_attempt_at)
                    SELECT $1, $2, seq, id, event_type, project_id, 2,
                           (SELECT coalesce(max(attempt), 0) FROM attempts
                            WHERE attempts.node = $1 AND attempts.seq = journal.seq AND attempts.plugin = $2),
                           0, 0, $4
                    FROM journal WHERE seq = $3
                    ON CONFLICT (node, plugin, seq) DO UPDATE
                    SET state = 2, failures = 0, crashes = 0, next_attempt_at = excluded.next_attempt_at";
                on.execute(sql, &[&self.node(), &plugin, &seq, &at]).await
            }
        }
    }

    async fn discard(&self, plugin: &str, which: Which) -> Result<u64, StoreError> {
        let on = self.write("discard deliveries");
        match which {
            Which::AllDead => {
                let sql = "DELETE FROM deliveries WHERE node = $1 AND plugin = $2 AND state = 3";
                on.execute(sql, &[&self.node(), &plugin]).await
            }
            Which::Event(seq) => {
                let sql =
                    "DELETE FROM deliveries WHERE node = $1 AND plugin = $2 AND seq = $3 AND state <> 0";
                on.execute(sql, &[&self.node(), &plugin, &seq]).await
            }
        }
    }

    async fn open_counts(&self, plugin: &str) -> Result<OpenCounts, StoreError> {
        let sql = "SELECT count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3),
                count(*) FILTER (WHERE state = 4),
                (SELECT published_at FROM journal
                 WHERE journal.seq = min(deliveries.seq) FILTER (WHERE state IN (2, 4)))
            FROM deliveries WHERE node = $1 AND plugin = $2";
        let row = self.read("count deliveries").one(sql, &[&self.node(), &plugin]).await?;
        let count = |column: usize| Ok::<_, StoreError>(row.try_get::<_, i64>(column)?.unsigned_abs());
        Ok(OpenCounts {
            retrying: count(0)?,
            dead: count(1)?,
            held: count(2)?,
            oldest_published_at: row.try_get(3)?,
        })
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError> {
        find(self.read("look up deliveries"), self.node(), &filter).await
    }

    async fn attempts(&self, filter: AttemptFilter) -> Result<Vec<AttemptRecord>, StoreError> {
        attempts::find(self.read("look up attempts"), self.node(), &filter).await
    }

    async fn pauses(&self) -> Result<Vec<PauseRecord>, StoreError> {
        let sql = "SELECT plugin, reason, paused_by, since, hash FROM pauses WHERE node = $1
                   ORDER BY plugin COLLATE \"C\"";
        let rows = self.read("look up pauses").query(sql, &[&self.node()]).await?;
        let pause = |row: &Row| {
            Ok(PauseRecord {
                plugin: row.try_get(0)?,
                reason: row.try_get(1)?,
                paused_by: row.try_get(2)?,
                since: row.try_get(3)?,
                hash: row.try_get(4)?,
            })
        };
        rows.iter().map(pause).collect()
    }

    async fn put_pause(&self, pause: PauseRecord) -> Result<(), StoreError> {
        let sql = "INSERT INTO pauses (node, plugin, reason, paused_by, since, hash) VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (node, plugin) DO UPDATE SET reason = excluded.reason, paused_by = excluded.paused_by,
                since = excluded.since, hash = excluded.hash";
        let PauseRecord { plugin, reason, paused_by, since, hash } = pause;
        let (reason, paused_by) = (text(&reason), text(&paused_by));
        let on = self.write("pause deliveries");
        on.execute(sql, &[&self.node(), &plugin, &reason, &paused_by, &since, &hash]).await?;
        Ok(())
    }

    async fn lift_pause(&self, plugin: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM pauses WHERE node = $1 AND plugin = $2";
        Ok(self.write("resume deliveries").execute(sql, &[&self.node(), &plugin]).await? > 0)
    }
}

/// What one caller records of a plugin's deliveries.
pub(super) struct News {
    plugin: String,
    news: DeliveryNews,
}

impl News {
    /// About how many bytes go to the server.
    pub(super) fn bytes(&self) -> usize {
        let answer = |answer: &Option<std::borrow::Cow<'static, str>>| answer.as_deref().map_or(0, str::len);
        let attempts = self.news.attempts.iter().map(|attempt| 192 + answer(&attempt.answer));
        let open = self.news.open.iter().map(|change| match change {
            OpenChange::Put(delivery) => 192 + answer(&delivery.outcome),
            OpenChange::Clear(_) => 64,
        });
        attempts.sum::<usize>() + open.sum::<usize>()
    }
}

/// Adds the statements that change what is open and move cursors, and returns the attempts with their ids, which follow
/// `last_id`. Of what callers want of one row the last word counts, because one statement may write a row once.
pub(super) fn write<'a>(
    pipeline: &mut Pipeline,
    node: &str,
    last_id: i64,
    news: impl Iterator<Item = &'a News>,
) -> AttemptRows {
    let mut attempts = AttemptRows::default();
    let mut open: BTreeMap<(&str, Seq), Option<&DeliveryRecord>> = BTreeMap::new();
    let mut cursors: BTreeMap<&str, CursorMove> = BTreeMap::new();
    for News { plugin, news } in news {
        for attempt in &news.attempts {
            attempts.push(attempts.last().unwrap_or(last_id) + 1, plugin, attempt);
        }
        for change in &news.open {
            match change {
                OpenChange::Put(delivery) => open.insert((plugin, delivery.seq), Some(delivery)),
                OpenChange::Clear(seq) => open.insert((plugin, *seq), None),
            };
        }
        if let Some(then) = news.cursor {
            let moved = cursors.get(plugin.as_str()).map_or(then, |first| both_moves(*first, then));
            cursors.insert(plugin, moved);
        }
    }
    let put: Vec<_> =
        open.iter().filter_map(|((plugin, _), delivery)| Some((*plugin, (*delivery)?))).collect();
    let clear = open.iter().filter(|(_, delivery)| delivery.is_none());
    write_open(pipeline, node, &put, clear.map(|((plugin, seq), _)| ((*plugin).to_owned(), *seq)).unzip());
    write_cursors(pipeline, node, &cursors);
    attempts
}

/// Two moves of a cursor as one.
fn both_moves(first: CursorMove, then: CursorMove) -> CursorMove {
    match (first, then) {
        (_, CursorMove::To(seq)) => CursorMove::To(seq),
        (CursorMove::On(a), CursorMove::On(b)) => CursorMove::On(a.max(b)),
        (CursorMove::To(a), CursorMove::On(b)) => CursorMove::To(a.max(b)),
    }
}

fn write_open(
    pipeline: &mut Pipeline,
    node: &str,
    put: &[(&str, &DeliveryRecord)],
    (cleared_plugins, cleared): (Vec<String>, Vec<Seq>),
) {
    if !cleared.is_empty() {
        pipeline.add(
            "DELETE FROM deliveries USING unnest($2::TEXT[], $3::BIGINT[]) AS cleared (plugin, seq)
             WHERE node = $1 AND deliveries.plugin = cleared.plugin AND deliveries.seq = cleared.seq",
            vec![Box::new(node.to_owned()), Box::new(cleared_plugins), Box::new(cleared)],
        );
    }
    if put.is_empty() {
        return;
    }
    fn column<T>(put: &[(&str, &DeliveryRecord)], of: impl Fn(&DeliveryRecord) -> T) -> Value
    where
        Vec<T>: ToSql + Sync + Send + 'static,
    {
        Box::new(put.iter().map(|(_, delivery)| of(delivery)).collect::<Vec<T>>())
    }
    let plugins: Vec<String> = put.iter().map(|(plugin, _)| (*plugin).to_owned()).collect();
    pipeline.add(
        "INSERT INTO deliveries (node, plugin, seq, event_id, event_type, project_id, state, attempts, failures, crashes,
                                 via, outcome, sent_at, ended_at, next_attempt_at)
         SELECT $1, * FROM unnest($2::TEXT[], $3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::INTEGER[], $7::SMALLINT[],
             $8::BIGINT[], $9::BIGINT[], $10::BIGINT[], $11::SMALLINT[], $12::TEXT[], $13::TIMESTAMPTZ[],
             $14::TIMESTAMPTZ[], $15::TIMESTAMPTZ[])
         ON CONFLICT (node, plugin, seq) DO UPDATE SET event_id = excluded.event_id, event_type = excluded.event_type,
             project_id = excluded.project_id, state = excluded.state, attempts = excluded.attempts,
             failures = excluded.failures, crashes = excluded.crashes, via = excluded.via, outcome = excluded.outcome,
             sent_at = excluded.sent_at, ended_at = excluded.ended_at, next_attempt_at = excluded.next_attempt_at",
        vec![
            Box::new(node.to_owned()),
            Box::new(plugins),
            column(put, |delivery| delivery.seq),
            column(put, |delivery| text(&delivery.event_id)),
            column(put, |delivery| text(&delivery.event_type)),
            column(put, |delivery| delivery.project_id),
            column(put, |delivery| state_number(delivery.state)),
            column(put, |delivery| i64::from(delivery.attempts)),
            column(put, |delivery| i64::from(delivery.failures)),
            column(put, |delivery| i64::from(delivery.crashes)),
            column(put, |delivery| delivery.via.map(attempts::via_number)),
            column(put, |delivery| delivery.outcome.as_deref().map(text)),
            column(put, |delivery| delivery.sent_at),
            column(put, |delivery| delivery.ended_at),
            column(put, |delivery| delivery.next_attempt_at),
        ],
    );
}

fn write_cursors(pipeline: &mut Pipeline, node: &str, cursors: &BTreeMap<&str, CursorMove>) {
    let (mut on, mut to) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for (plugin, moved) in cursors {
        let (places, seq) = match moved {
            CursorMove::On(seq) => (&mut on, *seq),
            CursorMove::To(seq) => (&mut to, *seq),
        };
        places.0.push((*plugin).to_owned());
        places.1.push(seq);
    }
    let on_sql = "INSERT INTO cursors (node, plugin, seq) SELECT $1, * FROM unnest($2::TEXT[], $3::BIGINT[])
                  ON CONFLICT (node, plugin) DO UPDATE SET seq = greatest(cursors.seq, excluded.seq)";
    let to_sql = "INSERT INTO cursors (node, plugin, seq) SELECT $1, * FROM unnest($2::TEXT[], $3::BIGINT[])
                  ON CONFLICT (node, plugin) DO UPDATE SET seq = excluded.seq";
    for (sql, (plugins, seqs)) in [(on_sql, on), (to_sql, to)] {
        if !plugins.is_empty() {
            pipeline.add(sql, vec![Box::new(node.to_owned()), Box::new(plugins), Box::new(seqs)]);
        }
    }
}

const OPEN_COLUMNS: &str =
    "plugin, seq, event_id, event_type, project_id, state, attempts, failures, crashes,
     via, outcome, sent_at, ended_at, next_attempt_at, NULL::BIGINT AS latency_ms";

/// A settled delivery is what its last successful attempt says, as long as nobody has it sent again.
const SETTLED: &str =
    "SELECT plugin, seq, event_id, event_type, NULL::INTEGER, 1::SMALLINT, attempt, 0::BIGINT, 0::BIGINT,
            via, answer, sent_at, ended_at, NULL::TIMESTAMPTZ, latency_ms
     FROM attempts AS last
     WHERE result = 1
       AND NOT EXISTS (SELECT FROM deliveries AS open
                       WHERE open.node = last.node AND open.plugin = last.plugin AND open.seq = last.seq)
       AND NOT EXISTS (SELECT FROM attempts AS later
                       WHERE later.node = last.node AND later.seq = last.seq AND later.id > last.id
                         AND later.plugin = last.plugin AND later.result = 1)";

/// Open deliveries with their events; what is too much is left off, and one is always there. Values: node, plugin, limit,
/// and what `those` needs.
async fn with_events(
    on: On<'_>,
    those: &str,
    order: &str,
    values: Params<'_>,
) -> Result<Vec<OpenDelivery>, StoreError> {
    let sql = format!(
        "SELECT sizes.*, journal.json, journal.published_at
         FROM (SELECT open.*, row_number() OVER so_far AS nth, sum(coalesce(octet_length(json), 0)) OVER so_far AS bytes
               FROM (SELECT {OPEN_COLUMNS} FROM deliveries WHERE node = $1 AND plugin = $2 AND {those}
                     ORDER BY {order} LIMIT $3) AS open
               LEFT JOIN journal USING (seq)
               WINDOW so_far AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)) AS sizes
         LEFT JOIN journal ON journal.seq = sizes.seq WHERE nth = 1 OR bytes <= {MAX_PAGE_BYTES} ORDER BY nth"
    );
    let open = |row: &Row| {
        let record = delivery(row)?;
        let json: Option<String> = row.try_get("json")?;
        let event = match json {
            Some(json) => Some(JournalEntry::decode(record.seq, json, row.try_get("published_at")?)?),
            None => None,
        };
        Ok(OpenDelivery { record, event })
    };
    on.query(&sql, values).await?.iter().map(open).collect()
}

/// Deliveries that pass the filter, by event and then by plugin.
async fn find(on: On<'_>, node: &str, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError> {
    let mut found = Vec::new();
    if filter.state != Some(DeliveryState::Settled) {
        let state = if filter.state.is_some() { "state = $5" } else { "$5::SMALLINT IS NULL" };
        let open = format!("SELECT {OPEN_COLUMNS} FROM deliveries WHERE {state}");
        found.extend(one_kind(on, &open, node, filter).await?);
    }
    if filter.state.is_none_or(|state| state == DeliveryState::Settled) {
        let settled = format!("{SETTLED} AND ($5::SMALLINT IS NULL OR $5 = 1)");
        found.extend(one_kind(on, &settled, node, filter).await?);
    }
    found.sort_by(|a, b| (a.seq, &a.plugin).cmp(&(b.seq, &b.plugin)));
    let last = filter.limit.checked_sub(1).and_then(|index| found.get(index)).map(|record| record.seq);
    if let Some(last) = last {
        found.truncate(found.partition_point(|record| record.seq <= last));
    }
    Ok(found)
}

/// Deliveries of one kind. `WITH TIES` adds all that the last event has.
async fn one_kind(
    on: On<'_>,
    select: &str,
    node: &str,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let seq = if filter.seq.is_some() { "seq = $3" } else { "$3::BIGINT IS NULL" };
    let plugin = if filter.plugin.is_some() { "plugin = $4" } else { "$4::TEXT IS NULL" };
    let sql = format!(
        "{select} AND node = $1 AND seq > $2 AND {seq} AND {plugin} ORDER BY seq FETCH FIRST $6 ROWS WITH TIES"
    );
    let values: [&(dyn ToSql + Sync); 6] = [
        &node,
        &filter.after,
        &filter.seq,
        &filter.plugin.as_deref().map(text),
        &filter.state.map(state_number),
        &limit_of(filter.limit),
    ];
    on.query(&sql, &values).await?.iter().map(delivery).collect()
}

fn delivery(row: &Row) -> Result<DeliveryRecord, StoreError> {
    Ok(DeliveryRecord {
        plugin: row.try_get(0)?,
        seq: row.try_get(1)?,
        event_id: row.try_get(2)?,
        event_type: row.try_get(3)?,
        project_id: row.try_get(4)?,
        state: state_of(row.try_get(5)?),
        attempts: small(row.try_get(6)?),
        failures: small(row.try_get(7)?),
        crashes: small(row.try_get(8)?),
        via: row.try_get::<_, Option<i16>>(9)?.map(attempts::via_of),
        outcome: row.try_get::<_, Option<String>>(10)?.map(Into::into),
        sent_at: row.try_get(11)?,
        ended_at: row.try_get(12)?,
        next_attempt_at: row.try_get(13)?,
        latency_ms: row.try_get(14)?,
    })
}

fn state_number(state: DeliveryState) -> i16 {
    match state {
        DeliveryState::Sent => 0,
        DeliveryState::Settled => 1,
        DeliveryState::Retrying => 2,
        DeliveryState::Dead => 3,
        DeliveryState::Held => 4,
    }
}

fn state_of(number: i16) -> DeliveryState {
    match number {
        0 => DeliveryState::Sent,
        1 => DeliveryState::Settled,
        2 => DeliveryState::Retrying,
        4 => DeliveryState::Held,
        _ => DeliveryState::Dead,
    }
}
