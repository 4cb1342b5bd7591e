//! Configuration of plugins, in SQLite: one row for each plugin.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::chain::NODE;
use super::journal::time;
use super::{SqliteStore, WriteTx};
use crate::{ConfigRecord, ConfigStore, Revision, StoreError};

#[async_trait]
impl ConfigStore for SqliteStore {
    fn node(&self) -> &str {
        NODE
    }

    async fn config(&self, plugin: &str) -> Result<Option<ConfigRecord>, StoreError> {
        let plugin = plugin.to_owned();
        self.read("read a plugin's configuration", move |conn| config(conn, &plugin)).await
    }

    async fn put_config(&self, plugin: &str, record: ConfigRecord) -> Result<bool, StoreError> {
        let plugin = plugin.to_owned();
        self.write("write a plugin's configuration", move |tx| put_config(tx, &plugin, &record)).await
    }
}

fn config(conn: &Connection, plugin: &str) -> Result<Option<ConfigRecord>, StoreError> {
    let sql = "SELECT settings, revision, updated_at, updated_by FROM plugin_config WHERE plugin = ?1";
    let row = conn
        .prepare_cached(sql)?
        .query_row([plugin], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, time(row.get(2)?), row.get(3)?))
        })
        .optional()?;
    row.map(|(settings, revision, updated_at, updated_by)| {
        let settings = serde_json::from_str(&settings).map_err(|e| StoreError::Database {
            action: "read a plugin's configuration",
            reason: format!("the configuration of {plugin} is damaged at column {}", e.column()),
        })?;
        Ok(ConfigRecord { settings, revision, updated_at, updated_by })
    })
    .transpose()
}

fn put_config(tx: &WriteTx<'_>, plugin: &str, record: &ConfigRecord) -> Result<bool, StoreError> {
    let present: Option<Revision> = tx
        .prepare_cached("SELECT revision FROM plugin_config WHERE plugin = ?1")?
        .query_row([plugin], |row| row.get(0))
        .optional()?;
    if record.revision != present.unwrap_or(0) + 1 {
        return Ok(false);
    }
    let settings = serde_json::to_string(&record.settings).map_err(|e| StoreError::Database {
        action: "write a plugin's configuration",
        reason: e.to_string(),
    })?;
    tx.prepare_cached(
        "INSERT INTO plugin_config (plugin, settings, revision, updated_at, updated_by) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (plugin) DO UPDATE SET settings = excluded.settings, revision = excluded.revision,
             updated_at = excluded.updated_at, updated_by = excluded.updated_by",
    )?
    .execute((plugin, settings, record.revision, record.updated_at.timestamp_micros(), &record.updated_by))?;
    Ok(true)
}
