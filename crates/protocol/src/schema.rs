//! JSON Schemas of the wire types, generated from the types themselves (feature `schema`).
//!
//! A schema describes a message as it stands on the wire, so those of lines and frames have the `type` that the Rust
//! types leave to the reader. A schema cannot say everything; `spec/v1/vectors` marks what only a reader refuses.

use schemars::{Schema, schema_for};
use serde_json::{Value, json};

use crate::channel::{Ack, HostFrame, Request, Response};
use crate::data::{DeploymentInfo, EnvironmentInfo, MethodParams, ProjectInfo};
use crate::event::PluginEvent;
use crate::handshake::Ready;
use crate::manifest::PluginManifest;
use crate::payload::{
    DeploymentCancelled, DeploymentCreated, DeploymentFailed, DeploymentReady, DeploymentSucceeded,
    EnvironmentSubject, ProjectSubject,
};
use crate::storage::{Configuration, KvEntry, KvPage, KvParams};

/// Every wire type that has a schema in `spec/v1/schema`, by its name there.
#[must_use]
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("PluginManifest", typed(schema_for!(PluginManifest), "manifest", true)),
        ("Ready", typed(schema_for!(Ready), "ready", true)),
        // An SDK in use leaves the type of a request out, and is understood.
        ("Request", typed(schema_for!(Request), "request", false)),
        ("Response", typed(schema_for!(Response), "response", true)),
        ("Ack", typed(schema_for!(Ack), "ack", true)),
        ("HostFrame", schema_for!(HostFrame)),
        ("PluginEvent", schema_for!(PluginEvent)),
        ("MethodParams", schema_for!(MethodParams)),
        ("KvParams", schema_for!(KvParams)),
        ("KvEntry", schema_for!(KvEntry)),
        ("KvPage", schema_for!(KvPage)),
        ("Configuration", schema_for!(Configuration)),
        ("ProjectInfo", schema_for!(ProjectInfo)),
        ("EnvironmentInfo", schema_for!(EnvironmentInfo)),
        ("DeploymentInfo", schema_for!(DeploymentInfo)),
        ("DeploymentCreated", schema_for!(DeploymentCreated)),
        ("DeploymentReady", schema_for!(DeploymentReady)),
        ("DeploymentSucceeded", schema_for!(DeploymentSucceeded)),
        ("DeploymentFailed", schema_for!(DeploymentFailed)),
        ("DeploymentCancelled", schema_for!(DeploymentCancelled)),
        ("ProjectSubject", schema_for!(ProjectSubject)),
        ("EnvironmentSubject", schema_for!(EnvironmentSubject)),
    ]
}

/// The files of `spec/v1/schema`: name and text. The same types always give the same bytes.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    all()
        .into_iter()
        .map(|(name, schema)| {
            // Whether serde_json keeps or sorts keys is for other crates of a build to say, so they are sorted here.
            let text = serde_json::to_string_pretty(&sorted(schema.to_value())).unwrap_or_default();
            (format!("{name}.json"), text + "\n")
        })
        .collect()
}

fn typed(schema: Schema, kind: &str, required: bool) -> Schema {
    let mut value = schema.to_value();
    value["properties"]["type"] = json!({"const": kind, "description": "Says what this message is."});
    if required && let Some(names) = value["required"].as_array_mut() {
        names.insert(0, "type".into());
    }
    Schema::try_from(value).unwrap_or_default()
}

/// Sorts keys, and makes texts readable outside of Rust's documentation.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().map(|(name, value)| (name, sorted(value))).collect())
        }
        Value::Array(entries) => Value::Array(entries.into_iter().map(sorted).collect()),
        // Descriptions come from documentation comments; their links lead nowhere here.
        Value::String(text) => Value::String(text.replace("[`", "`").replace("`]", "`")),
        other => other,
    }
}
