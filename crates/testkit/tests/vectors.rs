//! The Rust types and the generated schemas agree with every vector of the specification.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use temps_protocol::channel::{Ack, FrameProblem};
use temps_protocol::data::MethodParams;
use temps_protocol::event::{is_pattern, pattern_matches};
use temps_protocol::{
    Configuration, DeploymentInfo, EnvironmentInfo, Feature, HandshakeError, HostFrame, KvEntry, KvPage,
    KvParams, PluginEvent, PluginFrame, PluginName, ProjectInfo, Response, parse_manifest_line,
    parse_ready_line, payload, schema,
};
use temps_testkit::vectors::{self, Vector};

/// Reads a message as the project does; what it means, or why it was refused.
fn read(vector: &Vector) -> Result<Value, String> {
    let wire = vector.wire();
    match vector.kind.as_str() {
        "PluginManifest" => parse_manifest_line(&wire).map(|it| line(&it.to_line())).map_err(|e| match e {
            HandshakeError::InvalidManifest(problems) => format!("field {}", problems[0].field),
            other => other.to_string(),
        }),
        "Ready" => parse_ready_line(&wire).map(|it| line(&it.to_line())).map_err(|e| e.to_string()),
        "Request" | "Ack" => read_plugin_frame(vector, &wire),
        "Response" => {
            let frame = serde_json::from_str::<HostFrame>(&wire).map_err(|e| e.to_string())?;
            assert!(matches!(frame, HostFrame::Response(_)));
            plain::<Response>(&wire).map(|meaning| with_type("response", meaning))
        }
        "HostFrame" => plain::<HostFrame>(&wire),
        "PluginEvent" => {
            let event: PluginEvent = serde_json::from_str(&wire).map_err(|e| e.to_string())?;
            event.check().map_err(|e| e.to_string())?;
            Ok(serde_json::to_value(event).unwrap())
        }
        "MethodParams" => plain::<MethodParams>(&wire),
        "KvParams" => plain::<KvParams>(&wire),
        "KvEntry" => plain::<KvEntry>(&wire),
        "KvPage" => plain::<KvPage>(&wire),
        "Configuration" => plain::<Configuration>(&wire),
        "ProjectInfo" => plain::<ProjectInfo>(&wire),
        "EnvironmentInfo" => plain::<EnvironmentInfo>(&wire),
        "DeploymentInfo" => plain::<DeploymentInfo>(&wire),
        "DeploymentCreated" => plain::<payload::DeploymentCreated>(&wire),
        "DeploymentReady" => plain::<payload::DeploymentReady>(&wire),
        "DeploymentSucceeded" => plain::<payload::DeploymentSucceeded>(&wire),
        "DeploymentFailed" => plain::<payload::DeploymentFailed>(&wire),
        "DeploymentCancelled" => plain::<payload::DeploymentCancelled>(&wire),
        "ProjectSubject" => plain::<payload::ProjectSubject>(&wire),
        "EnvironmentSubject" => plain::<payload::EnvironmentSubject>(&wire),
        "PluginName" => {
            PluginName::new(wire).map(|name| Value::from(name.as_str())).map_err(|e| e.to_string())
        }
        "EventPattern" => {
            if is_pattern(&wire) {
                Ok(Value::from(wire))
            } else {
                Err("not a pattern".into())
            }
        }
        "FeatureList" => {
            Ok(Feature::parse_list(&wire).into_iter().map(Feature::as_str).collect::<Vec<_>>().into())
        }
        unknown => panic!("no reader for vectors of the kind {unknown}"),
    }
}

fn read_plugin_frame(vector: &Vector, wire: &str) -> Result<Value, String> {
    match PluginFrame::parse(wire) {
        Ok(PluginFrame::Request { request, .. }) => {
            Ok(with_type("request", serde_json::to_value(request).unwrap()))
        }
        Ok(PluginFrame::Ack(ack)) => Ok(with_type("ack", serde_json::to_value::<Ack>(ack).unwrap())),
        Err(FrameProblem::Ignore { reason }) => {
            assert_eq!(vector.says.outcome.as_deref(), Some("ignored"), "{}", vector.title());
            Err(reason)
        }
        Err(FrameProblem::Answer { id, error }) => {
            assert_eq!(vector.says.outcome.as_deref(), Some("answered"), "{}", vector.title());
            let answer = json!({"id": line(&id), "code": error.code.as_str()});
            assert_eq!(Some(&answer), vector.says.answer.as_ref(), "{}", vector.title());
            Err(error.message)
        }
    }
}

