//! What is known of plugins: names and files, grants, inspections, and the integers that stand for a platform's ids.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Seq;
use crate::StoreError;

/// A plugin's name and the file that holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginRecord {
    /// Name of the plugin.
    pub name: String,
    /// The file or directory in the plugins directory that holds the name.
    pub file: String,
    /// SHA-256 of what was taken up last, in hexadecimal.
    pub hash: Option<String>,
    /// Manifest that was read last, as JSON.
    pub manifest: Option<Value>,
    /// Whether the operator lets it run.
    pub enabled: bool,
    /// When the name was first held.
    pub first_seen_at: DateTime<Utc>,
    /// Last event that was in the journal when the plugin was first taken up: deliveries begin after it.
    pub subscribed_from: Seq,
}

/// One permission that was given to a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    /// Name of the plugin.
    pub plugin: String,
    /// Kind of permission: `method`, `event`, `project`, `egress`, `public_path`, `limit`, `database`.
    pub kind: String,
    /// What exactly, for example `get_project`, `deployment.*`, `*`, `hooks.slack.com:443`, `memory_max=512M`.
    pub value: String,
    /// Who gave it: `default` for the default policy, otherwise the operator.
    pub granted_by: String,
    /// When it was given.
    pub granted_at: DateTime<Utc>,
}

/// What is known of plugins.
///
/// Every write is durable when its future resolves.
#[async_trait]
pub trait PluginStore: Send + Sync + 'static {
    /// All plugin records.
    async fn plugins(&self) -> Result<Vec<PluginRecord>, StoreError>;

    /// Writes a plugin record, replacing the one with its name.
    async fn put_plugin(&self, record: PluginRecord) -> Result<(), StoreError>;

    /// Grants of a plugin.
    async fn grants(&self, plugin: &str) -> Result<Vec<GrantRecord>, StoreError>;

    /// Adds grants; those that are there already stay as they are.
    async fn add_grants(&self, grants: Vec<GrantRecord>) -> Result<(), StoreError>;

    /// Takes a grant back. Returns whether it was there.
    async fn revoke_grant(&self, plugin: &str, kind: &str, value: &str) -> Result<bool, StoreError>;

    /// The manifest that an executable with this hash declared when it was inspected.
    async fn inspection(&self, hash: &str) -> Result<Option<Value>, StoreError>;

    /// Remembers the manifest that an executable with this hash declared.
    async fn put_inspection(&self, hash: &str, manifest: Value) -> Result<(), StoreError>;

    /// The integer that stands on the wire for a platform's own id, made if there is none yet.
    async fn wire_id(&self, kind: &str, external_id: &str) -> Result<i32, StoreError>;

    /// The platform's own id behind an integer on the wire.
    async fn external_id(&self, kind: &str, wire_id: i32) -> Result<Option<String>, StoreError>;
}
