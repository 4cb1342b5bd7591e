//! The key-value storage of a test: in memory, with revisions and pages as the protocol says. Entries do not end here.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use temps_protocol::limits::MAX_KV_LIST_LIMIT;
use temps_protocol::{ChannelError, ErrorCode, KvEntry, KvPage, KvParams, OwnMethod};

/// Entries of a page when the plugin does not say how many it wants.
const PAGE: u32 = 100;

#[derive(Default)]
pub(super) struct Storage {
    entries: BTreeMap<String, (Value, i64)>,
    revision: i64,
}

impl Storage {
    /// The answer to a method of the storage; `None` when it is another method.
    pub(super) fn ask(&mut self, method: &str, params: &Value) -> Option<Result<Value, ChannelError>> {
        let method = OwnMethod::parse(method)?;
        let invalid = |why: String| ChannelError::new(ErrorCode::InvalidParams, why);
        let params = serde_json::from_value::<KvParams>(params.clone()).map_err(|e| invalid(e.to_string()));
        let key = |params: &KvParams| params.key.clone().ok_or_else(|| invalid("key is missing".into()));
        Some(match method {
            OwnMethod::GetConfig => return None,
            OwnMethod::KvGet => params.and_then(|params| self.get(key(&params)?)),
            OwnMethod::KvPut => params.and_then(|params| self.put(key(&params)?, params)),
            OwnMethod::KvDelete => params.and_then(|params| self.delete(&key(&params)?, params.revision)),
            OwnMethod::KvList => params.map(|params| self.list(&params)),
        })
    }

    /// The value of an entry.
    pub(super) fn value(&self, key: &str) -> Option<Value> {
        self.entries.get(key).map(|(value, _)| value.clone())
    }

    fn get(&self, key: String) -> Result<Value, ChannelError> {
        let (value, revision) = self
            .entries
            .get(&key)
            .cloned()
            .ok_or_else(|| ChannelError::new(ErrorCode::NotFound, "there is no such entry"))?;
        Ok(json!(KvEntry { key, value: Some(value), revision, expires_at: None }))
    }

    fn put(&mut self, key: String, params: KvParams) -> Result<Value, ChannelError> {
        self.expect(&key, params.revision)?;
        let value =
            params.value.ok_or_else(|| ChannelError::new(ErrorCode::InvalidParams, "value is missing"))?;
        self.revision += 1;
        self.entries.insert(key, (value, self.revision));
        Ok(json!({ "revision": self.revision }))
    }

    fn delete(&mut self, key: &str, revision: Option<i64>) -> Result<Value, ChannelError> {
        self.expect(key, revision)?;
        Ok(json!({ "deleted": self.entries.remove(key).is_some() }))
    }

    fn list(&self, params: &KvParams) -> Value {
        let prefix = params.prefix.as_deref().unwrap_or_default();
        let after = params.cursor.as_deref().unwrap_or_default();
        let limit = params.limit.unwrap_or(PAGE).clamp(1, MAX_KV_LIST_LIMIT) as usize;
        let mut wanted = self.entries.iter().filter(|(key, _)| key.starts_with(prefix) && &***key > after);
        let with_values = params.values == Some(true);
        let entries: Vec<KvEntry> = (&mut wanted)
            .take(limit)
            .map(|(key, (value, revision))| KvEntry {
                key: key.clone(),
                value: with_values.then(|| value.clone()),
                revision: *revision,
                expires_at: None,
            })
            .collect();
        let more = wanted.next().is_some();
        let cursor = entries.last().filter(|_| more).map(|entry| entry.key.clone());
        json!(KvPage { entries, cursor })
    }

    fn expect(&self, key: &str, revision: Option<i64>) -> Result<(), ChannelError> {
        let there = self.entries.get(key).map_or(0, |(_, revision)| *revision);
        if revision.is_some_and(|wanted| wanted != there) {
            let message = format!("the entry {key:?} has revision {there}");
            return Err(ChannelError {
                revision: Some(there),
                ..ChannelError::new(ErrorCode::Conflict, message)
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(storage: &mut Storage, method: &str, params: &Value) -> Result<Value, ChannelError> {
        storage.ask(method, params).unwrap()
    }

    #[test]
    fn of_two_writes_that_expect_one_revision_the_second_is_told_the_new_one() {
        let mut storage = Storage::default();
        let put = |storage: &mut Storage, revision| {
            asked(storage, "kv_put", &json!({"key": "a", "value": null, "revision": revision}))
        };
        assert_eq!(put(&mut storage, 0).unwrap(), json!({"revision": 1}));
        let conflict = put(&mut storage, 0).unwrap_err();
        assert_eq!((conflict.code, conflict.revision), (ErrorCode::Conflict, Some(1)));
        assert_eq!(asked(&mut storage, "kv_get", &json!({"key": "a"})).unwrap()["value"], Value::Null);
        assert_eq!(asked(&mut storage, "kv_delete", &json!({"key": "a"})).unwrap(), json!({"deleted": true}));
        assert_eq!(
            asked(&mut storage, "kv_get", &json!({"key": "a"})).unwrap_err().code,
            ErrorCode::NotFound
        );
    }

    #[test]
    fn a_list_comes_in_pages() {
        let mut storage = Storage::default();
        for key in ["jobs/2", "jobs/1", "other", "jobs/3"] {
            asked(&mut storage, "kv_put", &json!({"key": key, "value": key})).unwrap();
        }
        let mut page = |cursor: Value| {
            asked(&mut storage, "kv_list", &json!({"prefix": "jobs/", "limit": 2, "cursor": cursor}))
        };
        let first = page(Value::Null).unwrap();
        assert_eq!(first["entries"][1]["key"], "jobs/2");
        assert_eq!(first["entries"][1].get("value"), None, "no values unless they are wanted");
        let second = page(first["cursor"].clone()).unwrap();
        assert_eq!((&second["entries"][0]["key"], second.get("cursor")), (&json!("jobs/3"), None));
    }
}
