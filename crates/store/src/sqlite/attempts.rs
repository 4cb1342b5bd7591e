//! Attempts: appended in one place, never changed, dropped only from their old end.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row, params_from_iter};

use super::WriteTx;
use super::journal::{limit_of, time};
use crate::{AttemptFilter, AttemptRecord, AttemptResult, StoreError, Via};

/// Appends attempts of a plugin in order. Returns the ids of the first and the last one.
///
/// Every attempt that is ever written goes through here.
pub(super) fn append(
    tx: &WriteTx<'_>,
    plugin: &str,
    attempts: &[AttemptRecord],
) -> Result<Option<(i64, i64)>, StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO attempts
             (plugin, seq, event_id, event_type, attempt, via, result, answer, sent_at, ended_at, latency_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let mut ids = None;
    for attempt in attempts {
        let id = statement.insert((
            plugin,
            attempt.seq,
            &attempt.event_id,
            &attempt.event_type,
            attempt.attempt,
            via_number(attempt.via),
            result_number(attempt.result),
            attempt.answer.as_deref(),
            attempt.sent_at.timestamp_micros(),
            attempt.ended_at.timestamp_micros(),
            attempt.latency_ms,
        ))?;
        ids = Some((ids.map_or(id, |(first, _)| first), id));
    }
    Ok(ids)
}

/// Attempts that pass the filter, by their end.
pub(super) fn find(conn: &Connection, filter: &AttemptFilter) -> Result<Vec<AttemptRecord>, StoreError> {
    let (sql, values) = query(filter);
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), attempt)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The statement for a filter, with its values in order. Only fixed text goes into the statement.
fn query(filter: &AttemptFilter) -> (String, Vec<Sql>) {
    let mut conditions: Vec<&str> = Vec::new();
    let mut values: Vec<Sql> = Vec::new();
    let mut narrow = |condition, value: Sql| {
        conditions.push(condition);
        values.push(value);
    };
    if let Some(seq) = filter.seq {
        narrow("seq = ?", seq.into());
    }
    if let Some(plugin) = &filter.plugin {
        narrow("plugin = ?", plugin.clone().into());
    }
    if let Some(result) = filter.result {
        narrow("result = ?", i64::from(result_number(result)).into());
    }
    if let Some(since) = filter.since {
        narrow("ended_at >= ?", since.timestamp_micros().into());
    }
    if let Some(until) = filter.until {
        narrow("ended_at < ?", until.timestamp_micros().into());
    }
    if let Some((at, id)) = filter.after {
        narrow("(ended_at, id) > (?, ", at.timestamp_micros().into());
        values.push(id.into());
    }
    let mut narrowed = String::new();
    for (index, condition) in conditions.iter().enumerate() {
        narrowed.push_str(if index == 0 { " WHERE " } else { " AND " });
        narrowed.push_str(condition);
        if condition.ends_with(", ") {
            narrowed.push_str("?)");
        }
    }
    values.push(limit_of(filter.limit).into());
    let columns =
        "id, plugin, seq, event_id, event_type, attempt, via, result, answer, sent_at, ended_at, latency_ms";
    (format!("SELECT {columns} FROM attempts{narrowed} ORDER BY ended_at, id LIMIT ?"), values)
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<AttemptRecord> {
    Ok(AttemptRecord {
        id: row.get(0)?,
        plugin: row.get(1)?,
        seq: row.get(2)?,
        event_id: row.get(3)?,
        event_type: row.get(4)?,
        attempt: row.get(5)?,
        via: via_of(row.get(6)?),
        result: result_of(row.get(7)?),
        answer: row.get::<_, Option<String>>(8)?.map(Into::into),
        sent_at: time(row.get(9)?),
        ended_at: time(row.get(10)?),
        latency_ms: row.get(11)?,
    })
}

/// How an attempt went over, as its column has it.
pub(super) fn via_number(via: Via) -> u8 {
    match via {
        Via::Channel => 1,
        Via::Http => 2,
    }
}

/// The reverse of [`via_number`].
pub(super) fn via_of(number: u8) -> Via {
    match number {
        2 => Via::Http,
        _ => Via::Channel,
    }
}

fn result_number(result: AttemptResult) -> u8 {
    match result {
        AttemptResult::Settled => 1,
        AttemptResult::Failed => 2,
        AttemptResult::Dead => 3,
    }
}

fn result_of(number: u8) -> AttemptResult {
    match number {
        1 => AttemptResult::Settled,
        2 => AttemptResult::Failed,
        _ => AttemptResult::Dead,
    }
}
