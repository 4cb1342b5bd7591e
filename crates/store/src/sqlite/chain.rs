//! The chain's statements: the link at the end of a transaction, a stretch of the chain with what lies in it now, and
//! the cut that retention makes.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use chrono::Utc;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::WriteTx;
use super::connection;
use super::journal::{limit_of, time};
use crate::host::{
    Cell, ChainPage, Cut, FoundLink, Link, Mac, Part, Parts, Rows, RowsDigest, Seal, first_link, next_link,
    sealed_cut,
};
use crate::{Seq, StoreError};

/// The node of each record and of the chain. A SQLite file belongs to one host; a shared database has the hosts' own
/// names here.
pub(super) const NODE: &str = "local";

/// Rows that one page of the chain looks at, as long as its first link has not more: so long one reader is busy.
const MAX_PAGE_ROWS: i64 = 20_000;

/// The seal of the chain, once the host has given it.
#[derive(Debug, Default)]
pub(super) struct Chain {
    seal: OnceLock<Arc<dyn Seal>>,
}

/// Where the tables ended when a transaction began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun(Parts<Seq>);

impl Chain {
    /// From now on each transaction that adds rows ends with a link. A second seal is not taken.
    pub(super) fn start(&self, seal: Arc<dyn Seal>) {
        let _ = self.seal.set(seal);
    }

    /// The seal, if there is one yet.
    pub(super) fn seal(&self) -> Option<&Arc<dyn Seal>> {
        self.seal.get()
    }

    /// Notes where the tables end. Called when a transaction has begun and nobody else can write.
    pub(super) fn begin(&self, conn: &Connection) -> Result<Option<Begun>, StoreError> {
        self.seal.get().map(|_| Ok(Begun(places(conn)?))).transpose()
    }

    /// Adds the link over the rows that this transaction added, if it added any. Called right before the commit.
    pub(super) fn end(&self, conn: &Connection, begun: Option<Begun>) -> Result<(), StoreError> {
        let (Some(seal), Some(Begun(begun))) = (self.seal.get(), begun) else { return Ok(()) };
        let last = places(conn)?;
        if last == begun {
            return Ok(());
        }
        let before = match last_link(conn)? {
            Some(link) => link,
            None => {
                let there = Parts {
                    records: count(conn, Part::Records, begun.records)?,
                    attempts: count(conn, Part::Attempts, begun.attempts)?,
                };
                let first = first_link(&**seal, NODE, Utc::now(), begun, there);
                insert(conn, &first)?;
                first
            }
        };
        let rows = Parts {
            records: rows(conn, &**seal, Part::Records, begun.records, last.records)?,
            attempts: rows(conn, &**seal, Part::Attempts, begun.attempts, last.attempts)?,
        };
        insert(conn, &next_link(&**seal, NODE, &before, Utc::now(), last, rows))
    }
}

/// The chain of a database that nobody needs to serve: opened for reading alone, its schema left as it is.
#[derive(Debug)]
pub struct ChainFile {
    conn: Connection,
}

impl ChainFile {
    /// Opens the database at `path`.
    ///
    /// # Errors
    /// What the database says; a file that is not there is not made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { conn: connection::open_as_it_is(path)? })
    }

    /// Name of the node whose chain this is.
    #[must_use]
    pub fn node(&self) -> &str {
        NODE
    }

    /// As [`AuditStore::audit_chain`](crate::AuditStore::audit_chain).
    ///
    /// # Errors
    /// What the database says.
    pub fn page(&self, seal: &dyn Seal, after: i64, limit: usize) -> Result<ChainPage, StoreError> {
        let snapshot = self.conn.unchecked_transaction()?;
        page(&snapshot, seal, after, limit).map_err(|error| error.during("read the audit chain"))
    }
}

/// The table of a part, the column of its rows' places, and every column in the order in which they are sealed. A column that is added later is
/// not sealed in rows from before; it needs a version of its own in the digest.
const fn table(part: Part) -> (&'static str, &'static str, &'static str) {
    match part {
        Part::Records => ("audit", "seq", "seq, node, at, kind, plugin, actor, detail, total"),
        Part::Attempts => (
            "attempts",
            "id",
            "id, plugin, seq, event_id, event_type, attempt, via, result, answer, sent_at, ended_at, latency_ms",
        ),
    }
}

