//! The audit chain's statements: its links, a stretch of it with what lies in it now, and the cut that retention makes.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connection::Conn;
use super::{limit_of, pipeline::Pipeline};
use crate::host::{
    Cell, ChainPage, Cut, FoundLink, Link, Mac, Part, Parts, Rows, RowsDigest, Seal, sealed_cut,
};
use crate::{Seq, StoreError};

/// Rows that one page of the chain looks at, as long as its first link has not more: so long one connection is busy.
const MAX_PAGE_ROWS: i64 = 20_000;

/// The seal of the chain, once the host has given it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    seal: Arc<OnceLock<Arc<dyn Seal>>>,
    turn: Arc<Mutex<()>>,
}

impl Chain {
    /// From now on each transaction that adds rows ends with a link. A second seal is not taken.
    pub(super) fn start(&self, seal: Arc<dyn Seal>) {
        let _ = self.seal.set(seal);
    }

    /// Keeps others away from both ends of the chain: while its first link counts what was there before, nothing goes.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The seal, if there is one yet.
    pub(super) fn seal(&self) -> Option<&dyn Seal> {
        self.seal.get().map(|seal| &**seal)
    }
}

/// The table of a part, the column of its rows' places, and every column in the order in which they are sealed. A column
/// that is added later is not sealed in rows from before; it needs a version of its own in the digest.
const fn table(part: Part) -> (&'static str, &'static str, &'static str) {
    match part {
        Part::Records => ("audit", "seq", "seq, node, at, kind, plugin, actor, detail, total"),
        Part::Attempts => (
            "attempts",
            "id",
            "id, node, plugin, seq, event_id, event_type, attempt, via, result, answer, sent_at, ended_at, latency_ms",
        ),
    }
}

/// The digest of a node's rows after `after` and up to `up_to`.
async fn rows(
    conn: &Conn,
    node: &str,
    seal: &dyn Seal,
    part: Part,
    after: Seq,
    up_to: Seq,
) -> Result<Rows, StoreError> {
    let mut found = Vec::new();
    if up_to > after {
        let (table, key, columns) = table(part);
        let sql = format!(
            "SELECT {columns} FROM {table} WHERE node = $1 AND {key} > $2 AND {key} <= $3 ORDER BY {key}"
        );
        found = conn.query(&sql, &[&node, &after, &up_to]).await?;
    }
    let mut digest = RowsDigest::begin(seal, part);
    for row in &found {
        digest.row((0..row.len()).map(|column| cell(row, column)));
    }
    Ok(digest.finish())
}

/// A value as it is sealed. One that cannot be read was not written by us, and fits nothing.
fn cell(row: &Row, column: usize) -> Cell<'_> {
    const UNREADABLE: Cell<'_> = Cell::Bytes(b"unreadable");
    let integer = |value: Option<i64>| value.map_or(Cell::Null, Cell::Integer);
    let read = match *row.columns()[column].type_() {
        Type::INT8 => row.try_get(column).map(integer),
        Type::INT4 => row.try_get::<_, Option<i32>>(column).map(|value| integer(value.map(i64::from))),
        Type::INT2 => row.try_get::<_, Option<i16>>(column).map(|value| integer(value.map(i64::from))),
        Type::TIMESTAMPTZ => row
            .try_get::<_, Option<DateTime<Utc>>>(column)
            .map(|value| integer(value.map(|at| at.timestamp_micros()))),
        Type::TEXT => row
            .try_get::<_, Option<&str>>(column)
            .map(|value| value.map_or(Cell::Null, |text| Cell::Bytes(text.as_bytes()))),
        _ => return UNREADABLE,
    };
    read.unwrap_or(UNREADABLE)
}

/// How many rows of a node there are up to a place.
pub(super) async fn count(conn: &Conn, node: &str, part: Part, up_to: Seq) -> Result<i64, StoreError> {
    let (table, key, _) = table(part);
    let sql = format!("SELECT count(*) FROM {table} WHERE node = $1 AND {key} <= $2");
    Ok(conn.one(&sql, &[&node, &up_to]).await?.try_get(0)?)
}

