//! The two lines that a plugin writes to stdout when it starts: its manifest, then ready.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::feature::Feature;
use crate::manifest::{ManifestProblem, PluginManifest, null_as_default};

/// The second handshake line: the plugin serves its socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ready {
    /// `false` means that the plugin cannot start; the host treats it as a failed start.
    pub ready: bool,
    /// Whether the plugin says that it has a UI. A hint only: the host also asks `GET /ui/`.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    pub has_ui: bool,
    /// The plugin's OpenAPI document, merged into the host's under the plugin's prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openapi: Option<Value>,
    /// Optional abilities that the plugin has; see [`Feature`].
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub features: Vec<String>,
}

impl Ready {
    /// The features that the plugin announced and this version knows.
    #[must_use]
    pub fn known_features(&self) -> Vec<Feature> {
        self.features.iter().filter_map(|word| Feature::parse(word)).collect()
    }

    /// The line that announces this, without its newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        typed_line("ready", self)
    }
}

/// Why a handshake line was refused. The texts are for the plugin's author.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HandshakeError {
    /// The line is not a JSON object.
    #[error(
        "expected the {expected} line, found {found:?}, which is not a JSON object; write only the two handshake lines to stdout, and logs to stderr"
    )]
    NotJson {
        /// `manifest` or `ready`.
        expected: &'static str,
        /// The beginning of the line.
        found: String,
    },
    /// The line is an object of another type.
    #[error("expected a line of type {expected:?}, found type {found:?}")]
    WrongType {
        /// `manifest` or `ready`.
        expected: &'static str,
        /// What stood there.
        found: String,
    },
    /// The line announces a later protocol that this host does not speak.
    #[error(
        "the plugin speaks another version of the protocol (its first line has type \"hello\"); build it for protocol version 1"
    )]
    UnknownDialect,
    /// A field is missing or of the wrong type.
    #[error("the {line} line cannot be read: {reason}")]
    BadField {
        /// `manifest` or `ready`.
        line: &'static str,
        /// Which field, and why.
        reason: String,
    },
    /// The manifest can be read but breaks rules.
    #[error("the manifest is not valid: {}", list(.0))]
    InvalidManifest(Vec<ManifestProblem>),
    /// The plugin itself said that it cannot start.
    #[error("the plugin said ready:false; its log has the reason")]
    NotReady,
}

fn list(problems: &[ManifestProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Reads and checks the manifest line.
///
/// # Errors
/// [`HandshakeError`] in words that the plugin's author can act on.
pub fn parse_manifest_line(line: &str) -> Result<PluginManifest, HandshakeError> {
    let value = parse_object("manifest", line)?;
    let manifest: PluginManifest = read_fields("manifest", value)?;
    manifest.check().map_err(|e| HandshakeError::InvalidManifest(e.problems))?;
    Ok(manifest)
}

/// Reads and checks the ready line.
///
/// # Errors
/// [`HandshakeError`] in words that the plugin's author can act on; [`HandshakeError::NotReady`] for `ready:false`.
pub fn parse_ready_line(line: &str) -> Result<Ready, HandshakeError> {
    let value = parse_object("ready", line)?;
    let ready: Ready = read_fields("ready", value)?;
    if ready.ready { Ok(ready) } else { Err(HandshakeError::NotReady) }
}

/// Reads the fields of a line. A refusal names the field: `events: invalid type: string "x", expected a sequence`.
fn read_fields<T: DeserializeOwned>(line: &'static str, value: Value) -> Result<T, HandshakeError> {
    serde_path_to_error::deserialize(value)
        .map_err(|e| HandshakeError::BadField { line, reason: e.to_string() })
}

fn parse_object(expected: &'static str, line: &str) -> Result<Value, HandshakeError> {
    let not_json = || HandshakeError::NotJson { expected, found: line.trim().chars().take(120).collect() };
    let value: Value = serde_json::from_str(line.trim()).map_err(|_| not_json())?;
    if !value.is_object() {
        return Err(not_json());
    }
    match value.get("type").and_then(Value::as_str) {
        Some(found) if found == expected => Ok(value),
        Some("hello") => Err(HandshakeError::UnknownDialect),
        Some(found) => Err(HandshakeError::WrongType { expected, found: found.chars().take(60).collect() }),
        None => Err(HandshakeError::WrongType { expected, found: String::new() }),
    }
}

pub(crate) fn typed_line<T: Serialize>(kind: &str, body: &T) -> String {
    let mut line = serde_json::Map::new();
    line.insert("type".into(), kind.into());
    if let Ok(Value::Object(fields)) = serde_json::to_value(body) {
        line.extend(fields);
    }
    Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ARTICLE: &str = r#"{"type":"manifest","name":"slack-notifier","version":"1.0.0","display_name":"Slack Notifier",
        "description":"Sends deployment notifications to Slack","events":["deployment.succeeded","deployment.ready"],
        "health_path":"/health"}"#;

    #[test]
    fn the_articles_lines_are_read() {
        let manifest = parse_manifest_line(ARTICLE).unwrap();
        assert_eq!(manifest.name, "slack-notifier");
        assert_eq!(manifest.events, ["deployment.succeeded", "deployment.ready"]);
        assert!(!manifest.requires_db);
        let ready = parse_ready_line(r#"{"type":"ready","ready":true,"has_ui":false}"#).unwrap();
        assert!(!ready.has_ui && ready.features.is_empty());
    }

    #[test]
    fn nulls_and_unknown_fields_of_plugins_in_use_are_read() {
        let line = r#"{"type":"manifest","name":"a","version":"1.0.0","display_name":null,"nav":null,"ui":null,"events":null,
            "health_path":null,"requires_db":null,"capabilities":["api_read"],"hide_header":true}"#;
        let manifest = parse_manifest_line(line).unwrap();
        assert_eq!(manifest.health_path, "/health");
        assert!(
            parse_ready_line(
                r#"{"type":"ready","ready":true,"has_ui":null,"protocol_version":2,"features":null}"#
            )
            .is_ok()
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        let message = |line: &str| parse_manifest_line(line).unwrap_err().to_string();
        assert!(message("Listening on port 80").contains("logs to stderr"));
        assert!(message(r#"{"type":"ready","ready":true}"#).contains("expected a line of type \"manifest\""));
        assert!(message(r#"{"type":"hello","protocol_version":2}"#).contains("protocol version 1"));
        assert!(message(r#"{"type":"manifest","version":"1.0.0"}"#).contains("name"));
        assert!(message(r#"{"type":"manifest","name":"../x","version":"1.0.0"}"#).contains("name"));
        assert_eq!(parse_ready_line(r#"{"type":"ready","ready":false}"#), Err(HandshakeError::NotReady));
    }

    #[test]
    fn a_written_line_is_read_back() {
        let manifest = parse_manifest_line(ARTICLE).unwrap();
        assert_eq!(parse_manifest_line(&manifest.to_line()).unwrap(), manifest);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_readers_panic(line in "\\PC{0,300}") {
            let _ = parse_manifest_line(&line);
            let _ = parse_ready_line(&line);
        }
    }
}
