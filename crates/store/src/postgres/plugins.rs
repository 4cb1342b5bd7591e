//! What this node knows of plugins: names, grants, inspections; and the ids of the wire, which all nodes share.

use async_trait::async_trait;
use chrono::Utc;
use serde_json::Value;
use tokio_postgres::Row;

use super::connection::text;
use super::{PostgresStore, json_of};
use crate::{GrantRecord, PluginRecord, PluginStore, StoreError};

#[async_trait]
impl PluginStore for PostgresStore {
    async fn plugins(&self) -> Result<Vec<PluginRecord>, StoreError> {
        let sql = "SELECT name, file, hash, manifest, enabled, first_seen_at, subscribed_from FROM plugins
                   WHERE node = $1 ORDER BY name COLLATE \"C\"";
        self.read("list plugins").query(sql, &[&self.node()]).await?.iter().map(plugin).collect()
    }

    async fn put_plugin(&self, record: PluginRecord) -> Result<(), StoreError> {
        let sql = "INSERT INTO plugins (node, name, file, hash, manifest, enabled, first_seen_at, subscribed_from)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (node, name) DO UPDATE SET file = excluded.file, hash = excluded.hash,
                manifest = excluded.manifest, enabled = excluded.enabled, first_seen_at = excluded.first_seen_at,
                subscribed_from = excluded.subscribed_from";
        let PluginRecord { name, file, hash, manifest, enabled, first_seen_at, subscribed_from } = record;
        let manifest = manifest.as_ref().map(Value::to_string);
        self.write("write a plugin's record")
            .execute(
                sql,
                &[&self.node(), &name, &file, &hash, &manifest, &enabled, &first_seen_at, &subscribed_from],
            )
            .await?;
        Ok(())
    }

    async fn grants(&self, plugin: &str) -> Result<Vec<GrantRecord>, StoreError> {
        let sql =
            "SELECT plugin, kind, value, granted_by, granted_at FROM grants WHERE node = $1 AND plugin = $2
                   ORDER BY kind COLLATE \"C\", value COLLATE \"C\"";
        self.read("read grants").query(sql, &[&self.node(), &plugin]).await?.iter().map(grant).collect()
    }

    async fn add_grants(&self, grants: Vec<GrantRecord>) -> Result<(), StoreError> {
        let column =
            |of: fn(&GrantRecord) -> &str| grants.iter().map(|grant| text(of(grant))).collect::<Vec<_>>();
        let plugins = column(|grant| &grant.plugin);
        let kinds = column(|grant| &grant.kind);
        let values = column(|grant| &grant.value);
        let by = column(|grant| &grant.granted_by);
        let at: Vec<_> = grants.iter().map(|grant| grant.granted_at).collect();
        let sql = "INSERT INTO grants (node, plugin, kind, value, granted_by, granted_at)
            SELECT $1, * FROM unnest($2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TIMESTAMPTZ[])
            ON CONFLICT DO NOTHING";
        self.write("write grants").execute(sql, &[&self.node(), &plugins, &kinds, &values, &by, &at]).await?;
        Ok(())
    }

    async fn revoke_grant(&self, plugin: &str, kind: &str, value: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM grants WHERE node = $1 AND plugin = $2 AND kind = $3 AND value = $4";
        Ok(self
            .write("take a grant back")
            .execute(sql, &[&self.node(), &text(plugin), &text(kind), &text(value)])
            .await?
            > 0)
    }

    async fn inspection(&self, hash: &str) -> Result<Option<Value>, StoreError> {
        let sql = "SELECT manifest FROM inspections WHERE node = $1 AND hash = $2";
        let row = self.read("look up an inspection").maybe(sql, &[&self.node(), &hash]).await?;
        row.map(|row| json_of(row.try_get(0)?)).transpose()
    }

    async fn put_inspection(&self, hash: &str, manifest: Value) -> Result<(), StoreError> {
        let sql = "INSERT INTO inspections (node, hash, manifest, inspected_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (node, hash) DO UPDATE SET manifest = excluded.manifest, inspected_at = excluded.inspected_at";
        let manifest = manifest.to_string();
        self.write("write an inspection")
            .execute(sql, &[&self.node(), &hash, &manifest, &Utc::now()])
            .await?;
        Ok(())
    }

    async fn wire_id(&self, kind: &str, external_id: &str) -> Result<i32, StoreError> {
        let external_id = text(external_id);
        let sql = "SELECT wire_id FROM wire_ids WHERE kind = $1 AND external_id = $2";
        match self.read("look up an id").maybe(sql, &[&kind, &external_id]).await? {
            Some(known) => Ok(known.try_get(0)?),
            None => Ok(self
                .write("give out an id")
                .one("SELECT wire_id_for($1, $2)", &[&kind, &external_id])
                .await?
                .try_get(0)?),
        }
    }

    async fn external_id(&self, kind: &str, wire_id: i32) -> Result<Option<String>, StoreError> {
        let sql = "SELECT external_id FROM wire_ids WHERE kind = $1 AND wire_id = $2";
        let row = self.read("look up an id").maybe(sql, &[&kind, &wire_id]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

fn plugin(row: &Row) -> Result<PluginRecord, StoreError> {
    Ok(PluginRecord {
        name: row.try_get(0)?,
        file: row.try_get(1)?,
        hash: row.try_get(2)?,
        manifest: row.try_get::<_, Option<&str>>(3)?.map(json_of).transpose()?,
        enabled: row.try_get(4)?,
        first_seen_at: row.try_get(5)?,
        subscribed_from: row.try_get(6)?,
    })
}

fn grant(row: &Row) -> Result<GrantRecord, StoreError> {
    Ok(GrantRecord {
        plugin: row.try_get(0)?,
        kind: row.try_get(1)?,
        value: row.try_get(2)?,
        granted_by: row.try_get(3)?,
        granted_at: row.try_get(4)?,
    })
}