/// The last place that was given in each table.
fn places(conn: &Connection) -> Result<Parts<Seq>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?;
    let mut last = |part| {
        Ok::<i64, StoreError>(statement.query_row([table(part).0], |row| row.get(0)).optional()?.unwrap_or(0))
    };
    Ok(Parts { records: last(Part::Records)?, attempts: last(Part::Attempts)? })
}

/// The digest of the rows after `after` and up to `up_to`.
fn rows(conn: &Connection, seal: &dyn Seal, part: Part, after: Seq, up_to: Seq) -> Result<Rows, StoreError> {
    let mut digest = RowsDigest::begin(seal, part);
    if up_to > after {
        let (table, key, columns) = table(part);
        let sql = format!("SELECT {columns} FROM {table} WHERE {key} > ?1 AND {key} <= ?2 ORDER BY {key}");
        let mut statement = conn.prepare_cached(&sql)?;
        let columns = statement.column_count();
        let mut found = statement.query((after, up_to))?;
        while let Some(row) = found.next()? {
            let mut cells = Vec::with_capacity(columns);
            for column in 0..columns {
                cells.push(cell(row.get_ref(column)?));
            }
            digest.row(cells);
        }
    }
    Ok(digest.finish())
}

fn cell(value: ValueRef<'_>) -> Cell<'_> {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        // The tables have no such column, and their kinds of columns are strict.
        ValueRef::Real(number) => Cell::Integer(number.to_bits().cast_signed()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cell::Bytes(bytes),
    }
}

/// How many rows there are up to a place.
fn count(conn: &Connection, part: Part, up_to: Seq) -> Result<i64, StoreError> {
    let (table, key, _) = table(part);
    let sql = format!("SELECT count(*) FROM {table} WHERE {key} <= ?1");
    Ok(conn.prepare_cached(&sql)?.query_row([up_to], |row| row.get(0))?)
}

fn count_after(conn: &Connection, part: Part, after: Seq) -> Result<i64, StoreError> {
    let (table, key, _) = table(part);
    let sql = format!("SELECT count(*) FROM {table} WHERE {key} > ?1");
    Ok(conn.prepare_cached(&sql)?.query_row([after], |row| row.get(0))?)
}

const LINK: &str = "SELECT number, at, key_id, records_last, records_count, records_digest,
                           attempts_last, attempts_count, attempts_digest, mac FROM audit_links";

/// The newest link.
pub(super) fn last_link(conn: &Connection) -> Result<Option<Link>, StoreError> {
    let sql = format!("{LINK} WHERE node = ?1 ORDER BY number DESC LIMIT 1");
    Ok(conn.prepare_cached(&sql)?.query_row([NODE], link).optional()?)
}

/// One link by its number.
pub(super) fn link_at(conn: &Connection, number: i64) -> Result<Option<Link>, StoreError> {
    let sql = format!("{LINK} WHERE node = ?1 AND number = ?2");
    Ok(conn.prepare_cached(&sql)?.query_row((NODE, number), link).optional()?)
}

fn insert(conn: &Connection, link: &Link) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO audit_links (node, number, at, key_id, records_last, records_count, records_digest,
                                  attempts_last, attempts_count, attempts_digest, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute((
        NODE,
        link.number,
        link.at.timestamp_micros(),
        &link.key_id,
        link.last.records,
        link.rows.records.count,
        &link.rows.records.digest.0,
        link.last.attempts,
        link.rows.attempts.count,
        &link.rows.attempts.digest.0,
        &link.mac.0,
    ))?;
    Ok(())
}

fn link(row: &Row<'_>) -> rusqlite::Result<Link> {
    Ok(Link {
        number: row.get(0)?,
        at: time(row.get(1)?),
        key_id: row.get(2)?,
        last: Parts { records: row.get(3)?, attempts: row.get(6)? },
        rows: Parts {
            records: Rows { count: row.get(4)?, digest: mac(row, 5)? },
            attempts: Rows { count: row.get(7)?, digest: mac(row, 8)? },
        },
        mac: mac(row, 9)?,
    })
}

/// A digest in a column. One of another length was not written by us; it is shown as one that fits nothing.
fn mac(row: &Row<'_>, column: usize) -> rusqlite::Result<Mac> {
    let bytes = row.get_ref(column)?.as_blob().unwrap_or_default();
    Ok(Mac(bytes.try_into().unwrap_or_default()))
}

/// The links after `after` with what lies in their ranges now, at most `limit`.
pub(super) fn page(
    conn: &Connection,
    seal: &dyn Seal,
    after: i64,
    limit: usize,
) -> Result<ChainPage, StoreError> {
    let cut = cut(conn)?;
    // The link before, where it is kept, says where the first one of the page begins.
    let sql = format!("{LINK} WHERE node = ?1 AND number >= ?2 ORDER BY number LIMIT ?3");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut links = statement.query_map((NODE, after, limit_of(limit.saturating_add(2))), link)?.peekable();
    let mut begin = Parts { records: Seq::MIN, attempts: Seq::MIN };
    if let Some(Ok(before)) = links.next_if(|link| link.as_ref().is_ok_and(|link| link.number == after)) {
        begin = before.last;
    }
    let mut found = Vec::new();
    let mut looked_at = 0;
    while let Some(link) = links.next_if(|_| found.len() < limit && looked_at < MAX_PAGE_ROWS) {
        let link = link?;
        let there = match link.number {
            0 => counted(conn, link.last)?,
            _ => Parts {
                records: rows(conn, seal, Part::Records, begin.records, link.last.records)?,
                attempts: rows(conn, seal, Part::Attempts, begin.attempts, link.last.attempts)?,
            },
        };
        looked_at += there.records.count + there.attempts.count;
        begin = link.last;
        found.push(FoundLink { link, found: there });
    }
    let after = match links.next() {
        Some(_) => None,
        None => Some(Parts {
            records: count_after(conn, Part::Records, begin.records)?,
            attempts: count_after(conn, Part::Attempts, begin.attempts)?,
        }),
    };
    Ok(ChainPage { cut, links: found, after })
}

fn counted(conn: &Connection, last: Parts<Seq>) -> Result<Parts<Rows>, StoreError> {
    let rows = |part: Part| {
        Ok::<_, StoreError>(Rows { count: count(conn, part, last.of(part))?, digest: Mac::default() })
    };
    Ok(Parts { records: rows(Part::Records)?, attempts: rows(Part::Attempts)? })
}

fn cut(conn: &Connection) -> Result<Option<Cut>, StoreError> {
    let sql =
        "SELECT number, link, at, key_id, records_last, records_removed, attempts_last, attempts_removed, mac
               FROM audit_cuts WHERE node = ?1";
    let read = |row: &Row<'_>| {
        Ok(Cut {
            number: row.get(0)?,
            link: mac(row, 1)?,
            at: time(row.get(2)?),
            key_id: row.get(3)?,
            last: Parts { records: row.get(4)?, attempts: row.get(6)? },
            removed: Parts { records: row.get(5)?, attempts: row.get(7)? },
            mac: mac(row, 8)?,
        })
    };
    Ok(conn.prepare_cached(sql)?.query_row([NODE], read).optional()?)
}

