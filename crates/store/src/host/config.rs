//! What operators set for plugins: one document for each plugin, with a revision.
//!
//! The store knows no schema and no key. A secret comes here sealed, and leaves as it came.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Revision;
use crate::StoreError;

/// One setting as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredSetting {
    /// A value that everybody who may look at the plugin may see.
    Plain(Value),
    /// A secret, encrypted by the host, as base64.
    Sealed(String),
}

/// Everything that was set for one plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigRecord {
    /// The settings by name.
    pub settings: BTreeMap<String, StoredSetting>,
    /// Counts the changes; the first is 1.
    pub revision: Revision,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
    /// Who changed it last.
    pub updated_by: String,
}

/// Configuration of plugins.
///
/// Every write is durable when its future resolves.
#[async_trait]
pub trait ConfigStore: Send + Sync + 'static {
    /// The name under which this host keeps its rows. Secrets are sealed for it.
    fn node(&self) -> &str;

    /// What was set for a plugin; `None` when nothing ever was.
    async fn config(&self, plugin: &str) -> Result<Option<ConfigRecord>, StoreError>;

    /// Replaces what was set for a plugin, if `record` is the revision after the present one (1 when there is none).
    /// Returns whether it was; otherwise somebody else was faster, and nothing was written.
    async fn put_config(&self, plugin: &str, record: ConfigRecord) -> Result<bool, StoreError>;
}
