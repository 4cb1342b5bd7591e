//! The journal's statements: append, and read in both directions. Both doors append, each in its own transactions.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row};
use temps_protocol::PluginEvent;
use tokio::sync::watch;

use super::{SqliteStore, WriteTx};
use crate::host::Encoded;
use crate::{JournalEntry, JournalStore, MAX_PAGE_BYTES, Published, Seq, StoreError, failpoint};

#[async_trait]
impl JournalStore for SqliteStore {
    async fn publish(&self, events: Vec<PluginEvent>) -> Result<Vec<Published>, StoreError> {
        let encoded = events.iter().map(Encoded::new).collect::<Result<Vec<_>, _>>()?;
        self.write("publish an event", move |tx| {
            encoded.iter().map(|event| insert_encoded(tx, event)).collect()
        })
        .await
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.head.clone()
    }

    async fn events_after(&self, after: Seq, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        self.read("read the journal", move |conn| entries_after(conn, after, limit)).await
    }

    async fn events_before(&self, before: Seq, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        self.read("read the journal", move |conn| entries_before(conn, before, limit)).await
    }

    async fn event(&self, id: &str) -> Result<Option<JournalEntry>, StoreError> {
        let id = id.to_owned();
        self.read("look up an event", move |conn| by_id(conn, &id)).await
    }
}

/// Appends an event inside a transaction, so that a change and its event are one. An id that is there already is not
/// written again. Deliveries learn of it after the commit.
pub(crate) fn insert(tx: &WriteTx<'_>, event: &PluginEvent) -> Result<Published, StoreError> {
    insert_encoded(tx, &Encoded::new(event)?)
}

/// [`insert`] for an event that is encoded already.
pub(crate) fn insert_encoded(tx: &WriteTx<'_>, event: &Encoded) -> Result<Published, StoreError> {
    failpoint!("journal.insert", return Ok(Published { seq: head(tx)? + 1, duplicate: false }));
    let inserted = tx
        .prepare_cached(
            "INSERT INTO journal (id, event_type, project_id, published_at, total, json)
             VALUES (?1, ?2, ?3, ?4,
                     coalesce((SELECT total FROM journal ORDER BY seq DESC LIMIT 1), 0) + octet_length(?5), ?5)
             ON CONFLICT (id) DO NOTHING RETURNING seq",
        )?
        .query_row(
            (&event.id, &event.event_type, event.project_id, Utc::now().timestamp_micros(), &event.json),
            |row| row.get(0),
        )
        .optional()?;
    if let Some(seq) = inserted {
        tx.journal_grew(seq);
        return Ok(Published { seq, duplicate: false });
    }
    let seq = tx
        .prepare_cached("SELECT seq FROM journal WHERE id = ?1")?
        .query_row([&event.id], |row| row.get(0))?;
    Ok(Published { seq, duplicate: true })
}

/// The last place that was ever given, also when retention dropped its event.
pub(super) fn head(conn: &Connection) -> Result<Seq, StoreError> {
    let last = conn
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'journal'", [], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// Events after `after`, oldest first.
pub(super) fn entries_after(
    conn: &Connection,
    after: Seq,
    limit: usize,
) -> Result<Vec<JournalEntry>, StoreError> {
    let sql = "SELECT seq, json, published_at FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    entries(conn, sql, after, limit)
}

/// Events before `before`, newest first.
pub(super) fn entries_before(
    conn: &Connection,
    before: Seq,
    limit: usize,
) -> Result<Vec<JournalEntry>, StoreError> {
    let sql = "SELECT seq, json, published_at FROM journal WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
    entries(conn, sql, before, limit)
}

/// One event by its id.
pub(super) fn by_id(conn: &Connection, id: &str) -> Result<Option<JournalEntry>, StoreError> {
    conn.prepare_cached("SELECT seq, json, published_at FROM journal WHERE id = ?1")?
        .query_row([id], raw)
        .optional()?
        .map(|(seq, json, published_at)| JournalEntry::decode(seq, json, time(published_at)))
        .transpose()
}

/// The event at a place.
pub(super) fn at(conn: &Connection, seq: Seq) -> Result<Option<JournalEntry>, StoreError> {
    conn.prepare_cached("SELECT seq, json, published_at FROM journal WHERE seq = ?1")?
        .query_row([seq], raw)
        .optional()?
        .map(|(seq, json, published_at)| JournalEntry::decode(seq, json, time(published_at)))
        .transpose()
}

fn entries(conn: &Connection, sql: &str, from: Seq, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query((from, limit_of(limit)))?;
    let mut found = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let (seq, json, published_at) = raw(row)?;
        bytes += json.len();
        if bytes > MAX_PAGE_BYTES && !found.is_empty() {
            break;
        }
        found.push(JournalEntry::decode(seq, json, time(published_at))?);
    }
    Ok(found)
}

/// SQLite counts rows in 64 bits with a sign.
pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn raw(row: &Row<'_>) -> rusqlite::Result<(Seq, String, i64)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// A time as it stands in a column.
pub(super) fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
