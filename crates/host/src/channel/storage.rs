//! The methods that ask for what the host keeps for this very plugin: its key-value storage and its configuration.
//!
//! They need no grant, because a plugin reaches nothing but its own: its name comes from the channel, never from a request.
//! Reading a request and judging it is pure ([`read`]). Nothing here knows of frames or sockets.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use temps_protocol::limits::{
    DEFAULT_KV_LIST_LIMIT, MAX_KV_ENTRIES, MAX_KV_KEY_BYTES, MAX_KV_LIST_LIMIT, MAX_KV_TOTAL_BYTES,
    MAX_KV_TTL_SECONDS, MAX_KV_VALUE_BYTES,
};
use temps_protocol::storage::is_kv_key;
use temps_protocol::{ErrorCode, OwnMethod};
use temps_store::{
    HostStore, KvDeleted, KvEntry, KvPut, KvQuery, KvQuota, KvUsage, KvWritten, Revision, StoreError,
};

use super::methods::{Refusal, encode, internal, plain, short};
use crate::configuration::Injected;

/// What one plugin may keep.
const QUOTA: KvQuota = KvQuota { entries: MAX_KV_ENTRIES, bytes: MAX_KV_TOTAL_BYTES };

/// A request that was read and is within bounds.
#[derive(Clone, PartialEq)]
pub(super) enum Call {
    GetConfig,
    Get { key: String },
    Put { key: String, value: String, ttl: Option<u64>, expected: Option<Revision> },
    Delete { key: String, expected: Option<Revision> },
    List(KvQuery),
}

impl Call {
    /// The method that was called.
    pub(super) fn method(&self) -> OwnMethod {
        match self {
            Call::GetConfig => OwnMethod::GetConfig,
            Call::Get { .. } => OwnMethod::KvGet,
            Call::Put { .. } => OwnMethod::KvPut,
            Call::Delete { .. } => OwnMethod::KvDelete,
            Call::List(_) => OwnMethod::KvList,
        }
    }
}

/// Reads a request and judges it by what it says.
pub(super) fn read(method: OwnMethod, params: &Value) -> Result<Call, Refusal> {
    let params = Params { method, given: params };
    Ok(match method {
        OwnMethod::GetConfig => Call::GetConfig,
        OwnMethod::KvGet => Call::Get { key: params.key()? },
        OwnMethod::KvPut => Call::Put {
            key: params.key()?,
            value: params.value()?,
            ttl: params.number("ttl", 1, MAX_KV_TTL_SECONDS)?,
            expected: params.revision()?,
        },
        OwnMethod::KvDelete => Call::Delete { key: params.key()?, expected: params.revision()? },
        OwnMethod::KvList => Call::List(KvQuery {
            prefix: params.text("prefix")?.unwrap_or_default(),
            after: params.text("cursor")?,
            limit: params
                .number("limit", 1, MAX_KV_LIST_LIMIT.into())?
                .and_then(|limit| usize::try_from(limit).ok())
                .unwrap_or(DEFAULT_KV_LIST_LIMIT as usize),
            values: params.flag("values")?,
        }),
    })
}

