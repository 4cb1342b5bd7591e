//! Plugins' key-value storage as operators see it, and the removal of what has ended.
//!
//! Plugins themselves come by their channel; see `channel::storage`.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use temps_store::{HostStore, KvEntry, KvPage, KvQuery, KvUsage};
use tokio_util::sync::CancellationToken;

use crate::host::PluginHost;
use crate::operate::OperateError;

/// Time between two rounds of removing what has ended. It is gone for readers at once, so this is about room only.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Removes entries that have ended, in small commits, until the host stops.
pub(crate) async fn sweep(store: Arc<dyn HostStore>, told: CancellationToken) {
    loop {
        tokio::select! {
            () = told.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        loop {
            match store.kv_sweep(Utc::now()).await {
                Ok(0) => break,
                Ok(removed) => tracing::debug!(removed, "entries of plugins' storage have ended"),
                Err(error) => {
                    tracing::warn!(%error, "what has ended in plugins' storage cannot be removed; trying again");
                    break;
                }
            }
            if told.is_cancelled() {
                return;
            }
        }
    }
}

impl PluginHost {
    /// How much a plugin keeps in its key-value storage.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn storage_usage(&self, name: &str) -> Result<KvUsage, OperateError> {
        self.control(name)?;
        Ok(self.shared.store.kv_usage(name, Utc::now()).await?)
    }

    /// Entries of a plugin's key-value storage.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn storage_entries(&self, name: &str, query: KvQuery) -> Result<KvPage, OperateError> {
        self.control(name)?;
        Ok(self.shared.store.kv_list(name, query, Utc::now()).await?)
    }

    /// One entry of a plugin's key-value storage.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn storage_entry(&self, name: &str, key: &str) -> Result<Option<KvEntry>, OperateError> {
        self.control(name)?;
        Ok(self.shared.store.kv_get(name, key, Utc::now()).await?)
    }

    /// Deletes everything that a plugin keeps in its key-value storage. Returns how many entries that were.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn clear_storage(&self, name: &str, actor: &str) -> Result<u64, OperateError> {
        self.control(name)?;
        let entries = self.shared.store.kv_clear(name).await?;
        self.record_audit("storage.cleared", Some(name), actor, json!({ "entries": entries }));
        Ok(entries)
    }
}