async fn count_after(conn: &Conn, node: &str, part: Part, after: Seq) -> Result<i64, StoreError> {
    let (table, key, _) = table(part);
    let sql = format!("SELECT count(*) FROM {table} WHERE node = $1 AND {key} > $2");
    Ok(conn.one(&sql, &[&node, &after]).await?.try_get(0)?)
}

const LINK: &str = "SELECT number, at, key_id, records_last, records_count, records_digest,
                           attempts_last, attempts_count, attempts_digest, mac FROM audit_links";

/// The newest link.
pub(super) async fn last_link(conn: &Conn, node: &str) -> Result<Option<Link>, StoreError> {
    let sql = format!("{LINK} WHERE node = $1 ORDER BY number DESC LIMIT 1");
    conn.maybe(&sql, &[&node]).await?.as_ref().map(link).transpose()
}

/// One link by its number.
pub(super) async fn link_at(conn: &Conn, node: &str, number: i64) -> Result<Option<Link>, StoreError> {
    let sql = format!("{LINK} WHERE node = $1 AND number = $2");
    conn.maybe(&sql, &[&node, &number]).await?.as_ref().map(link).transpose()
}

/// Adds the statement that writes a link.
pub(super) fn insert(pipeline: &mut Pipeline, node: &str, link: &Link) {
    let sql =
        "INSERT INTO audit_links (node, number, at, key_id, records_last, records_count, records_digest,
                                        attempts_last, attempts_count, attempts_digest, mac)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let Rows { count: records, digest: records_digest } = link.rows.records;
    let Rows { count: attempts, digest: attempts_digest } = link.rows.attempts;
    pipeline.add(
        sql,
        vec![
            Box::new(node.to_owned()),
            Box::new(link.number),
            Box::new(link.at),
            Box::new(link.key_id.clone()),
            Box::new(link.last.records),
            Box::new(records),
            Box::new(records_digest.0.to_vec()),
            Box::new(link.last.attempts),
            Box::new(attempts),
            Box::new(attempts_digest.0.to_vec()),
            Box::new(link.mac.0.to_vec()),
        ],
    );
}

fn link(row: &Row) -> Result<Link, StoreError> {
    Ok(Link {
        number: row.try_get(0)?,
        at: row.try_get(1)?,
        key_id: row.try_get(2)?,
        last: Parts { records: row.try_get(3)?, attempts: row.try_get(6)? },
        rows: Parts {
            records: Rows { count: row.try_get(4)?, digest: mac(row, 5)? },
            attempts: Rows { count: row.try_get(7)?, digest: mac(row, 8)? },
        },
        mac: mac(row, 9)?,
    })
}

/// A digest in a column. One of another length was not written by us; it is shown as one that fits nothing.
fn mac(row: &Row, column: usize) -> Result<Mac, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    Ok(Mac(bytes.try_into().unwrap_or_default()))
}

/// A [`page`] in a transaction of its own, which sees one state of the database. Of a connection on which it failed nobody
/// may make further use.
pub(super) async fn snapshot(
    conn: &Conn,
    node: &str,
    seal: &dyn Seal,
    after: i64,
    limit: usize,
) -> Result<ChainPage, StoreError> {
    let read = async {
        conn.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let page = page(conn, node, seal, after, limit).await?;
        conn.batch("COMMIT").await?;
        Ok(page)
    };
    read.await.map_err(|error: StoreError| error.during("read the audit chain"))
}