/// Asks the store. `plugin` is the name of the plugin whose channel it is.
pub(super) async fn carry_out(
    call: Call,
    plugin: &str,
    store: &dyn HostStore,
    config: &Injected,
    now: DateTime<Utc>,
) -> Result<Box<RawValue>, Refusal> {
    match call {
        Call::GetConfig => encode(config.expose()),
        Call::Get { key } => match store.kv_get(plugin, &key, now).await.map_err(failed)? {
            Some(entry) => encode(&Entry::of(entry)?),
            None => Err(plain(ErrorCode::NotFound, format!("there is no entry {}", quoted(&key)))),
        },
        Call::Put { key, value, ttl, expected } => {
            let ttl = ttl.and_then(|ttl| i64::try_from(ttl).ok()).and_then(chrono::TimeDelta::try_seconds);
            let put = KvPut { key: key.clone(), value, expires_at: ttl.map(|ttl| now + ttl), expected };
            match store.kv_put(plugin, put, QUOTA, now).await.map_err(failed)? {
                KvWritten::Written(revision) => encode(&serde_json::json!({ "revision": revision })),
                KvWritten::Conflict(current) => Err(conflict(&key, expected, current)),
                KvWritten::QuotaExceeded(usage) => Err(too_much(usage)),
            }
        }
        Call::Delete { key, expected } => {
            match store.kv_delete(plugin, &key, expected, now).await.map_err(failed)? {
                KvDeleted::Deleted => encode(&serde_json::json!({ "deleted": true })),
                KvDeleted::Absent => encode(&serde_json::json!({ "deleted": false })),
                KvDeleted::Conflict(current) => Err(conflict(&key, expected, current)),
            }
        }
        Call::List(query) => {
            let page = store.kv_list(plugin, query, now).await.map_err(failed)?;
            let cursor = page.entries.last().filter(|_| page.more).map(|entry| entry.key.clone());
            let entries = page.entries.into_iter().map(Entry::of).collect::<Result<Vec<_>, _>>()?;
            encode(&Page { entries, cursor })
        }
    }
}

/// An entry as it goes over the wire; its value is written as it was kept.
#[derive(Serialize)]
struct Entry {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    revision: Revision,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Page {
    entries: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

impl Entry {
    fn of(entry: KvEntry) -> Result<Self, Refusal> {
        let damaged = |e: serde_json::Error| internal(format!("an entry of the storage is damaged: {e}"));
        let value = entry.value.map(RawValue::from_string).transpose().map_err(damaged)?;
        Ok(Self { key: entry.key, value, revision: entry.revision, expires_at: entry.expires_at })
    }
}

fn conflict(key: &str, expected: Option<Revision>, current: Revision) -> Refusal {
    let key = quoted(key);
    let message = match (expected, current) {
        (Some(0), current) => format!("the entry {key} exists already, with revision {current}"),
        (_, 0) => format!("the entry {key} does not exist"),
        (_, current) => format!("the entry {key} has revision {current} by now; read it again and repeat"),
    };
    let mut refusal = plain(ErrorCode::Conflict, message);
    refusal.error.revision = Some(current);
    refusal
}

fn too_much(KvUsage { entries, bytes }: KvUsage) -> Refusal {
    let message = format!(
        "the storage has {entries} of {MAX_KV_ENTRIES} entries and {bytes} of {MAX_KV_TOTAL_BYTES} bytes; \
         delete some, or give them a time to live"
    );
    plain(ErrorCode::QuotaExceeded, message)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err calls")]
fn failed(error: StoreError) -> Refusal {
    internal(error.to_string())
}

fn quoted(key: &str) -> String {
    short(&Value::from(key))
}

/// The parameters of a request.
struct Params<'a> {
    method: OwnMethod,
    given: &'a Value,
}

impl Params<'_> {
    fn key(&self) -> Result<String, Refusal> {
        let rule = format!("a text of 1 to {MAX_KV_KEY_BYTES} bytes without control characters");
        let key =
            self.given("key").ok_or_else(|| self.wrong(&format!("\"key\" is missing; it must be {rule}")))?;
        let key = key.as_str().filter(|key| is_kv_key(key));
        key.map(str::to_owned).ok_or_else(|| self.wrong(&format!("\"key\" must be {rule}")))
    }

    /// Null is a value like others here.
    fn value(&self) -> Result<String, Refusal> {
        let value = self.given.get("value").ok_or_else(|| {
            self.wrong("\"value\" is missing; it may be any JSON, and kv_delete removes an entry")
        })?;
        let text = value.to_string();
        if text.len() > MAX_KV_VALUE_BYTES {
            let bytes = text.len();
            return Err(
                self.wrong(&format!("\"value\" has {bytes} bytes; at most {MAX_KV_VALUE_BYTES} are kept"))
            );
        }
        Ok(text)
    }

    fn revision(&self) -> Result<Option<Revision>, Refusal> {
        let revision = self.number("revision", 0, i64::MAX.unsigned_abs())?;
        Ok(revision.and_then(|revision| i64::try_from(revision).ok()))
    }