/// Removes the oldest rows of a part, up to `due` at most and in whole links, and seals that. Returns how many went.
///
/// Without a chain it removes what is due. With one, and without its seal, it removes nothing: nobody could tell the cut
/// from a stranger's.
pub(super) fn remove_oldest(
    tx: &WriteTx<'_>,
    seal: Option<&dyn Seal>,
    part: Part,
    due: Due<'_>,
) -> Result<u64, StoreError> {
    let Some(newest) = last_link(tx)? else { return delete(tx, part, due.last) };
    let Some(seal) = seal else { return Ok(0) };
    let before = match cut(tx)? {
        Some(cut) => cut,
        None => nothing_cut(tx)?,
    };
    let Some(last) = whole_links(tx, part, before.last.of(part), due)? else { return Ok(0) };
    let removed = delete(tx, part, last)?;
    let mut cut = Cut { at: Utc::now(), ..before };
    let (place, total) = match part {
        Part::Records => (&mut cut.last.records, &mut cut.removed.records),
        Part::Attempts => (&mut cut.last.attempts, &mut cut.removed.attempts),
    };
    *place = last;
    *total += i64::try_from(removed).unwrap_or(i64::MAX);
    drop_links(tx, &mut cut, newest.number)?;
    keep(tx, &sealed_cut(seal, NODE, cut))?;
    Ok(removed)
}

