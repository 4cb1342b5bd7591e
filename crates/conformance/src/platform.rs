//! The platform behind the played host: one project with an environment and a deployment, and a plugin's own storage.
//!
//! If it is told so, its answers have fields and words of a later version, which a plugin must take.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use temps_protocol::data::Method;
use temps_protocol::limits::{MAX_KV_KEY_BYTES, MAX_KV_VALUE_BYTES};
use temps_protocol::{KvParams, OwnMethod};

/// Entries of a page of `kv_list` when no limit is given.
const PAGE: usize = 100;

/// What is answered, and what was wrong with the question.
pub(crate) struct Answered {
    pub(crate) outcome: Result<Value, Value>,
    /// A rule of D or F that the question broke.
    pub(crate) broken: Option<(&'static str, String)>,
}

/// What the platform knows.
#[derive(Debug, Default)]
pub(crate) struct Platform {
    entries: BTreeMap<String, (Value, i64)>,
    revision: i64,
    /// Whether answers are those of a later version.
    pub(crate) later: bool,
    pub(crate) config: Value,
    pub(crate) config_revision: i64,
}

impl Platform {
    /// Answers one question.
    pub(crate) fn answer(&mut self, method: &str, params: &Value) -> Answered {
        if let Some(method) = OwnMethod::parse(method) {
            return self.own(method, params);
        }
        match Method::parse(method) {
            Some(method) => self.grown(data(method, params)),
            None => refused("method_not_found", &format!("there is no method {method:?}"), None),
        }
    }

    /// The answer, with what a later version would add.
    fn grown(&self, mut answered: Answered) -> Answered {
        if let (true, Ok(value)) = (self.later, &mut answered.outcome) {
            let things = match value {
                Value::Array(things) => things.as_mut_slice(),
                one => std::slice::from_mut(one),
            };
            for thing in things {
                thing["of_a_later_version"] = json!({"a": [1, null]});
                if thing.get("state").is_some() {
                    thing["state"] = json!("hibernating");
                }
            }
        }
        answered
    }

    fn own(&mut self, method: OwnMethod, params: &Value) -> Answered {
        if method == OwnMethod::GetConfig {
            return good(json!({"config": self.config, "revision": self.config_revision}));
        }
        let read =
            if params.is_null() { Ok(KvParams::default()) } else { serde_json::from_value(params.clone()) };
        let params: KvParams = match read {
            Ok(params) => params,
            Err(error) => return broken("F-8", &format!("{} got {params}: {error}", method.as_str())),
        };
        if method == OwnMethod::KvList {
            return self.list(&params);
        }
        let key = params.key.clone().unwrap_or_default();
        if key.is_empty() || key.len() > MAX_KV_KEY_BYTES || key.chars().any(char::is_control) {
            return broken("F-11", &format!("{} with the key {key:?}", method.as_str()));
        }
        let now = self.entries.get(&key).map_or(0, |(_, revision)| *revision);
        if params.revision.is_some_and(|expected| expected != now) {
            let error = json!({"code": "conflict", "message": "another revision", "revision": now});
            return Answered { outcome: Err(error), broken: None };
        }
        match (method, params.value) {
            (OwnMethod::KvPut, None) => broken("F-8", "kv_put without a value"),
            (OwnMethod::KvPut, Some(value)) if value.to_string().len() > MAX_KV_VALUE_BYTES => {
                broken("F-11", &format!("kv_put with a value of {} bytes", value.to_string().len()))
            }
            (OwnMethod::KvPut, Some(value)) => {
                self.revision += 1;
                self.entries.insert(key, (value, self.revision));
                good(json!({"revision": self.revision}))
            }
            (OwnMethod::KvDelete, _) => good(json!({"deleted": self.entries.remove(&key).is_some()})),
            _ => match self.entries.get(&key) {
                Some((value, revision)) => good(json!({"key": key, "value": value, "revision": revision})),
                None => refused("not_found", "there is no such entry", None),
            },
        }
    }

    fn list(&self, params: &KvParams) -> Answered {
        let prefix = params.prefix.clone().unwrap_or_default();
        let most = params.limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE)).max(1);
        let after = params.cursor.as_deref();
        let found = self
            .entries
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && after.is_none_or(|after| key.as_str() > after));
        let entries: Vec<Value> = found
            .map(|(key, (value, revision))| {
                if params.values == Some(true) {
                    json!({"key": key, "value": value, "revision": revision})
                } else {
                    json!({"key": key, "revision": revision})
                }
            })
            .take(most)
            .collect();
        let cursor = (entries.len() == most).then(|| entries.last().map(|entry| entry["key"].clone()));
        good(json!({"entries": entries, "cursor": cursor.flatten()}))
    }
}

fn data(method: Method, params: &Value) -> Answered {
    let id = |name: &str| params[name].as_i64().and_then(|id| i32::try_from(id).ok());
    let needed = |name: &str| {
        id(name).ok_or_else(|| format!("{} needs {name}, an integer; it got {params}", method.as_str()))
    };
    let outcome = match method {
        Method::GetProject => needed("project_id").map(project),
        Method::ListProjects => Ok(json!([project(42)])),
        Method::GetEnvironment => needed("environment_id").map(environment),
        Method::ListEnvironments => needed("project_id").map(|_| json!([environment(7)])),
        Method::GetDeployment => needed("deployment_id").map(deployment),
        Method::GetLastDeployment => needed("project_id").map(|_| deployment(100)),
        Method::ListDeployments => needed("project_id").map(|_| json!([deployment(100)])),
    };
    match outcome {
        Ok(value) => good(value),
        Err(why) => broken("D-1", &why),
    }
}

fn project(id: i32) -> Value {
    json!({"id": id, "name": "my-app", "slug": "my-app", "repo_name": "my-app", "repo_owner": "acme",
        "main_branch": "main", "preset": "nextjs", "source_type": "git", "created_at": "2026-06-01T09:00:00Z",
        "updated_at": "2026-06-06T12:00:00Z", "last_deployment": "2026-06-06T12:00:00Z",
        "enable_preview_environments": true})
}

fn environment(id: i32) -> Value {
    json!({"id": id, "project_id": 42, "name": "production", "slug": "production", "branch": "main",
        "is_preview": false, "current_deployment_id": 100, "created_at": "2026-06-01T09:00:00Z",
        "updated_at": "2026-06-06T12:00:00Z"})
}

fn deployment(id: i32) -> Value {
    json!({"id": id, "project_id": 42, "environment_id": 7, "state": "succeeded",
        "url": "https://myapp.example.com", "branch": "main", "tag": null, "commit_sha": "a1b2c3d",
        "commit_message": "Mend the door", "commit_author": "Ada", "created_at": "2026-06-06T11:58:00Z",
        "started_at": "2026-06-06T11:58:02Z", "finished_at": "2026-06-06T12:00:00Z"})
}

fn good(value: Value) -> Answered {
    Answered { outcome: Ok(value), broken: None }
}

fn refused(code: &str, message: &str, broken: Option<(&'static str, String)>) -> Answered {
    Answered { outcome: Err(json!({"code": code, "message": message})), broken }
}

fn broken(clause: &'static str, what: &str) -> Answered {
    refused("invalid_params", what, Some((clause, what.to_owned())))
}
