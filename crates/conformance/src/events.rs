//! Events that a plugin gets to see, chosen by what its manifest lists.

use serde_json::{Value, json};
use temps_protocol::PluginManifest;

/// Types that begin so are always of a project.
const OF_PROJECTS: [&str; 3] = ["deployment.", "project.", "environment."];

/// Makes events. Each has an id of its own.
#[derive(Debug)]
pub(crate) struct Events {
    kinds: Vec<String>,
    /// A type that no plugin can know, when a pattern of the manifest takes it in.
    unknown: Option<String>,
    made: u32,
}

impl Events {
    /// For a plugin with this manifest; `None` when it wants no events.
    pub(crate) fn for_plugin(manifest: &PluginManifest) -> Option<Self> {
        let concrete = |pattern: &String| match pattern.as_str() {
            "*" => "deployment.succeeded".to_owned(),
            "deployment.*" => "deployment.ready".to_owned(),
            "project.*" => "project.created".to_owned(),
            "environment.*" => "environment.created".to_owned(),
            other => {
                other.strip_suffix('*').map_or_else(|| other.to_owned(), |prefix| format!("{prefix}happened"))
            }
        };
        let kinds: Vec<String> = manifest.events.iter().map(concrete).collect();
        let unknown = manifest.events.iter().find_map(|pattern| match pattern.as_str() {
            "*" => Some("weather.changed".to_owned()),
            other => Some(format!("{}conformance_probe", other.strip_suffix('*')?)),
        });
        (!kinds.is_empty()).then_some(Self { kinds, unknown, made: 0 })
    }

    /// The next event, an ordinary one.
    pub(crate) fn next(&mut self) -> Value {
        let kind = self.kinds[usize::try_from(self.made).unwrap_or(0) % self.kinds.len()].clone();
        self.event(&kind, &data())
    }

    /// An event of a type that no plugin can know.
    pub(crate) fn of_unknown_type(&mut self) -> Option<Value> {
        let kind = self.unknown.clone()?;
        Some(self.event(&kind, &json!({"anything": [1, {"deep": null}]})))
    }

    /// An event with fields that no plugin can know, inside and beside its data.
    pub(crate) fn with_unknown_fields(&mut self) -> Value {
        let mut event = self.next();
        event["of_a_later_version"] = json!({"a": 1});
        event["data"]["of_a_later_version"] = json!([null, {"b": "c"}]);
        event
    }

    /// An event in which everything is null that may be unknown.
    pub(crate) fn bare(&mut self) -> Value {
        let mut event = self.next();
        for field in ["url", "commit_sha", "branch", "environment_name", "external_id", "error_message"] {
            event["data"][field] = Value::Null;
        }
        event
    }

    /// An event of no project, when the plugin wants types that may be of none.
    pub(crate) fn of_no_project(&mut self) -> Option<Value> {
        let mut kinds = self.kinds.iter().chain(&self.unknown);
        let kind = kinds.find(|kind| !OF_PROJECTS.iter().any(|prefix| kind.starts_with(prefix)))?.clone();
        let mut event = self.event(&kind, &json!({}));
        if let Some(fields) = event.as_object_mut() {
            fields.remove("project_id");
        }
        Some(event)
    }

    /// An event of as many bytes as an event may have.
    pub(crate) fn largest(&mut self) -> Value {
        let mut event = self.next();
        event["data"]["padding"] = "".into();
        let room = temps_protocol::limits::MAX_EVENT_BYTES - event.to_string().len();
        event["data"]["padding"] = "x".repeat(room).into();
        event
    }

    fn event(&mut self, kind: &str, data: &Value) -> Value {
        self.made += 1;
        json!({"id": format!("0197a5c8-7d3e-7c1a-9f55-{:012x}", self.made), "event_type": kind,
            "timestamp": "2026-06-06T12:00:00Z", "project_id": 42, "data": data})
    }
}

/// The fields of every event of the protocol together, so that each type finds its own.
fn data() -> Value {
    json!({"deployment_id": 100, "project_id": 42, "project_name": "my-app", "environment_id": 7,
        "environment_name": "production", "external_id": null, "url": "https://myapp.example.com",
        "commit_sha": "a1b2c3d", "branch": "main", "error_message": "the health check answered 503"})
}

/// The id of an event.
pub(crate) fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap_or_default()
}
