//! What is known of plugins, in SQLite: names, grants, inspections, wire ids.

use async_trait::async_trait;
use chrono::Utc;
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

use super::journal::time;
use super::{SqliteStore, WriteTx, json_of};
use crate::{GrantRecord, PluginRecord, PluginStore, StoreError};

#[async_trait]
impl PluginStore for SqliteStore {
    async fn plugins(&self) -> Result<Vec<PluginRecord>, StoreError> {
        self.read("list plugins", plugins).await
    }

    async fn put_plugin(&self, record: PluginRecord) -> Result<(), StoreError> {
        self.write("write a plugin's record", move |tx| put_plugin(tx, &record)).await
    }

    async fn grants(&self, plugin: &str) -> Result<Vec<GrantRecord>, StoreError> {
        let plugin = plugin.to_owned();
        self.read("read grants", move |conn| grants(conn, &plugin)).await
    }

    async fn add_grants(&self, grants: Vec<GrantRecord>) -> Result<(), StoreError> {
        self.write("write grants", move |tx| add_grants(tx, &grants)).await
    }

    async fn revoke_grant(&self, plugin: &str, kind: &str, value: &str) -> Result<bool, StoreError> {
        let grant = [plugin.to_owned(), kind.to_owned(), value.to_owned()];
        self.write("take a grant back", move |tx| {
            let sql = "DELETE FROM grants WHERE plugin = ?1 AND kind = ?2 AND value = ?3";
            Ok(tx.prepare_cached(sql)?.execute(grant)? > 0)
        })
        .await
    }

    async fn inspection(&self, hash: &str) -> Result<Option<Value>, StoreError> {
        let hash = hash.to_owned();
        self.read("look up an inspection", move |conn| {
            let sql = "SELECT manifest FROM inspections WHERE hash = ?1";
            let text: Option<String> =
                conn.prepare_cached(sql)?.query_row([&hash], |row| row.get(0)).optional()?;
            text.map(|text| json_of(&text)).transpose()
        })
        .await
    }

    async fn put_inspection(&self, hash: &str, manifest: Value) -> Result<(), StoreError> {
        let hash = hash.to_owned();
        self.write("write an inspection", move |tx| {
            tx.prepare_cached(
                "INSERT INTO inspections (hash, manifest, inspected_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (hash) DO UPDATE SET manifest = excluded.manifest, inspected_at = excluded.inspected_at",
            )?
            .execute((&hash, manifest.to_string(), Utc::now().timestamp_micros()))?;
            Ok(())
        })
        .await
    }

    async fn wire_id(&self, kind: &str, external_id: &str) -> Result<i32, StoreError> {
        let key = (kind.to_owned(), external_id.to_owned());
        let asked = key.clone();
        let known = self.read("look up an id", move |conn| wire_id(conn, &asked.0, &asked.1)).await?;
        match known {
            Some(id) => Ok(id),
            None => self.write("give out an id", move |tx| make_wire_id(tx, &key.0, &key.1)).await,
        }
    }

    async fn external_id(&self, kind: &str, wire_id: i32) -> Result<Option<String>, StoreError> {
        let kind = kind.to_owned();
        self.read("look up an id", move |conn| {
            let sql = "SELECT external_id FROM wire_ids WHERE kind = ?1 AND wire_id = ?2";
            Ok(conn.prepare_cached(sql)?.query_row((&kind, wire_id), |row| row.get(0)).optional()?)
        })
        .await
    }
}

fn plugins(conn: &Connection) -> Result<Vec<PluginRecord>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT name, file, hash, enabled, first_seen_at, subscribed_from, manifest FROM plugins ORDER BY name",
    )?;
    let rows = statement
        .query_map([], |row| Ok((plugin_without_manifest(row)?, row.get::<_, Option<String>>(6)?)))?;
    rows.map(|row| {
        let (mut record, manifest) = row?;
        record.manifest = manifest.map(|text| json_of(&text)).transpose()?;
        Ok(record)
    })
    .collect()
}

fn plugin_without_manifest(row: &Row<'_>) -> rusqlite::Result<PluginRecord> {
    Ok(PluginRecord {
        name: row.get(0)?,
        file: row.get(1)?,
        hash: row.get(2)?,
        manifest: None,
        enabled: row.get(3)?,
        first_seen_at: time(row.get(4)?),
        subscribed_from: row.get(5)?,
    })
}

fn put_plugin(tx: &WriteTx<'_>, record: &PluginRecord) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO plugins (name, file, hash, manifest, enabled, first_seen_at, subscribed_from)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (name) DO UPDATE SET file = excluded.file, hash = excluded.hash, manifest = excluded.manifest,
             enabled = excluded.enabled, first_seen_at = excluded.first_seen_at,
             subscribed_from = excluded.subscribed_from",
    )?
    .execute((
        &record.name,
        &record.file,
        &record.hash,
        record.manifest.as_ref().map(Value::to_string),
        record.enabled,
        record.first_seen_at.timestamp_micros(),
        record.subscribed_from,
    ))?;
    Ok(())
}

fn grants(conn: &Connection, plugin: &str) -> Result<Vec<GrantRecord>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT plugin, kind, value, granted_by, granted_at FROM grants WHERE plugin = ?1 ORDER BY kind, value",
    )?;
    let rows = statement.query_map([plugin], |row| {
        Ok(GrantRecord {
            plugin: row.get(0)?,
            kind: row.get(1)?,
            value: row.get(2)?,
            granted_by: row.get(3)?,
            granted_at: time(row.get(4)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn add_grants(tx: &WriteTx<'_>, grants: &[GrantRecord]) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO grants (plugin, kind, value, granted_by, granted_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )?;
    for grant in grants {
        let at = grant.granted_at.timestamp_micros();
        statement.execute((&grant.plugin, &grant.kind, &grant.value, &grant.granted_by, at))?;
    }
    Ok(())
}

fn wire_id(conn: &Connection, kind: &str, external_id: &str) -> Result<Option<i32>, StoreError> {
    let sql = "SELECT wire_id FROM wire_ids WHERE kind = ?1 AND external_id = ?2";
    Ok(conn.prepare_cached(sql)?.query_row((kind, external_id), |row| row.get(0)).optional()?)
}

fn make_wire_id(tx: &WriteTx<'_>, kind: &str, external_id: &str) -> Result<i32, StoreError> {
    // Somebody else may have made it since the caller looked.
    if let Some(known) = wire_id(tx, kind, external_id)? {
        return Ok(known);
    }
    let last: i64 = tx
        .prepare_cached("SELECT coalesce(max(wire_id), 0) FROM wire_ids WHERE kind = ?1")?
        .query_row([kind], |row| row.get(0))?;
    let next = i32::try_from(last + 1).map_err(|_| StoreError::Database {
        action: "give out an id",
        reason: format!("all 2147483647 ids for {kind} are taken; version 1 of the protocol has no more"),
    })?;
    let sql = "INSERT INTO wire_ids (kind, wire_id, external_id) VALUES (?1, ?2, ?3)";
    tx.prepare_cached(sql)?.execute((kind, next, external_id))?;
    Ok(next)
}
