//! What the host keeps for a plugin: entries of its key-value storage, and its configuration.
//!
//! The methods here need no grant: a plugin asks for nothing but its own.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A method that asks for what the host keeps for this very plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnMethod {
    /// The plugin's configuration.
    GetConfig,
    /// One entry by `key`.
    KvGet,
    /// Writes `value` under `key`, for `ttl` seconds if given, if the entry has `revision` when that is given.
    KvPut,
    /// Deletes the entry of `key`, if it has `revision` when that is given.
    KvDelete,
    /// Entries whose keys begin with `prefix`, at most `limit`, after `cursor`, with `values` if wanted.
    KvList,
}

impl OwnMethod {
    /// All of them, in the order of the specification.
    pub const ALL: [OwnMethod; 5] =
        [OwnMethod::GetConfig, OwnMethod::KvGet, OwnMethod::KvPut, OwnMethod::KvDelete, OwnMethod::KvList];

    /// The method's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            OwnMethod::GetConfig => "get_config",
            OwnMethod::KvGet => "kv_get",
            OwnMethod::KvPut => "kv_put",
            OwnMethod::KvDelete => "kv_delete",
            OwnMethod::KvList => "kv_list",
        }
    }

    /// The method with this name on the wire, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

/// Parameters of the `kv_` methods; each method reads the fields that it needs and ignores the others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct KvParams {
    /// Key of the entry: 1 to [`crate::limits::MAX_KV_KEY_BYTES`] bytes without control characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Value to write, any JSON of at most [`crate::limits::MAX_KV_VALUE_BYTES`] bytes. Null is a value.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[cfg_attr(feature = "schema", schemars(with = "Value"))]
    pub value: Option<Value>,
    /// Seconds after which the entry ends. Absent: it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// The revision that the entry must have; 0: it must not exist. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Beginning of the keys that are wanted. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Most entries wanted, 1 to [`crate::limits::MAX_KV_LIST_LIMIT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Whether the entries come with their values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<bool>,
}

/// One entry, as `kv_get` returns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KvEntry {
    /// Its key.
    pub key: String,
    /// Its value; absent in a list without values.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[cfg_attr(feature = "schema", schemars(with = "Value"))]
    pub value: Option<Value>,
    /// Grows with each write.
    pub revision: i64,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// Entries in the order of the bytes of their keys, as `kv_list` returns them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KvPage {
    /// The entries.
    pub entries: Vec<KvEntry>,
    /// What asks for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A plugin's configuration: all its settings, secrets and defaults among them.
///
/// It is not shown by `Debug`, because it may hold secrets.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Configuration {
    /// The settings by name.
    pub config: Map<String, Value>,
    /// Grows with each change; 0 while nothing was ever set.
    pub revision: i64,
}

impl std::fmt::Debug for Configuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Configuration")
            .field("revision", &self.revision)
            .field("settings", &self.config.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A value that is there and null is there.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Whether a text may be a key.
#[must_use]
pub fn is_kv_key(key: &str) -> bool {
    (1..=crate::limits::MAX_KV_KEY_BYTES).contains(&key.len()) && !key.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_is_a_value_and_an_absent_value_is_none() {
        let read = |value| serde_json::from_value::<KvParams>(value).unwrap().value;
        assert_eq!(read(json!({"key": "k", "value": null})), Some(Value::Null));
        assert_eq!(read(json!({"key": "k"})), None);
    }

    #[test]
    fn a_key_is_short_and_printable() {
        assert!(is_kv_key("a/b.c:1 ü🦀") && is_kv_key(&"k".repeat(256)));
        for key in ["", "a\nb", "\u{1b}[2J", "\u{85}", &"k".repeat(257)] {
            assert!(!is_kv_key(key), "{key:?}");
        }
    }

    #[test]
    fn what_a_configuration_holds_is_in_no_debug_output() {
        let config = json!({"webhook_url": "https://hooks.example.com/T0/secret"});
        let configuration = Configuration { config: config.as_object().unwrap().clone(), revision: 3 };
        let shown = format!("{configuration:?}");
        assert!(shown.contains("webhook_url") && !shown.contains("T0/secret"), "{shown}");
    }

    #[test]
    fn method_names_lead_back() {
        for method in OwnMethod::ALL {
            assert_eq!(OwnMethod::parse(method.as_str()), Some(method));
            assert_eq!(crate::data::Method::parse(method.as_str()), None);
        }
    }
}