/// The links after `after` with what lies in their ranges now, at most `limit`. The transaction that this runs in is one
/// snapshot.
async fn page(
    conn: &Conn,
    node: &str,
    seal: &dyn Seal,
    after: i64,
    limit: usize,
) -> Result<ChainPage, StoreError> {
    let cut = cut(conn, node).await?;
    // The link before, where it is kept, says where the first one of the page begins.
    let sql = format!("{LINK} WHERE node = $1 AND number >= $2 ORDER BY number LIMIT $3");
    let links = conn.query(&sql, &[&node, &after, &limit_of(limit.saturating_add(2))]).await?;
    let links = links.iter().map(link).collect::<Result<Vec<_>, _>>()?;
    let mut links = links.into_iter().peekable();
    let mut begin = Parts { records: Seq::MIN, attempts: Seq::MIN };
    if let Some(before) = links.next_if(|link| link.number == after) {
        begin = before.last;
    }
    let mut found = Vec::new();
    let mut looked_at = 0;
    while let Some(link) = links.next_if(|_| found.len() < limit && looked_at < MAX_PAGE_ROWS) {
        let there = match link.number {
            0 => counted(conn, node, link.last).await?,
            _ => Parts {
                records: rows(conn, node, seal, Part::Records, begin.records, link.last.records).await?,
                attempts: rows(conn, node, seal, Part::Attempts, begin.attempts, link.last.attempts).await?,
            },
        };
        looked_at += there.records.count + there.attempts.count;
        begin = link.last;
        found.push(FoundLink { link, found: there });
    }
    let after = match links.next() {
        Some(_) => None,
        None => Some(Parts {
            records: count_after(conn, node, Part::Records, begin.records).await?,
            attempts: count_after(conn, node, Part::Attempts, begin.attempts).await?,
        }),
    };
    Ok(ChainPage { cut, links: found, after })
}

async fn counted(conn: &Conn, node: &str, last: Parts<Seq>) -> Result<Parts<Rows>, StoreError> {
    let rows = |count| Rows { count, digest: Mac::default() };
    Ok(Parts {
        records: rows(count(conn, node, Part::Records, last.records).await?),
        attempts: rows(count(conn, node, Part::Attempts, last.attempts).await?),
    })
}

async fn cut(conn: &Conn, node: &str) -> Result<Option<Cut>, StoreError> {
    let sql =
        "SELECT number, link, at, key_id, records_last, records_removed, attempts_last, attempts_removed, mac
         FROM audit_cuts WHERE node = $1";
    let read = |row: Row| {
        Ok(Cut {
            number: row.try_get(0)?,
            link: mac(&row, 1)?,
            at: row.try_get(2)?,
            key_id: row.try_get(3)?,
            last: Parts { records: row.try_get(4)?, attempts: row.try_get(6)? },
            removed: Parts { records: row.try_get(5)?, attempts: row.try_get(7)? },
            mac: mac(&row, 8)?,
        })
    };
    conn.maybe(sql, &[&node]).await?.map(read).transpose()
}

/// What may go: the last row that is due among those that were looked at, and how to ask whether the row at a place is
/// due: a statement that is given the node, the place, and `values`.
pub(super) struct Due<'a> {
    /// Place of the last row that is due.
    pub(super) last: Seq,
    /// Asks about one row.
    pub(super) is_due: &'a str,
    /// Further values of the statement, from `$3` on.
    pub(super) values: &'a [&'a (dyn tokio_postgres::types::ToSql + Sync)],
}

/// Removes the oldest rows of a part, up to `due` at most and in whole links, and seals that. Returns how many went.
///
/// Without a chain it removes what is due. With one, and without its seal, it removes nothing: nobody could tell the cut
/// from a stranger's.
pub(super) async fn remove_oldest(
    conn: &Conn,
    node: &str,
    seal: Option<&dyn Seal>,
    part: Part,
    due: Due<'_>,
) -> Result<u64, StoreError> {
    let Some(newest) = last_link(conn, node).await? else { return delete(conn, node, part, due.last).await };
    let Some(seal) = seal else { return Ok(0) };
    let before = match cut(conn, node).await? {
        Some(cut) => cut,
        None => nothing_cut(conn, node).await?,
    };
    let Some(last) = whole_links(conn, node, part, before.last.of(part), due).await? else { return Ok(0) };
    let removed = delete(conn, node, part, last).await?;
    let mut cut = Cut { at: micros(Utc::now()), ..before };
    let (place, total) = match part {
        Part::Records => (&mut cut.last.records, &mut cut.removed.records),
        Part::Attempts => (&mut cut.last.attempts, &mut cut.removed.attempts),
    };
    *place = last;
    *total += i64::try_from(removed).unwrap_or(i64::MAX);
    drop_links(conn, node, &mut cut, newest.number).await?;
    keep(conn, node, &sealed_cut(seal, node, cut)).await?;
    Ok(removed)
}

