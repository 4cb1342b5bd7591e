//! Attempts of this node: appended in one place, never changed, and found again.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::chain::micros;
use super::connection::text;
use super::limit_of;
use super::narrowed::Narrowed;
use super::pipeline::Pipeline;
use super::pool::On;
use crate::host::{Cell, Part, Rows, RowsDigest, Seal};
use crate::{AttemptFilter, AttemptRecord, AttemptResult, Seq, StoreError, Via};

/// Attempts as columns. Every attempt that is ever written goes through here.
#[derive(Default)]
pub(super) struct AttemptRows {
    ids: Vec<i64>,
    plugins: Vec<String>,
    seqs: Vec<Seq>,
    event_ids: Vec<String>,
    event_types: Vec<String>,
    attempts: Vec<i64>,
    vias: Vec<i16>,
    results: Vec<i16>,
    answers: Vec<Option<String>>,
    sent: Vec<DateTime<Utc>>,
    ended: Vec<DateTime<Utc>>,
    latencies: Vec<Option<i64>>,
}

impl AttemptRows {
    /// Adds an attempt of a plugin under an id.
    pub(super) fn push(&mut self, id: i64, plugin: &str, attempt: &AttemptRecord) {
        self.ids.push(id);
        self.plugins.push(text(plugin));
        self.seqs.push(attempt.seq);
        self.event_ids.push(text(&attempt.event_id));
        self.event_types.push(text(&attempt.event_type));
        self.attempts.push(i64::from(attempt.attempt));
        self.vias.push(via_number(attempt.via));
        self.results.push(result_number(attempt.result));
        self.answers.push(attempt.answer.as_deref().map(text));
        self.sent.push(micros(attempt.sent_at));
        self.ended.push(micros(attempt.ended_at));
        self.latencies.push(attempt.latency_ms);
    }

    /// Id of the last attempt.
    pub(super) fn last(&self) -> Option<i64> {
        self.ids.last().copied()
    }

    /// The digest of the rows, with the columns in the order in which the chain reads them.
    pub(super) fn sealed(&self, seal: &dyn Seal, node: &str) -> Rows {
        let mut digest = RowsDigest::begin(seal, Part::Attempts);
        for row in 0..self.ids.len() {
            digest.row([
                Cell::Integer(self.ids[row]),
                Cell::Bytes(node.as_bytes()),
                Cell::Bytes(self.plugins[row].as_bytes()),
                Cell::Integer(self.seqs[row]),
                Cell::Bytes(self.event_ids[row].as_bytes()),
                Cell::Bytes(self.event_types[row].as_bytes()),
                Cell::Integer(self.attempts[row]),
                Cell::Integer(self.vias[row].into()),
                Cell::Integer(self.results[row].into()),
                self.answers[row].as_ref().map_or(Cell::Null, |answer| Cell::Bytes(answer.as_bytes())),
                Cell::Integer(self.sent[row].timestamp_micros()),
                Cell::Integer(self.ended[row].timestamp_micros()),
                self.latencies[row].map_or(Cell::Null, Cell::Integer),
            ]);
        }
        digest.finish()
    }

    /// Adds the statement that appends them.
    pub(super) fn insert(self, pipeline: &mut Pipeline, node: &str) {
        if self.ids.is_empty() {
            return;
        }
        pipeline.add(
            "INSERT INTO attempts (node, id, plugin, seq, event_id, event_type, attempt, via, result, answer, sent_at,
                                   ended_at, latency_ms)
             SELECT $1, * FROM unnest($2::BIGINT[], $3::TEXT[], $4::BIGINT[], $5::TEXT[], $6::TEXT[], $7::BIGINT[],
                 $8::SMALLINT[], $9::SMALLINT[], $10::TEXT[], $11::TIMESTAMPTZ[], $12::TIMESTAMPTZ[], $13::BIGINT[])",
            vec![
                Box::new(node.to_owned()),
                Box::new(self.ids),
                Box::new(self.plugins),
                Box::new(self.seqs),
                Box::new(self.event_ids),
                Box::new(self.event_types),
                Box::new(self.attempts),
                Box::new(self.vias),
                Box::new(self.results),
                Box::new(self.answers),
                Box::new(self.sent),
                Box::new(self.ended),
                Box::new(self.latencies),
            ],
        );
    }
}

/// Attempts that pass the filter, by their end.
pub(super) async fn find(
    on: On<'_>,
    node: &str,
    filter: &AttemptFilter,
) -> Result<Vec<AttemptRecord>, StoreError> {
    let mut narrowed = Narrowed::default();
    narrowed.by("node = ", node.to_owned());
    narrowed.by_some("seq = ", filter.seq);
    narrowed.by_some("plugin = ", filter.plugin.as_deref().map(text));
    narrowed.by_some("result = ", filter.result.map(result_number));
    narrowed.by_some("ended_at >= ", filter.since);
    narrowed.by_some("ended_at < ", filter.until);
    if let Some((at, id)) = filter.after {
        narrowed.by_pair("(ended_at, id) > ", at, id);
    }
    let select =
        "SELECT id, plugin, seq, event_id, event_type, attempt, via, result, answer, sent_at, ended_at,
                         latency_ms FROM attempts";
    let rows = narrowed.query(on, select, "ORDER BY ended_at, id", limit_of(filter.limit)).await?;
    rows.iter().map(attempt).collect()
}

fn attempt(row: &Row) -> Result<AttemptRecord, StoreError> {
    Ok(AttemptRecord {
        id: row.try_get(0)?,
        plugin: row.try_get(1)?,
        seq: row.try_get(2)?,
        event_id: row.try_get(3)?,
        event_type: row.try_get(4)?,
        attempt: small(row.try_get(5)?),
        via: via_of(row.try_get(6)?),
        result: result_of(row.try_get(7)?),
        answer: row.try_get::<_, Option<String>>(8)?.map(Into::into),
        sent_at: row.try_get(9)?,
        ended_at: row.try_get(10)?,
        latency_ms: row.try_get(11)?,
    })
}

/// A number that was written from 32 bits without a sign, which PostgreSQL does not have.
pub(super) fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// How an attempt went over, as its column has it.
pub(super) fn via_number(via: Via) -> i16 {
    match via {
        Via::Channel => 1,
        Via::Http => 2,
    }
}

/// The reverse of [`via_number`].
pub(super) fn via_of(number: i16) -> Via {
    match number {
        2 => Via::Http,
        _ => Via::Channel,
    }
}

fn result_number(result: AttemptResult) -> i16 {
    match result {
        AttemptResult::Settled => 1,
        AttemptResult::Failed => 2,
        AttemptResult::Dead => 3,
    }
}

fn result_of(number: i16) -> AttemptResult {
    match number {
        1 => AttemptResult::Settled,
        2 => AttemptResult::Failed,
        _ => AttemptResult::Dead,
    }
}
