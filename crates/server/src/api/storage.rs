//! A plugin's key-value storage as REST gives it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Some entries of a plugin's key-value storage, and how much it keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Storage {
    /// Entries that it keeps.
    pub entries: u64,
    /// Bytes of keys and values that it keeps.
    pub bytes: u64,
    /// Most entries that it may keep.
    pub max_entries: u64,
    /// Most bytes that it may keep.
    pub max_bytes: u64,
    /// The entries of this page, by key.
    pub items: Vec<StorageEntry>,
    /// Give it as `cursor` for the entries that follow; `null` at the end.
    pub next_cursor: Option<String>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StorageEntry {
    /// Its key.
    pub key: String,
    /// Its value; left out where values were not asked for.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub value: Option<serde_json::Value>,
    /// Grows with each write.
    pub revision: i64,
    /// When it was written.
    pub updated_at: DateTime<Utc>,
    /// When it ends; `null` when it stays.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A value that is null is a value.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StorageQuery {
    /// Only keys that begin with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Whether the values are wanted too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<bool>,
    /// Most entries wanted, 1 to 500; 50 when not given. Large values make a page shorter.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which entry is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StorageKey {
    /// Its key.
    pub key: String,
}

/// How much was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cleared {
    /// Entries that are gone.
    pub entries: u64,
}
