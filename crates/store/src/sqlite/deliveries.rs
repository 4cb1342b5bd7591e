//! Deliveries: what is written of each plugin in one commit, what is still open, and what operators do with it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row};

use super::journal::{self, limit_of, time};
use super::{SqliteStore, WriteTx, attempts};
use crate::{
    AttemptFilter, AttemptRecord, CursorMove, DeliveryFilter, DeliveryHistory, DeliveryNews, DeliveryRecord,
    DeliveryState, DeliveryStore, MAX_PAGE_BYTES, OpenChange, OpenCounts, OpenDelivery, PauseRecord, Seq,
    StoreError, Which, failpoint,
};

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn cursor(&self, plugin: &str) -> Result<Option<Seq>, StoreError> {
        let plugin = plugin.to_owned();
        self.read("read a cursor", move |conn| cursor(conn, &plugin)).await
    }

    async fn record_deliveries(&self, plugin: &str, news: DeliveryNews) -> Result<(), StoreError> {
        let plugin = plugin.to_owned();
        self.write("record deliveries", move |tx| record(tx, &plugin, &news)).await
    }

    async fn delivery_history(
        &self,
        plugin: &str,
        after: Seq,
        up_to: Seq,
    ) -> Result<Vec<DeliveryHistory>, StoreError> {
        let plugin = plugin.to_owned();
        self.read("look up deliveries", move |conn| history(conn, &plugin, after, up_to)).await
    }

    async fn retries(&self, plugin: &str, limit: usize) -> Result<Vec<OpenDelivery>, StoreError> {
        let plugin = plugin.to_owned();
        self.read("look up retries", move |conn| {
            let sql = format!(
                "{OPEN_COLUMNS} WHERE plugin = ?1 AND state = 2 AND ?2 IS NULL ORDER BY next_attempt_at, seq LIMIT ?3"
            );
            with_events(conn, &sql, &plugin, None, limit)
        })
        .await
    }

    async fn retries_of_project(
        &self,
        plugin: &str,
        project_id: Option<i32>,
        limit: usize,
    ) -> Result<Vec<OpenDelivery>, StoreError> {
        let plugin = plugin.to_owned();
        self.read("look up retries", move |conn| {
            let sql = format!(
                "{OPEN_COLUMNS} WHERE plugin = ?1 AND state IN (2, 4) AND project_id IS ?2 ORDER BY seq LIMIT ?3"
            );
            with_events(conn, &sql, &plugin, project_id, limit)
        })
        .await
    }

    async fn retrying_projects(&self, plugin: &str, limit: usize) -> Result<Vec<Option<i32>>, StoreError> {
        let plugin = plugin.to_owned();
        self.read("look up retries", move |conn| {
            let sql =
                "SELECT DISTINCT project_id FROM deliveries WHERE plugin = ?1 AND state IN (2, 4) LIMIT ?2";
            let mut statement = conn.prepare_cached(sql)?;
            let rows = statement.query_map((plugin, limit_of(limit)), |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn release_held(&self, plugin: &str, at: DateTime<Utc>) -> Result<u64, StoreError> {
        let plugin = plugin.to_owned();
        self.write("release deliveries", move |tx| {
            let sql = "UPDATE deliveries SET state = 2, next_attempt_at = ?2 WHERE plugin = ?1 AND state = 4";
            Ok(tx.prepare_cached(sql)?.execute((plugin, at.timestamp_micros()))? as u64)
        })
        .await
    }

    async fn redeliver(&self, plugin: &str, which: Which, at: DateTime<Utc>) -> Result<u64, StoreError> {
        let plugin = plugin.to_owned();
        self.write("deliver again", move |tx| redeliver(tx, &plugin, which, at)).await
    }

    async fn discard(&self, plugin: &str, which: Which) -> Result<u64, StoreError> {
        let plugin = plugin.to_owned();
        self.write("discard deliveries", move |tx| discard(tx, &plugin, which)).await
    }

    async fn open_counts(&self, plugin: &str) -> Result<OpenCounts, StoreError> {
        let plugin = plugin.to_owned();
        self.read("count deliveries", move |conn| open_counts(conn, &plugin)).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError> {
        self.read("look up deliveries", move |conn| find(conn, &filter)).await
    }

    async fn attempts(&self, filter: AttemptFilter) -> Result<Vec<AttemptRecord>, StoreError> {
        self.read("look up attempts", move |conn| attempts::find(conn, &filter)).await
    }

    async fn pauses(&self) -> Result<Vec<PauseRecord>, StoreError> {
        self.read("look up pauses", pauses).await
    }

    async fn put_pause(&self, pause: PauseRecord) -> Result<(), StoreError> {
        self.write("pause deliveries", move |tx| {
            let sql = "INSERT OR REPLACE INTO pauses (plugin, reason, paused_by, since, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
            let PauseRecord { plugin, reason, paused_by, since, hash } = pause;
            tx.prepare_cached(sql)?.execute((plugin, reason, paused_by, since.timestamp_micros(), hash))?;
            Ok(())
        })
        .await
    }

    async fn lift_pause(&self, plugin: &str) -> Result<bool, StoreError> {
        let plugin = plugin.to_owned();
        self.write("resume deliveries", move |tx| {
            Ok(tx.prepare_cached("DELETE FROM pauses WHERE plugin = ?1")?.execute([plugin])? > 0)
        })
        .await
    }
}

const OPEN_COLUMNS: &str =
    "SELECT plugin, seq, event_id, event_type, project_id, state, attempts, failures, crashes,
     via, outcome, sent_at, ended_at, next_attempt_at, NULL FROM deliveries";

/// A settled delivery is what its last successful attempt says, as long as nobody has it sent again.
const SETTLED_COLUMNS: &str =
    "SELECT plugin, seq, event_id, event_type, NULL, 1, attempt, 0, 0, via, answer, sent_at, ended_at, NULL, latency_ms
     FROM attempts a
     WHERE result = 1
       AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.plugin = a.plugin AND d.seq = a.seq)
       AND NOT EXISTS (SELECT 1 FROM attempts b
                       WHERE b.seq = a.seq AND b.id > a.id AND b.plugin = a.plugin AND b.result = 1)";

/// Where a plugin's cursor stands.
pub(super) fn cursor(conn: &Connection, plugin: &str) -> Result<Option<Seq>, StoreError> {
    let sql = "SELECT seq FROM cursors WHERE plugin = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([plugin], |row| row.get(0)).optional()?)
}

/// Writes what happened to a plugin's deliveries.
fn record(tx: &WriteTx<'_>, plugin: &str, news: &DeliveryNews) -> Result<(), StoreError> {
    failpoint!("record.write");
    attempts::append(tx, plugin, &news.attempts)?;
    for change in &news.open {
        match change {
            OpenChange::Put(delivery) => put(tx, plugin, delivery)?,
            OpenChange::Clear(seq) => {
                tx.prepare_cached("DELETE FROM deliveries WHERE plugin = ?1 AND seq = ?2")?
                    .execute((plugin, seq))?;
            }
        }
    }
    failpoint!("record.cursor");
    let (sql, seq) = match news.cursor {
        Some(CursorMove::On(seq)) => (
            "INSERT INTO cursors (plugin, seq) VALUES (?1, ?2)
             ON CONFLICT (plugin) DO UPDATE SET seq = max(seq, excluded.seq)",
            seq,
        ),
        Some(CursorMove::To(seq)) => (
            "INSERT INTO cursors (plugin, seq) VALUES (?1, ?2) ON CONFLICT (plugin) DO UPDATE SET seq = excluded.seq",
            seq,
        ),
        None => return Ok(()),
    };
    tx.prepare_cached(sql)?.execute((plugin, seq))?;
    failpoint!("record.commit");
    Ok(())
}

fn put(tx: &WriteTx<'_>, plugin: &str, delivery: &DeliveryRecord) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO deliveries
             (plugin, seq, event_id, event_type, project_id, state, attempts, failures, crashes, via, outcome,
              sent_at, ended_at, next_attempt_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute((
        plugin,
        delivery.seq,
        &delivery.event_id,
        &delivery.event_type,
        delivery.project_id,
        state_number(delivery.state),
        delivery.attempts,
        delivery.failures,
        delivery.crashes,
        delivery.via.map(attempts::via_number),
        delivery.outcome.as_deref(),
        delivery.sent_at.map(|at| at.timestamp_micros()),
        delivery.ended_at.map(|at| at.timestamp_micros()),
        delivery.next_attempt_at.map(|at| at.timestamp_micros()),
    ))?;
    Ok(())
}

fn history(
    conn: &Connection,
    plugin: &str,
    after: Seq,
    up_to: Seq,
) -> Result<Vec<DeliveryHistory>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT seq, max(attempts), max(state) FROM (
             SELECT seq, attempt AS attempts, NULL AS state FROM attempts
             WHERE seq > ?2 AND seq <= ?3 AND plugin = ?1
             UNION ALL
             SELECT seq, attempts, state FROM deliveries WHERE plugin = ?1 AND seq > ?2 AND seq <= ?3
         ) GROUP BY seq ORDER BY seq",
    )?;
    let rows = statement.query_map((plugin, after, up_to), |row| {
        Ok(DeliveryHistory {
            seq: row.get(0)?,
            attempts: row.get(1)?,
            open: row.get::<_, Option<u8>>(2)?.map(state_of),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Open deliveries with their events, bounded in bytes.
fn with_events(
    conn: &Connection,
    sql: &str,
    plugin: &str,
    project_id: Option<i32>,
    limit: usize,
) -> Result<Vec<OpenDelivery>, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((plugin, project_id, limit_of(limit)), delivery)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    for record in rows {
        let record = record?;
        let event = journal::at(conn, record.seq)?;
        bytes += event.as_ref().map_or(0, |event| event.json.len());
        if bytes > MAX_PAGE_BYTES && !found.is_empty() {
            break;
        }
        found.push(OpenDelivery { record, event });
    }
    Ok(found)
}

fn redeliver(tx: &WriteTx<'_>, plugin: &str, which: Which, at: DateTime<Utc>) -> Result<u64, StoreError> {
    let at = at.timestamp_micros();
    let changed = match which {
        Which::AllDead => tx
            .prepare_cached(
                "UPDATE deliveries SET state = 2, failures = 0, crashes = 0, next_attempt_at = ?2
                 WHERE plugin = ?1 AND state = 3 AND EXISTS (SELECT 1 FROM journal j WHERE j.seq = deliveries.seq)",
            )?
            .execute((plugin, at))?,
        Which::Event(seq) => tx
            .prepare_cached(
                "INSERT INTO deliveries
                     (plugin, seq, event_id, event_type, project_id, state, attempts, failures, crashes, next_attempt_at)
                 SELECT ?1, seq, id, event_type, project_id, 2,
                        (SELECT coalesce(max(attempt), 0) FROM attempts a WHERE a.seq = journal.seq AND a.plugin = ?1),
                        0, 0, ?3
                 FROM journal WHERE seq = ?2
                 ON CONFLICT (plugin, seq)
                 DO UPDATE SET state = 2, failures = 0, crashes = 0, next_attempt_at = excluded.next_attempt_at",
            )?
            .execute((plugin, seq, at))?,
    };
    Ok(changed as u64)
}

fn discard(tx: &WriteTx<'_>, plugin: &str, which: Which) -> Result<u64, StoreError> {
    let changed = match which {
        Which::AllDead => {
            tx.prepare_cached("DELETE FROM deliveries WHERE plugin = ?1 AND state = 3")?.execute([plugin])?
        }
        Which::Event(seq) => tx
            .prepare_cached("DELETE FROM deliveries WHERE plugin = ?1 AND seq = ?2 AND state <> 0")?
            .execute((plugin, seq))?,
    };
    Ok(changed as u64)
}

fn open_counts(conn: &Connection, plugin: &str) -> Result<OpenCounts, StoreError> {
    let mut counts = OpenCounts::default();
    let sql = "SELECT state, count(*), min(seq) FROM deliveries WHERE plugin = ?1 GROUP BY state";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([plugin])?;
    let mut oldest: Option<Seq> = None;
    while let Some(row) = rows.next()? {
        let count = row.get::<_, i64>(1)?.unsigned_abs();
        let first: Seq = row.get(2)?;
        match state_of(row.get(0)?) {
            DeliveryState::Dead => counts.dead = count,
            DeliveryState::Retrying => counts.retrying = count,
            DeliveryState::Held => counts.held = count,
            DeliveryState::Sent | DeliveryState::Settled => continue,
        }
        if counts.retrying + counts.held > 0 {
            oldest = Some(oldest.map_or(first, |oldest| oldest.min(first)));
        }
    }
    if let Some(seq) = oldest {
        counts.oldest_published_at = journal::at(conn, seq)?.map(|entry| entry.published_at);
    }
    Ok(counts)
}

/// Deliveries that pass the filter, by event and then by plugin.
fn find(conn: &Connection, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError> {
    let mut found = Vec::new();
    if filter.state != Some(DeliveryState::Settled) {
        found.extend(one_kind(conn, OPEN_COLUMNS, filter)?);
    }
    if filter.state.is_none_or(|state| state == DeliveryState::Settled) {
        found.extend(one_kind(conn, SETTLED_COLUMNS, filter)?);
    }
    found.sort_by(|a, b| (a.seq, &a.plugin).cmp(&(b.seq, &b.plugin)));
    if let Some(last) =
        filter.limit.checked_sub(1).and_then(|index| found.get(index)).map(|record| record.seq)
    {
        found.truncate(found.partition_point(|record| record.seq <= last));
    }
    Ok(found)
}

/// Deliveries of one kind, with all of the last event.
fn one_kind(
    conn: &Connection,
    columns: &str,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let state = filter.state.map(state_number);
    let joined = if columns.contains("WHERE") { "AND" } else { "WHERE" };
    let narrowed = match (filter.seq, &filter.plugin) {
        (Some(_), _) => "seq > ?1 AND seq = ?2",
        (None, _) => "seq > ?1 AND ?2 IS NULL",
    };
    let state_is =
        if columns == OPEN_COLUMNS { "(?4 IS NULL OR state = ?4)" } else { "(?4 IS NULL OR ?4 = 1)" };
    let plugin_is = if filter.plugin.is_some() { "plugin = ?3" } else { "?3 IS NULL" };
    let sql = format!("{columns} {joined} {narrowed} AND {plugin_is} AND {state_is} ORDER BY seq LIMIT ?5");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut page = |after: Seq, seq: Option<Seq>, limit: usize| -> Result<Vec<DeliveryRecord>, StoreError> {
        let rows = statement.query_map((after, seq, &filter.plugin, state, limit_of(limit)), delivery)?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let mut found = page(filter.after, filter.seq, filter.limit)?;
    if found.len() == filter.limit
        && filter.seq.is_none()
        && let Some(last) = found.last().map(|record| record.seq)
    {
        found.truncate(found.partition_point(|record| record.seq < last));
        drop(statement);
        let rest = DeliveryFilter { seq: Some(last), after: last - 1, limit: usize::MAX, ..filter.clone() };
        found.extend(one_kind(conn, columns, &rest)?);
    }
    Ok(found)
}

fn pauses(conn: &Connection) -> Result<Vec<PauseRecord>, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT plugin, reason, paused_by, since, hash FROM pauses ORDER BY plugin")?;
    let rows = statement.query_map([], |row| {
        Ok(PauseRecord {
            plugin: row.get(0)?,
            reason: row.get(1)?,
            paused_by: row.get(2)?,
            since: time(row.get(3)?),
            hash: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<DeliveryRecord> {
    let at = |index: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(time));
    Ok(DeliveryRecord {
        plugin: row.get(0)?,
        seq: row.get(1)?,
        event_id: row.get(2)?,
        event_type: row.get(3)?,
        project_id: row.get(4)?,
        state: state_of(row.get(5)?),
        attempts: row.get(6)?,
        failures: row.get(7)?,
        crashes: row.get(8)?,
        via: row.get::<_, Option<u8>>(9)?.map(attempts::via_of),
        outcome: row.get::<_, Option<String>>(10)?.map(Into::into),
        sent_at: at(11)?,
        ended_at: at(12)?,
        next_attempt_at: at(13)?,
        latency_ms: row.get(14)?,
    })
}

fn state_number(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Sent => 0,
        DeliveryState::Settled => 1,
        DeliveryState::Retrying => 2,
        DeliveryState::Dead => 3,
        DeliveryState::Held => 4,
    }
}

fn state_of(number: u8) -> DeliveryState {
    match number {
        0 => DeliveryState::Sent,
        1 => DeliveryState::Settled,
        2 => DeliveryState::Retrying,
        4 => DeliveryState::Held,
        _ => DeliveryState::Dead,
    }
}