    fn number(&self, name: &'static str, min: u64, max: u64) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.given(name) else { return Ok(None) };
        let number = value.as_u64().filter(|number| (min..=max).contains(number));
        number.map(Some).ok_or_else(|| {
            self.wrong(&format!("{name:?} must be an integer from {min} to {max}, found {}", short(value)))
        })
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, Refusal> {
        let Some(value) = self.given(name) else { return Ok(None) };
        let text = value.as_str().filter(|text| text.is_empty() || is_kv_key(text));
        text.map(|text| Some(text.to_owned())).ok_or_else(|| {
            self.wrong(&format!(
                "{name:?} must be the text of a key or its beginning, found {}",
                short(value)
            ))
        })
    }

    fn flag(&self, name: &'static str) -> Result<bool, Refusal> {
        let Some(value) = self.given(name) else { return Ok(false) };
        value
            .as_bool()
            .ok_or_else(|| self.wrong(&format!("{name:?} must be true or false, found {}", short(value))))
    }

    /// A parameter; null is as good as absent.
    fn given(&self, name: &str) -> Option<&Value> {
        self.given.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, what: &str) -> Refusal {
        plain(ErrorCode::InvalidParams, format!("{}: {what}", self.method.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "reads best beside json!")]
    fn refused(method: OwnMethod, params: Value) -> (ErrorCode, String) {
        let Err(refusal) = read(method, &params) else { panic!("{params} was taken") };
        (refusal.error.code, refusal.error.message)
    }

    #[test]
    fn a_request_beyond_the_bounds_is_refused_with_what_would_be_right() {
        for (method, params, says) in [
            (OwnMethod::KvGet, json!({}), "\"key\" is missing"),
            (OwnMethod::KvGet, json!({"key": ""}), "1 to 256 bytes"),
            (OwnMethod::KvGet, json!({"key": "a\nb"}), "control characters"),
            (OwnMethod::KvGet, json!({"key": "k".repeat(257)}), "1 to 256 bytes"),
            (OwnMethod::KvGet, json!({"key": 5}), "\"key\" must be"),
            (OwnMethod::KvPut, json!({"key": "k"}), "\"value\" is missing"),
            (OwnMethod::KvPut, json!({"key": "k", "value": "x".repeat(65_536)}), "at most 65536"),
            (
                OwnMethod::KvPut,
                json!({"key": "k", "value": 1, "ttl": 0}),
                "\"ttl\" must be an integer from 1",
            ),
            (OwnMethod::KvPut, json!({"key": "k", "value": 1, "ttl": 1e300}), "\"ttl\" must be"),
            (OwnMethod::KvPut, json!({"key": "k", "value": 1, "revision": -1}), "\"revision\" must be"),
            (OwnMethod::KvDelete, json!({"key": "k", "revision": "1"}), "\"revision\" must be"),
            (OwnMethod::KvList, json!({"limit": 1_001}), "from 1 to 1000"),
            (OwnMethod::KvList, json!({"values": "yes"}), "true or false"),
            (OwnMethod::KvList, json!({"cursor": []}), "\"cursor\" must be"),
        ] {
            let (code, message) = refused(method, params.clone());
            assert_eq!(code, ErrorCode::InvalidParams);
            assert!(message.starts_with(method.as_str()) && message.contains(says), "{params}: {message}");
        }
    }

    #[test]
    fn null_is_a_value_and_otherwise_as_good_as_absent() {
        let put = read(OwnMethod::KvPut, &json!({"key": "k", "value": null, "ttl": null, "revision": null}));
        let wanted = Call::Put { key: "k".into(), value: "null".into(), ttl: None, expected: None };
        assert!(put.is_ok_and(|put| put == wanted));
        let list = read(OwnMethod::KvList, &Value::Null);
        let wanted = KvQuery { limit: 100, ..KvQuery::default() };
        assert!(list.is_ok_and(|list| list == Call::List(wanted)));
        let longest = json!({"key": "k".repeat(256), "value": "x".repeat(65_534)});
        assert!(read(OwnMethod::KvPut, &longest).is_ok());
    }
}
