//! What a scripted plugin tries with its key-value storage.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use temps_protocol::limits::{MAX_KV_KEY_BYTES, MAX_KV_VALUE_BYTES};

use super::Plugin;
use super::channel::Channel;

/// A plugin that tries its storage.
struct Trial<'a> {
    plugin: &'a Plugin,
    channel: &'a Channel,
}

impl Trial<'_> {
    /// The result, or the error's code as `{"code": ...}`.
    fn call(&self, method: &str, params: &Value) -> Value {
        self.channel.ask(self.plugin, method, params).unwrap_or_else(|error| {
            let mut told = json!({"code": error["code"]});
            if !error["revision"].is_null() {
                told["revision"] = error["revision"].clone();
            }
            told
        })
    }

    fn expect(&self, check: &str, method: &str, params: &Value, right: impl FnOnce(&Value) -> bool) -> Value {
        let got = self.call(method, params);
        let sent = format!("{method} with {}", shorten(&params.to_string()));
        self.plugin.ledger.judge(check, right(&got), &sent, || shorten(&got.to_string()));
        got
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Tries everything, in a storage that begins empty.
pub(super) fn try_all(plugin: &Plugin, channel: &Channel) {
    let trial = Trial { plugin, channel };
    entries(&trial);
    revisions(&trial);
    pages(&trial);
    bounds(&trial);
    expiry(&trial);
}

fn entries(trial: &Trial<'_>) {
    let check = "kv.entries";
    trial.expect(check, "kv_get", &json!({"key": "a"}), |got| got["code"] == "not_found");
    let value = json!({"deep": [1, null, "ä"]});
    trial.expect(check, "kv_put", &json!({"key": "a", "value": value}), |got| got["revision"].is_u64());
    trial.expect(check, "kv_get", &json!({"key": "a"}), |got| got["value"] == value && got["key"] == "a");
    trial.expect(check, "kv_put", &json!({"key": "null", "value": null}), |got| got["revision"].is_u64());
    trial.expect(check, "kv_delete", &json!({"key": "null"}), |got| got["deleted"] == true);
    trial.expect(check, "kv_delete", &json!({"key": "null"}), |got| got["deleted"] == false);
    for params in [json!({}), json!({"key": 5}), json!({"key": ""})] {
        trial.expect("kv.params", "kv_get", &params, |got| got["code"] == "invalid_params");
    }
    trial.expect("kv.params", "kv_put", &json!({"key": "a"}), |got| got["code"] == "invalid_params");
}

fn revisions(trial: &Trial<'_>) {
    let check = "kv.revisions";
    let put = |revision: u64| json!({"key": "r", "value": revision, "revision": revision});
    let first = trial.expect(check, "kv_put", &put(0), |got| got["revision"].is_u64());
    let first = first["revision"].as_u64().unwrap_or_default();
    let conflict = |got: &Value| got["code"] == "conflict" && got["revision"] == first;
    trial.expect(check, "kv_put", &put(0), conflict);
    trial.expect(check, "kv_put", &put(first + 1000), conflict);
    let grown = |got: &Value| got["revision"].as_u64().is_some_and(|second| second > first);
    let second = trial.expect(check, "kv_put", &put(first), grown);
    trial.call("kv_delete", &json!({"key": "r"}));
    let second = second["revision"].as_u64().unwrap_or_default();
    let again = |got: &Value| got["revision"].as_u64().is_some_and(|third| third > second);
    trial.expect(check, "kv_put", &put(0), again);
}

fn pages(trial: &Trial<'_>) {
    for key in ["p/b", "p/ä", "p/a", "p/B", "q"] {
        trial.call("kv_put", &json!({"key": key, "value": key}));
    }
    let (mut keys, mut cursor) = (Vec::new(), Value::Null);
    // A page may be short, but not for ever.
    for _ in 0..20 {
        let mut params = json!({"prefix": "p/", "limit": 2});
        if !cursor.is_null() {
            params["cursor"] = cursor.clone();
        }
        let page = trial.expect("kv.pages", "kv_list", &params, |got| {
            got["entries"].as_array().is_some_and(|entries| entries.len() <= 2)
        });
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        keys.extend(entries.iter().filter_map(|entry| entry["key"].as_str().map(str::to_owned)));
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let right = keys == ["p/B", "p/a", "p/b", "p/ä"];
    trial.plugin.ledger.judge("kv.pages", right, "kv_list of p/ in pages of 2", || format!("{keys:?}"));
}

fn bounds(trial: &Trial<'_>) {
    let check = "kv.bounds";
    let put = |key: usize, value: usize| json!({"key": "k".repeat(key), "value": "v".repeat(value - 2)});
    let kept = |got: &Value| got["revision"].is_u64();
    let refused = |got: &Value| got["code"] == "invalid_params" || got["code"] == "quota_exceeded";
    trial.expect(check, "kv_put", &put(MAX_KV_KEY_BYTES, 3), kept);
    trial.expect(check, "kv_put", &put(MAX_KV_KEY_BYTES + 1, 3), refused);
    trial.expect(check, "kv_put", &put(1, MAX_KV_VALUE_BYTES), kept);
    trial.expect(check, "kv_put", &put(1, MAX_KV_VALUE_BYTES + 1), refused);
    trial.expect(check, "kv_get", &json!({"key": "a\u{7}"}), |got| got["code"] == "invalid_params");
}

fn expiry(trial: &Trial<'_>) {
    let check = "kv.expires";
    trial.expect(check, "kv_put", &json!({"key": "t", "value": 1, "ttl": 600}), |got| {
        got["revision"].is_u64()
    });
    trial.expect(check, "kv_get", &json!({"key": "t"}), |got| got["expires_at"].is_string());
    trial.call("kv_put", &json!({"key": "t", "value": 1, "ttl": 1}));
    // Time itself is what is waited for.
    thread::sleep(Duration::from_millis(1_500));
    trial.expect(check, "kv_get", &json!({"key": "t"}), |got| got["code"] == "not_found");
}