/// The cut before the first one. Where nothing was outside of the chain, nothing up to its beginning is left to cut.
async fn nothing_cut(conn: &Conn, node: &str) -> Result<Cut, StoreError> {
    let first = link_at(conn, node, 0).await?;
    let last = |part| match &first {
        Some(first) if first.rows.of(part).count == 0 => first.last.of(part),
        _ => Seq::MIN,
    };
    Ok(Cut {
        number: -1,
        link: Mac::default(),
        at: micros(Utc::now()),
        key_id: String::new(),
        last: Parts { records: last(Part::Records), attempts: last(Part::Attempts) },
        removed: Parts::default(),
        mac: Mac::default(),
    })
}

/// The place up to which whole links are due. A link with more rows than were looked at goes at once, or not at all.
async fn whole_links(
    conn: &Conn,
    node: &str,
    part: Part,
    cut: Seq,
    due: Due<'_>,
) -> Result<Option<Seq>, StoreError> {
    let column = match part {
        Part::Records => "records_last",
        Part::Attempts => "attempts_last",
    };
    let sql = format!("SELECT {column} FROM audit_links WHERE node = $1 AND number = 0");
    let outside = conn.maybe(&sql, &[&node]).await?.map(|row| row.try_get::<_, Seq>(0)).transpose()?;
    // What was there before the chain is in no link.
    if outside.is_some_and(|outside| due.last <= outside) {
        return Ok(Some(due.last));
    }
    let sql =
        format!("SELECT max({column}) FROM audit_links WHERE node = $1 AND {column} > $2 AND {column} <= $3");
    if let Some(whole) = conn.one(&sql, &[&node, &cut, &due.last]).await?.try_get(0)? {
        return Ok(Some(whole));
    }
    let sql = format!("SELECT min({column}) FROM audit_links WHERE node = $1 AND {column} > $2");
    let next: Option<Seq> = conn.one(&sql, &[&node, &cut.max(due.last)]).await?.try_get(0)?;
    let Some(next) = next else { return Ok(None) };
    let mut values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![&node, &next];
    values.extend(due.values);
    let is_due = conn.maybe(due.is_due, &values).await?.map(|row| row.try_get(0)).transpose()?;
    Ok(is_due.unwrap_or(false).then_some(next))
}

async fn delete(conn: &Conn, node: &str, part: Part, last: Seq) -> Result<u64, StoreError> {
    let (table, key, _) = table(part);
    conn.execute(&format!("DELETE FROM {table} WHERE node = $1 AND {key} <= $2"), &[&node, &last]).await
}

/// Drops the links of which no row is left, but never the newest: the next one goes on from it.
async fn drop_links(conn: &Conn, node: &str, cut: &mut Cut, newest: i64) -> Result<(), StoreError> {
    let sql = "SELECT number, mac FROM audit_links
               WHERE node = $1 AND records_last <= $2 AND attempts_last <= $3 AND number < $4
               ORDER BY number DESC LIMIT 1";
    let empty = conn.maybe(sql, &[&node, &cut.last.records, &cut.last.attempts, &newest]).await?;
    if let Some(row) = empty {
        (cut.number, cut.link) = (row.try_get(0)?, mac(&row, 1)?);
        conn.execute("DELETE FROM audit_links WHERE node = $1 AND number <= $2", &[&node, &cut.number])
            .await?;
    }
    Ok(())
}

async fn keep(conn: &Conn, node: &str, cut: &Cut) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit_cuts
            (node, number, link, at, key_id, records_last, records_removed, attempts_last, attempts_removed, mac)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (node) DO UPDATE SET number = excluded.number, link = excluded.link, at = excluded.at,
            key_id = excluded.key_id, records_last = excluded.records_last,
            records_removed = excluded.records_removed, attempts_last = excluded.attempts_last,
            attempts_removed = excluded.attempts_removed, mac = excluded.mac";
    conn.execute(
        sql,
        &[
            &node,
            &cut.number,
            &cut.link.0.as_slice(),
            &cut.at,
            &cut.key_id,
            &cut.last.records,
            &cut.removed.records,
            &cut.last.attempts,
            &cut.removed.attempts,
            &cut.mac.0.as_slice(),
        ],
    )
    .await?;
    Ok(())
}

/// A time as the database keeps it, so that what is sealed is what is read.
pub(super) fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}