/// What may go: the last row that is due among those that were looked at, and whether a given row is due.
#[derive(Clone, Copy)]
pub(super) struct Due<'a> {
    /// Place of the last row that is due.
    pub(super) last: Seq,
    /// Whether the row at a place is due.
    pub(super) is_due: &'a dyn Fn(Seq) -> Result<bool, StoreError>,
}

/// The cut before the first one. Where nothing was outside of the chain, nothing up to its beginning is left to cut.
fn nothing_cut(conn: &Connection) -> Result<Cut, StoreError> {
    let first = link_at(conn, 0)?;
    let last = |part| match &first {
        Some(first) if first.rows.of(part).count == 0 => first.last.of(part),
        _ => Seq::MIN,
    };
    Ok(Cut {
        number: -1,
        link: Mac::default(),
        at: Utc::now(),
        key_id: String::new(),
        last: Parts { records: last(Part::Records), attempts: last(Part::Attempts) },
        removed: Parts::default(),
        mac: Mac::default(),
    })
}

/// The place up to which whole links are due. A link with more rows than were looked at goes at once, or not at all.
fn whole_links(conn: &Connection, part: Part, cut: Seq, due: Due<'_>) -> Result<Option<Seq>, StoreError> {
    let column = match part {
        Part::Records => "records_last",
        Part::Attempts => "attempts_last",
    };
    let outside: Option<Seq> = conn
        .prepare_cached(&format!("SELECT {column} FROM audit_links WHERE node = ?1 AND number = 0"))?
        .query_row([NODE], |row| row.get(0))
        .optional()?;
    // What was there before the chain is in no link.
    if outside.is_some_and(|outside| due.last <= outside) {
        return Ok(Some(due.last));
    }
    let sql =
        format!("SELECT max({column}) FROM audit_links WHERE node = ?1 AND {column} > ?2 AND {column} <= ?3");
    let whole: Option<Seq> = conn.prepare_cached(&sql)?.query_row((NODE, cut, due.last), |row| row.get(0))?;
    if whole.is_some() {
        return Ok(whole);
    }
    let sql = format!("SELECT min({column}) FROM audit_links WHERE node = ?1 AND {column} > ?2");
    let next: Option<Seq> =
        conn.prepare_cached(&sql)?.query_row((NODE, cut.max(due.last)), |row| row.get(0))?;
    match next {
        Some(next) if (due.is_due)(next)? => Ok(Some(next)),
        _ => Ok(None),
    }
}

fn delete(conn: &Connection, part: Part, last: Seq) -> Result<u64, StoreError> {
    let (table, key, _) = table(part);
    let sql = format!("DELETE FROM {table} WHERE {key} <= ?1");
    Ok(conn.prepare_cached(&sql)?.execute([last])? as u64)
}

/// Drops the links of which no row is left, but never the newest: the next one goes on from it.
fn drop_links(conn: &Connection, cut: &mut Cut, newest: i64) -> Result<(), StoreError> {
    let sql = "SELECT number, mac FROM audit_links
               WHERE node = ?1 AND records_last <= ?2 AND attempts_last <= ?3 AND number < ?4
               ORDER BY number DESC LIMIT 1";
    let empty = conn
        .prepare_cached(sql)?
        .query_row((NODE, cut.last.records, cut.last.attempts, newest), |row| Ok((row.get(0)?, mac(row, 1)?)))
        .optional()?;
    if let Some((number, link)) = empty {
        (cut.number, cut.link) = (number, link);
        conn.prepare_cached("DELETE FROM audit_links WHERE node = ?1 AND number <= ?2")?
            .execute((NODE, number))?;
    }
    Ok(())
}

fn keep(conn: &Connection, cut: &Cut) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO audit_cuts
             (node, number, link, at, key_id, records_last, records_removed, attempts_last, attempts_removed, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute((
        NODE,
        cut.number,
        &cut.link.0,
        cut.at.timestamp_micros(),
        &cut.key_id,
        cut.last.records,
        cut.removed.records,
        cut.last.attempts,
        cut.removed.attempts,
        &cut.mac.0,
    ))?;
    Ok(())
}