fn plain<T: DeserializeOwned + Serialize>(wire: &str) -> Result<Value, String> {
    let message: T = serde_json::from_str(wire).map_err(|e| e.to_string())?;
    Ok(serde_json::to_value(message).unwrap())
}

fn line(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn with_type(kind: &str, mut message: Value) -> Value {
    message["type"] = kind.into();
    message
}

fn schemas() -> BTreeMap<&'static str, Validator> {
    schema::all()
        .into_iter()
        .map(|(name, schema)| {
            let validator =
                jsonschema::options().should_validate_formats(true).build(&schema.to_value()).unwrap();
            (name, validator)
        })
        .collect()
}

#[test]
fn every_valid_vector_is_read_as_it_is_meant_and_survives_being_written() {
    for vector in vectors::load().unwrap().iter().filter(|vector| vector.valid) {
        let meaning = read(vector).unwrap_or_else(|why| panic!("{} was refused: {why}", vector.title()));
        match (&vector.says.normalized, &vector.says.input) {
            (Some(normalized), _) => assert_eq!(&meaning, normalized, "{}", vector.title()),
            (None, Some(Value::Object(fields))) => {
                for (name, value) in fields {
                    assert_eq!(meaning.get(name), Some(value), "{}: {name}", vector.title());
                }
            }
            (None, _) => {}
        }
        if vector.says.input.is_some() {
            let mut again = vector.clone();
            again.says.input = Some(meaning.clone());
            assert_eq!(read(&again), Ok(meaning), "{} changes when it is written", vector.title());
        }
    }
}

#[test]
fn every_invalid_vector_is_refused_and_the_refusal_names_the_field() {
    for vector in vectors::load().unwrap().iter().filter(|vector| !vector.valid) {
        let why = read(vector).expect_err(&vector.title());
        if let Some(field) = &vector.says.field {
            assert!(why.contains(field.as_str()), "{}: {why:?} does not name {field}", vector.title());
        }
    }
}

#[test]
fn patterns_take_in_what_the_vectors_say() {
    for vector in vectors::load().unwrap().iter().filter(|vector| vector.kind == "EventPattern") {
        for event_type in &vector.says.takes_in {
            assert!(pattern_matches(&vector.wire(), event_type), "{}: {event_type}", vector.title());
        }
        for event_type in &vector.says.leaves_out {
            assert!(!pattern_matches(&vector.wire(), event_type), "{}: {event_type}", vector.title());
        }
    }
}

#[test]
fn the_schemas_take_what_is_valid_and_refuse_what_they_can() {
    let schemas = schemas();
    for vector in vectors::load().unwrap() {
        let Some(schema) = schemas.get(vector.kind.as_str()) else { continue };
        let Ok(message) = serde_json::from_str::<Value>(&vector.wire()) else {
            assert!(!vector.valid, "{} is not JSON", vector.title());
            continue;
        };
        let wanted = vector.valid || vector.says.schema_accepts;
        assert_eq!(schema.is_valid(&message), wanted, "schema of {}", vector.title());
    }
}

#[test]
fn every_wire_type_has_valid_and_invalid_vectors() {
    let found: BTreeSet<(String, bool)> =
        vectors::load().unwrap().into_iter().map(|vector| (vector.kind, vector.valid)).collect();
    for (name, _) in schema::all() {
        for valid in [true, false] {
            assert!(found.contains(&(name.to_owned(), valid)), "{name}, valid: {valid}");
        }
    }
}

#[test]
fn the_schemas_in_the_specification_are_those_of_the_types() {
    let dir = vectors::spec_dir().join("schema");
    let wanted: BTreeMap<String, String> = schema::files().into_iter().collect();
    let found: BTreeMap<String, String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    for name in wanted.keys().chain(found.keys()) {
        assert_eq!(
            found.get(name),
            wanted.get(name),
            "{name} is out of date: cargo run -p temps-protocol --features schema --bin gen-spec -- write"
        );
    }
}
