//! Configuration of this node's plugins: one row for each plugin.

use async_trait::async_trait;

use super::PostgresStore;
use super::connection::text;
use crate::{ConfigRecord, ConfigStore, StoreError};

#[async_trait]
impl ConfigStore for PostgresStore {
    fn node(&self) -> &str {
        self.standing.node()
    }

    async fn config(&self, plugin: &str) -> Result<Option<ConfigRecord>, StoreError> {
        let sql = "SELECT settings, revision, updated_at, updated_by FROM plugin_config WHERE node = $1 AND plugin = $2";
        let on = self.read("read a plugin's configuration");
        let Some(row) = on.maybe(sql, &[&self.node(), &plugin]).await? else { return Ok(None) };
        let settings = serde_json::from_str(row.try_get(0)?).map_err(|e| StoreError::Database {
            action: "read a plugin's configuration",
            reason: format!("the configuration of {plugin} is damaged at column {}", e.column()),
        })?;
        Ok(Some(ConfigRecord {
            settings,
            revision: row.try_get(1)?,
            updated_at: row.try_get(2)?,
            updated_by: row.try_get(3)?,
        }))
    }

    async fn put_config(&self, plugin: &str, record: ConfigRecord) -> Result<bool, StoreError> {
        let action = "write a plugin's configuration";
        let settings = serde_json::to_string(&record.settings)
            .map_err(|e| StoreError::Database { action, reason: e.to_string() })?;
        let sql = "INSERT INTO plugin_config AS present (node, plugin, settings, revision, updated_at, updated_by)
            SELECT $1, $2, $3, $4::BIGINT, $5, $6
            WHERE $4::BIGINT = 1 OR EXISTS (SELECT FROM plugin_config WHERE node = $1 AND plugin = $2)
            ON CONFLICT (node, plugin) DO UPDATE SET settings = excluded.settings, revision = excluded.revision,
                updated_at = excluded.updated_at, updated_by = excluded.updated_by
            WHERE present.revision = excluded.revision - 1";
        let by = text(&record.updated_by);
        let node = self.node();
        let written = self
            .write(action)
            .execute(sql, &[&node, &plugin, &settings, &record.revision, &record.updated_at, &by])
            .await?;
        Ok(written > 0)
    }
}
