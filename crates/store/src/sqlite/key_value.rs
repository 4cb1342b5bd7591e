//! Key-value storage, in SQLite. The one writer makes each look and the write after it one step.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row};

use super::journal::time;
use super::{SqliteStore, WriteTx};
use crate::{
    KeyValueStore, KvDeleted, KvEntry, KvPage, KvPut, KvQuery, KvQuota, KvUsage, KvWritten,
    MAX_KV_PAGE_BYTES, Revision, StoreError,
};

/// Entries that one commit of a sweep removes; the writer is free for others in between.
const ROWS_PER_SWEEP: i64 = 500;

/// Bytes of a page that an entry takes beside its key and value: field names, revision, times.
const ENTRY_OVERHEAD: usize = 128;

#[async_trait]
impl KeyValueStore for SqliteStore {
    async fn kv_get(
        &self,
        plugin: &str,
        key: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<KvEntry>, StoreError> {
        let (plugin, key) = (plugin.to_owned(), key.to_owned());
        self.read("read an entry of a plugin's storage", move |conn| get(conn, &plugin, &key, now)).await
    }

    async fn kv_put(
        &self,
        plugin: &str,
        put: KvPut,
        quota: KvQuota,
        now: DateTime<Utc>,
    ) -> Result<KvWritten, StoreError> {
        let plugin = plugin.to_owned();
        let work = move |tx: &WriteTx<'_>| write(tx, &plugin, &put, quota, now);
        self.write("write to a plugin's storage", work).await
    }

    async fn kv_delete(
        &self,
        plugin: &str,
        key: &str,
        expected: Option<Revision>,
        now: DateTime<Utc>,
    ) -> Result<KvDeleted, StoreError> {
        let (plugin, key) = (plugin.to_owned(), key.to_owned());
        let work = move |tx: &WriteTx<'_>| delete(tx, &plugin, &key, expected, now);
        self.write("delete from a plugin's storage", work).await
    }

    async fn kv_list(&self, plugin: &str, query: KvQuery, now: DateTime<Utc>) -> Result<KvPage, StoreError> {
        let plugin = plugin.to_owned();
        self.read("list a plugin's storage", move |conn| list(conn, &plugin, &query, now)).await
    }

    async fn kv_usage(&self, plugin: &str, now: DateTime<Utc>) -> Result<KvUsage, StoreError> {
        let plugin = plugin.to_owned();
        self.read("measure a plugin's storage", move |conn| {
            let kept = usage(conn, &plugin)?;
            let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM key_values WHERE plugin = ?1 AND expires_at <= ?2";
            let ended = conn
                .prepare_cached(sql)?
                .query_row((&plugin, now.timestamp_micros()), |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(kept.without(ended).told())
        })
        .await
    }

    async fn kv_clear(&self, plugin: &str) -> Result<u64, StoreError> {
        let plugin = plugin.to_owned();
        self.write("clear a plugin's storage", move |tx| {
            let gone = tx.prepare_cached("DELETE FROM key_values WHERE plugin = ?1")?.execute([&plugin])?;
            let usage = usage(tx, &plugin)?;
            put_usage(tx, &plugin, Usage { entries: 0, bytes: 0, ..usage })?;
            Ok(gone as u64)
        })
        .await
    }

    async fn kv_sweep(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        self.write("remove what has ended from plugins' storage", move |tx| sweep(tx, now)).await
    }
}

/// A plugin's row of `key_value_usage`; zeros when there is none.
#[derive(Clone, Copy, Default)]
struct Usage {
    revision: Revision,
    entries: i64,
    bytes: i64,
}

impl Usage {
    fn without(self, (entries, bytes): (i64, i64)) -> Self {
        Self { entries: self.entries - entries, bytes: self.bytes - bytes, ..self }
    }

    fn fits(self, quota: KvQuota) -> bool {
        self.entries.unsigned_abs() <= quota.entries && self.bytes.unsigned_abs() <= quota.bytes
    }

    fn told(self) -> KvUsage {
        KvUsage { entries: self.entries.unsigned_abs(), bytes: self.bytes.unsigned_abs() }
    }
}

fn usage(conn: &Connection, plugin: &str) -> Result<Usage, StoreError> {
    let sql = "SELECT revision, entries, bytes FROM key_value_usage WHERE plugin = ?1";
    let read = |row: &Row<'_>| Ok(Usage { revision: row.get(0)?, entries: row.get(1)?, bytes: row.get(2)? });
    Ok(conn.prepare_cached(sql)?.query_row([plugin], read).optional()?.unwrap_or_default())
}

fn put_usage(tx: &WriteTx<'_>, plugin: &str, usage: Usage) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO key_value_usage (plugin, revision, entries, bytes) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (plugin) DO UPDATE SET revision = excluded.revision, entries = excluded.entries,
             bytes = excluded.bytes",
    )?
    .execute((plugin, usage.revision, usage.entries, usage.bytes))?;
    Ok(())
}

const ENTRY: &str = "SELECT key, value, revision, updated_at, expires_at FROM key_values";

fn entry(row: &Row<'_>) -> rusqlite::Result<KvEntry> {
    Ok(KvEntry {
        key: row.get(0)?,
        value: Some(row.get(1)?),
        revision: row.get(2)?,
        updated_at: time(row.get(3)?),
        expires_at: row.get::<_, Option<i64>>(4)?.map(time),
    })
}

fn get(
    conn: &Connection,
    plugin: &str,
    key: &str,
    now: DateTime<Utc>,
) -> Result<Option<KvEntry>, StoreError> {
    let sql = format!("{ENTRY} WHERE plugin = ?1 AND key = ?2 AND (expires_at IS NULL OR expires_at > ?3)");
    Ok(conn.prepare_cached(&sql)?.query_row((plugin, key, now.timestamp_micros()), entry).optional()?)
}

/// What a key has now, whether it has ended or not: revision (0 for one that has ended) and bytes.
fn present(
    conn: &Connection,
    plugin: &str,
    key: &str,
    now: DateTime<Utc>,
) -> Result<Option<(Revision, i64)>, StoreError> {
    let sql = "SELECT CASE WHEN expires_at <= ?3 THEN 0 ELSE revision END, bytes
               FROM key_values WHERE plugin = ?1 AND key = ?2";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(conn.prepare_cached(sql)?.query_row((plugin, key, now.timestamp_micros()), read).optional()?)
}

fn write(
    tx: &WriteTx<'_>,
    plugin: &str,
    put: &KvPut,
    quota: KvQuota,
    now: DateTime<Utc>,
) -> Result<KvWritten, StoreError> {
    let before = present(tx, plugin, &put.key, now)?;
    let revision = before.map_or(0, |(revision, _)| revision);
    if put.expected.is_some_and(|expected| expected != revision) {
        return Ok(KvWritten::Conflict(revision));
    }
    let bytes = i64::try_from(put.key.len() + put.value.len()).unwrap_or(i64::MAX);
    let mut kept = usage(tx, plugin)?;
    let with_it = |kept: Usage, before: Option<(Revision, i64)>| {
        let kept = before.map_or(kept, |(_, bytes)| kept.without((1, bytes)));
        Usage { revision: kept.revision + 1, entries: kept.entries + 1, bytes: kept.bytes + bytes }
    };
    let mut after = with_it(kept, before);
    if !after.fits(quota) {
        // What has ended takes no room from what is to come.
        kept = drop_ended(tx, plugin, kept, now)?;
        after = with_it(kept, before.filter(|(revision, _)| *revision > 0));
    }
    // Less than before is always let in, also where the quota was lowered.
    let shrinks = after.entries <= kept.entries && after.bytes <= kept.bytes;
    if !after.fits(quota) && !shrinks {
        tx.roll_back();
        return Ok(KvWritten::QuotaExceeded(kept.told()));
    }
    tx.prepare_cached(
        "INSERT INTO key_values (plugin, key, value, revision, updated_at, expires_at, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (plugin, key) DO UPDATE SET value = excluded.value, revision = excluded.revision,
             updated_at = excluded.updated_at, expires_at = excluded.expires_at, bytes = excluded.bytes",
    )?
    .execute((
        plugin,
        &put.key,
        &put.value,
        after.revision,
        now.timestamp_micros(),
        put.expires_at.map(|at| at.timestamp_micros()),
        bytes,
    ))?;
    put_usage(tx, plugin, after)?;
    Ok(KvWritten::Written(after.revision))
}

fn drop_ended(tx: &WriteTx<'_>, plugin: &str, kept: Usage, now: DateTime<Utc>) -> Result<Usage, StoreError> {
    let sql = "DELETE FROM key_values WHERE plugin = ?1 AND expires_at <= ?2 RETURNING bytes";
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query_map((plugin, now.timestamp_micros()), |row| row.get::<_, i64>(0))?;
    let mut kept = kept;
    for bytes in rows {
        kept = kept.without((1, bytes?));
    }
    Ok(kept)
}

fn delete(
    tx: &WriteTx<'_>,
    plugin: &str,
    key: &str,
    expected: Option<Revision>,
    now: DateTime<Utc>,
) -> Result<KvDeleted, StoreError> {
    let Some((revision, bytes)) = present(tx, plugin, key, now)?.filter(|(revision, _)| *revision > 0) else {
        return Ok(if expected.is_some_and(|expected| expected > 0) {
            KvDeleted::Conflict(0)
        } else {
            KvDeleted::Absent
        });
    };
    if expected.is_some_and(|expected| expected != revision) {
        return Ok(KvDeleted::Conflict(revision));
    }
    tx.prepare_cached("DELETE FROM key_values WHERE plugin = ?1 AND key = ?2")?.execute((plugin, key))?;
    let kept = usage(tx, plugin)?;
    put_usage(tx, plugin, kept.without((1, bytes)))?;
    Ok(KvDeleted::Deleted)
}

fn list(conn: &Connection, plugin: &str, query: &KvQuery, now: DateTime<Utc>) -> Result<KvPage, StoreError> {
    // Keys are compared by their bytes, so those with one prefix stand together.
    let sql = format!(
        "{ENTRY} WHERE plugin = ?1 AND key >= ?2 AND key > ?3 AND (expires_at IS NULL OR expires_at > ?4)
         ORDER BY key"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let after = query.after.as_deref().unwrap_or_default();
    let mut rows = statement.query((plugin, &query.prefix, after, now.timestamp_micros()))?;
    let mut page = KvPage::default();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let mut entry = entry(row)?;
        if !entry.key.starts_with(&query.prefix) {
            break;
        }
        entry.value = entry.value.filter(|_| query.values);
        bytes += entry.key.len() + entry.value.as_ref().map_or(0, String::len) + ENTRY_OVERHEAD;
        let full = page.entries.len() >= query.limit || bytes > MAX_KV_PAGE_BYTES;
        if full && !page.entries.is_empty() {
            page.more = true;
            break;
        }
        page.entries.push(entry);
    }
    Ok(page)
}

fn sweep(tx: &WriteTx<'_>, now: DateTime<Utc>) -> Result<u64, StoreError> {
    let mut statement = tx.prepare_cached(
        "DELETE FROM key_values WHERE rowid IN (
             SELECT rowid FROM key_values WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
         ) RETURNING plugin, bytes",
    )?;
    let rows = statement
        .query_map((now.timestamp_micros(), ROWS_PER_SWEEP), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let ended: Vec<(String, i64)> = rows.collect::<Result<_, _>>()?;
    for (plugin, bytes) in &ended {
        put_usage(tx, plugin, usage(tx, plugin)?.without((1, *bytes)))?;
    }
    Ok(ended.len() as u64)
}
