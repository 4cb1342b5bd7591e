//! Key-value storage of this node's plugins. Each write is one function at the server, which holds the plugin's row of
//! usage from its look to its commit.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{PostgresStore, limit_of};
use crate::{
    KeyValueStore, KvDeleted, KvEntry, KvPage, KvPut, KvQuery, KvQuota, KvUsage, KvWritten,
    MAX_KV_PAGE_BYTES, Revision, StoreError,
};

/// Entries that one commit of a sweep removes.
const ROWS_PER_SWEEP: i64 = 500;

/// Bytes of a page that an entry takes beside its key and value: field names, revision, times.
const ENTRY_OVERHEAD: usize = 128;

#[async_trait]
impl KeyValueStore for PostgresStore {
    async fn kv_get(
        &self,
        plugin: &str,
        key: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<KvEntry>, StoreError> {
        let sql = "SELECT key, value, revision, updated_at, expires_at FROM key_values
                   WHERE node = $1 AND plugin = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > $4)";
        let on = self.read("read an entry of a plugin's storage");
        on.maybe(sql, &[&self.node(), &plugin, &key, &now]).await?.as_ref().map(entry).transpose()
    }

    async fn kv_put(
        &self,
        plugin: &str,
        put: KvPut,
        quota: KvQuota,
        now: DateTime<Utc>,
    ) -> Result<KvWritten, StoreError> {
        let most = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (entries, bytes) = (most(quota.entries), most(quota.bytes));
        let KvPut { key, value, expires_at, expected } = put;
        let sql = "SELECT outcome, revision, entries, bytes FROM kv_put($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let row = self
            .write("write to a plugin's storage")
            .one(sql, &[&self.node(), &plugin, &key, &value, &expires_at, &expected, &entries, &bytes, &now])
            .await?;
        Ok(match row.try_get::<_, i32>(0)? {
            1 => KvWritten::Written(row.try_get(1)?),
            2 => KvWritten::Conflict(row.try_get(1)?),
            _ => KvWritten::QuotaExceeded(usage(row.try_get(2)?, row.try_get(3)?)),
        })
    }

    async fn kv_delete(
        &self,
        plugin: &str,
        key: &str,
        expected: Option<Revision>,
        now: DateTime<Utc>,
    ) -> Result<KvDeleted, StoreError> {
        let sql = "SELECT is_gone, has FROM kv_delete($1, $2, $3, $4, $5)";
        let on = self.write("delete from a plugin's storage");
        let row = on.one(sql, &[&self.node(), &plugin, &key, &expected, &now]).await?;
        Ok(match (row.try_get(0)?, row.try_get(1)?) {
            (true, _) => KvDeleted::Deleted,
            (false, 0) if expected.is_none_or(|expected| expected == 0) => KvDeleted::Absent,
            (false, revision) => KvDeleted::Conflict(revision),
        })
    }

    async fn kv_list(&self, plugin: &str, query: KvQuery, now: DateTime<Utc>) -> Result<KvPage, StoreError> {
        // The server leaves off what is too much, so that it is not sent; one entry always fits.
        let value = if query.values { "value" } else { "NULL::TEXT AS value" };
        let sized = if query.values { "octet_length(value)" } else { "0" };
        let sql = format!(
            "SELECT key, {value}, revision, updated_at, expires_at, candidates
             FROM (SELECT *, count(*) OVER () AS candidates, row_number() OVER so_far AS nth,
                          sum(octet_length(key) + {sized} + {ENTRY_OVERHEAD}) OVER so_far AS size
                   FROM (SELECT key, value, revision, updated_at, expires_at FROM key_values
                         WHERE node = $1 AND plugin = $2 AND key >= $3 AND key > $4 AND starts_with(key, $3)
                           AND (expires_at IS NULL OR expires_at > $5)
                         ORDER BY key LIMIT $6) AS candidates_of
                   WINDOW so_far AS (ORDER BY key ROWS UNBOUNDED PRECEDING)) AS sizes
             WHERE nth = 1 OR (size <= {MAX_KV_PAGE_BYTES} AND nth < $6) ORDER BY key"
        );
        let after = query.after.as_deref().unwrap_or_default();
        let one_more = limit_of(query.limit.max(1).saturating_add(1));
        let rows = self
            .read("list a plugin's storage")
            .query(&sql, &[&self.node(), &plugin, &query.prefix, &after, &now, &one_more])
            .await?;
        let entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let candidates: i64 = rows.first().map(|row| row.try_get(5)).transpose()?.unwrap_or(0);
        let more = limit_of(entries.len()) < candidates;
        Ok(KvPage { entries, more })
    }

    async fn kv_usage(&self, plugin: &str, now: DateTime<Utc>) -> Result<KvUsage, StoreError> {
        let sql = "SELECT coalesce((SELECT entries FROM key_value_usage WHERE node = $1 AND plugin = $2), 0) - count(*),
                coalesce((SELECT bytes FROM key_value_usage WHERE node = $1 AND plugin = $2), 0)
                    - coalesce(sum(bytes), 0)::BIGINT
            FROM key_values WHERE node = $1 AND plugin = $2 AND expires_at <= $3";
        let row = self.read("measure a plugin's storage").one(sql, &[&self.node(), &plugin, &now]).await?;
        Ok(usage(row.try_get(0)?, row.try_get(1)?))
    }

    async fn kv_clear(&self, plugin: &str) -> Result<u64, StoreError> {
        let on = self.write("clear a plugin's storage");
        count(&on.one("SELECT kv_clear($1, $2)", &[&self.node(), &plugin]).await?)
    }

    async fn kv_sweep(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let on = self.write("remove what has ended from plugins' storage");
        count(&on.one("SELECT kv_sweep($1, $2, $3)", &[&self.node(), &now, &ROWS_PER_SWEEP]).await?)
    }
}

fn entry(row: &Row) -> Result<KvEntry, StoreError> {
    Ok(KvEntry {
        key: row.try_get(0)?,
        value: row.try_get(1)?,
        revision: row.try_get(2)?,
        updated_at: row.try_get(3)?,
        expires_at: row.try_get(4)?,
    })
}

fn usage(entries: i64, bytes: i64) -> KvUsage {
    KvUsage { entries: entries.unsigned_abs(), bytes: bytes.unsigned_abs() }
}

fn count(row: &Row) -> Result<u64, StoreError> {
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
}
