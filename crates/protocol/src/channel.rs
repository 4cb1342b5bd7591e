//! Frames of the channel: what a plugin sends, what the host sends, and how each is read.
//!
//! A frame is one WebSocket text message holding one JSON object. Reading is lenient in the ways that plugins in
//! use need (a request without a `type`, an id of any JSON type) and strict about everything else.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::event::PluginEvent;
use crate::storage::Configuration;

/// A request of a plugin for platform data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Request {
    /// Chosen by the plugin and returned in the response as it is. An integer by convention; any JSON value works.
    pub id: Value,
    /// Name of the method.
    pub method: String,
    /// Parameters, an object. Absent means none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Map<String, Value>>"))]
    pub params: Value,
}

/// The answer to a [`Request`]: a result or an error, never both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Response {
    /// The id of the request, as the plugin wrote it.
    pub id: Value,
    /// What the method returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ChannelError>,
}

/// Why a request was not answered with a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{code}: {message}")]
pub struct ChannelError {
    /// What kind of error it is, for programs.
    pub code: ErrorCode,
    /// What happened and what to do, for people.
    pub message: String,
    /// With [`ErrorCode::Conflict`]: the revision that the entry has now, 0 when it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
}

impl ChannelError {
    /// An error that has nothing to say beyond its message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), revision: None }
    }
}

/// Kinds of channel errors. A kind of a later version is read as [`ErrorCode::Internal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = with_later_kinds))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The host has no such method.
    MethodNotFound,
    /// A parameter is missing or of the wrong type.
    InvalidParams,
    /// The operator has not granted this.
    PermissionDenied,
    /// There is no such thing, or the plugin may not see it.
    NotFound,
    /// Too many requests are in flight; try again after an answer.
    Busy,
    /// The platform did not answer in time.
    Timeout,
    /// The entry has another revision than the call expected.
    Conflict,
    /// It would be more than the plugin may keep.
    QuotaExceeded,
    /// Something went wrong inside the host.
    Internal,
}

/// Makes the schema as lenient as the reader: beside the known kinds it takes any other word.
#[cfg(feature = "schema")]
fn with_later_kinds(schema: &mut schemars::Schema) {
    if let Some(Value::Array(mut kinds)) = schema.remove("oneOf") {
        kinds.push(
            serde_json::json!({"type": "string", "description": "A kind of a later version; read it as `internal`."}),
        );
        schema.insert("anyOf".into(), kinds.into());
    }
}

impl ErrorCode {
    /// All kinds.
    pub const ALL: [ErrorCode; 9] = [
        ErrorCode::MethodNotFound,
        ErrorCode::InvalidParams,
        ErrorCode::PermissionDenied,
        ErrorCode::NotFound,
        ErrorCode::Busy,
        ErrorCode::Timeout,
        ErrorCode::Conflict,
        ErrorCode::QuotaExceeded,
        ErrorCode::Internal,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::MethodNotFound => "method_not_found",
            ErrorCode::InvalidParams => "invalid_params",
            ErrorCode::PermissionDenied => "permission_denied",
            ErrorCode::NotFound => "not_found",
            ErrorCode::Busy => "busy",
            ErrorCode::Timeout => "timeout",
            ErrorCode::Conflict => "conflict",
            ErrorCode::QuotaExceeded => "quota_exceeded",
            ErrorCode::Internal => "internal",
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = Cow::<'_, str>::deserialize(deserializer)?;
        Ok(Self::ALL.into_iter().find(|code| code.as_str() == word).unwrap_or(ErrorCode::Internal))
    }
}

/// How a plugin ended its work on an event (feature `ack`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AckStatus {
    /// The event was handled.
    Ok,
    /// The event could not be handled; the host tries again later.
    Error,
}

/// The confirmation of one event (feature `ack`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ack {
    /// Id of the event.
    pub id: String,
    /// How the handling ended.
    pub status: AckStatus,
    /// What went wrong, when `status` is `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Ack {
    /// The confirmation of the event `id`, whose handling succeeded or failed with a reason. The reason is cut to
    /// [`MAX_ACK_REASON_CHARS`](crate::limits::MAX_ACK_REASON_CHARS).
    #[must_use]
    pub fn new(id: impl Into<String>, outcome: Result<(), &str>) -> Self {
        let cut = |reason: &str| reason.chars().take(crate::limits::MAX_ACK_REASON_CHARS).collect();
        let status = if outcome.is_ok() { AckStatus::Ok } else { AckStatus::Error };
        Self { id: id.into(), status, error: outcome.err().map(cut) }
    }

    /// The frame, as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Frame<'a> {
            r#type: &'static str,
            #[serde(flatten)]
            ack: &'a Ack,
        }
        serde_json::to_string(&Frame { r#type: "ack", ack: self }).unwrap_or_default()
    }
}

/// A frame that a plugin sent, as the host reads it.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginFrame {
    /// A request for data.
    Request {
        /// The request itself.
        request: Request,
        /// Whether the frame said `"type":"request"`. An SDK in use leaves it out, and also looks for an event's
        /// fields at the top of the frame; see [`HostFrame::event_json`].
        typed: bool,
    },
    /// The confirmation of an event.
    Ack(Ack),
}

/// What is wrong with a frame that a plugin sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameProblem {
    /// The frame has a `method`, so its sender waits for an answer: answer it with this error under this id.
    Answer {
        /// The id as it was sent; `null` when there is none.
        id: String,
        /// The answer.
        error: ChannelError,
    },
    /// Nobody waits for an answer: count it, log it, go on.
    Ignore {
        /// What was wrong, for the log.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    method: Option<&'a RawValue>,
    #[serde(default, borrow)]
    params: Option<&'a RawValue>,
}

impl PluginFrame {
    /// Reads one frame of a plugin.
    ///
    /// # Errors
    /// [`FrameProblem`] says whether the sender waits for an answer.
    pub fn parse(text: &str) -> Result<Self, FrameProblem> {
        let ignore = |reason: String| FrameProblem::Ignore { reason };
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|e| ignore(format!("not a JSON object: {e}")))?;
        match (envelope.kind.as_deref(), envelope.method) {
            (Some("request") | None, Some(method)) => parse_request(&envelope, method),
            (Some("ack"), None) => serde_json::from_str(text)
                .map(PluginFrame::Ack)
                .map_err(|e| ignore(format!("an ack that cannot be read: {e}"))),
            (_, Some(_)) => Err(answer(&envelope, "a frame with a method must be of type \"request\"")),
            (Some("request"), None) => Err(ignore("a request without a method".into())),
            (Some(kind), None) => Err(ignore(format!("a frame of the unknown type {kind:?}"))),
            (None, None) => Err(ignore("a frame without type and method".into())),
        }
    }
}

fn parse_request(envelope: &Envelope<'_>, method: &RawValue) -> Result<PluginFrame, FrameProblem> {
    let method: String =
        serde_json::from_str(method.get()).map_err(|_| answer(envelope, "\"method\" must be a string"))?;
    let id = match envelope.id {
        Some(id) => serde_json::from_str(id.get()).map_err(|_| answer(envelope, "\"id\" cannot be read"))?,
        None => return Err(answer(envelope, "a request needs an \"id\"")),
    };
    let params = match envelope.params {
        Some(params) => {
            serde_json::from_str(params.get()).map_err(|_| answer(envelope, "\"params\" cannot be read"))?
        }
        None => Value::Null,
    };
    if !matches!(params, Value::Null | Value::Object(_)) {
        return Err(answer(envelope, "\"params\" must be an object"));
    }
    Ok(PluginFrame::Request { request: Request { id, method, params }, typed: envelope.kind.is_some() })
}

fn answer(envelope: &Envelope<'_>, message: &str) -> FrameProblem {
    FrameProblem::Answer {
        id: envelope.id.map_or_else(|| "null".to_owned(), |id| id.get().to_owned()),
        error: ChannelError::new(ErrorCode::InvalidParams, message),
    }
}

/// A frame that the host sends, as a plugin reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostFrame {
    /// The answer to a request.
    Response(Response),
    /// Something happened.
    Event {
        /// What happened.
        event: PluginEvent,
    },
    /// The plugin's configuration, whole: right after the channel was opened, and after each change (feature `config`).
    Config(Configuration),
}

impl HostFrame {
    /// The frame of an answer, as JSON text, from a result that is already JSON.
    #[must_use]
    pub fn response_json(id: &Value, outcome: &Result<Box<RawValue>, ChannelError>) -> String {
        #[derive(Serialize)]
        struct Frame<'a> {
            r#type: &'static str,
            id: &'a Value,
            #[serde(skip_serializing_if = "Option::is_none")]
            result: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a ChannelError>,
        }
        let frame = Frame {
            r#type: "response",
            id,
            result: outcome.as_ref().ok().map(|raw| &**raw),
            error: outcome.as_ref().err(),
        };
        serde_json::to_string(&frame).unwrap_or_default()
    }

    /// The frame of an event, as JSON text, from the event's own JSON.
    ///
    /// With `flat`, the event's fields also stand at the top of the frame, where the SDK that sends requests
    /// without a `type` looks for them.
    #[must_use]
    pub fn event_json(event: &str, flat: bool) -> String {
        if flat && let Some(fields) = event.trim_end().strip_prefix('{') {
            return format!("{{\"type\":\"event\",\"event\":{event},{fields}");
        }
        format!("{{\"type\":\"event\",\"event\":{event}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_articles_request_is_read() {
        let text = r#"{"type":"request","id":1,"method":"get_project","params":{"project_id":42}}"#;
        let frame = PluginFrame::parse(text).unwrap();
        let request =
            Request { id: json!(1), method: "get_project".into(), params: json!({"project_id": 42}) };
        assert_eq!(frame, PluginFrame::Request { request, typed: true });
    }

    #[test]
    fn an_untyped_request_with_a_string_id_is_read() {
        let text = r#"{"id":"5f0c","method":"list_projects","params":{}}"#;
        let PluginFrame::Request { request, typed } = PluginFrame::parse(text).unwrap() else {
            panic!("no request")
        };
        assert_eq!((request.id, typed), (json!("5f0c"), false));
    }

    #[test]
    fn only_a_frame_with_a_method_is_answered() {
        for silent in ["", "[]", "1", r#"{"type":"request","id":1}"#, r#"{"type":"hello"}"#, r#"{"id":3}"#] {
            assert!(matches!(PluginFrame::parse(silent), Err(FrameProblem::Ignore { .. })), "{silent}");
        }
        for (text, wanted) in [
            (r#"{"type":"call","id":[7],"method":"x"}"#, "[7]"),
            (r#"{"type":"request","method":"x"}"#, "null"),
            (r#"{"type":"request","id":"a","method":5}"#, "\"a\""),
            (r#"{"type":"request","id":2,"method":"x","params":[]}"#, "2"),
        ] {
            let Err(FrameProblem::Answer { id, .. }) = PluginFrame::parse(text) else {
                panic!("not answered: {text}")
            };
            assert_eq!(id, wanted);
        }
    }

    #[test]
    fn host_frames_read_back_as_what_was_written() {
        let ok = HostFrame::response_json(&json!(1), &Ok(RawValue::from_string("{\"a\":1}".into()).unwrap()));
        assert_eq!(ok, r#"{"type":"response","id":1,"result":{"a":1}}"#);
        let error = ChannelError::new(ErrorCode::NotFound, "no such project");
        let text = HostFrame::response_json(&json!("x"), &Err(error.clone()));
        let expected = Response { id: json!("x"), result: None, error: Some(error) };
        assert_eq!(serde_json::from_str::<HostFrame>(&text).unwrap(), HostFrame::Response(expected));
    }

    #[test]
    fn an_ack_reads_back_as_what_was_written_and_its_reason_is_bounded() {
        assert_eq!(Ack::new("a", Ok(())).to_json(), r#"{"type":"ack","id":"a","status":"ok"}"#);
        let ack = Ack::new("b", Err(&"ä".repeat(5_000)));
        assert_eq!(ack.error.as_ref().map(|reason| reason.chars().count()), Some(1_024));
        assert_eq!(PluginFrame::parse(&ack.to_json()), Ok(PluginFrame::Ack(ack)));
    }

    #[test]
    fn a_flat_event_carries_both_shapes() {
        let event = r#"{"id":"e","event_type":"a.b","timestamp":"2026-06-06T12:00:00Z","data":{}}"#;
        let value: Value = serde_json::from_str(&HostFrame::event_json(event, true)).unwrap();
        assert_eq!(value["event"]["event_type"], value["event_type"]);
        let value: Value = serde_json::from_str(&HostFrame::event_json(event, false)).unwrap();
        assert_eq!(value.get("event_type"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = PluginFrame::parse(&text);
        }

        #[test]
        fn every_json_id_comes_back_as_it_was(id in prop_oneof![
            any::<i64>().prop_map(|n| json!(n)), "\\PC{0,20}".prop_map(|s| json!(s)), Just(json!(null)), Just(json!({"a":[1]})),
        ]) {
            let text = json!({"type":"request","id":id,"method":"m"}).to_string();
            if let Ok(PluginFrame::Request { request, .. }) = PluginFrame::parse(&text) {
                prop_assert_eq!(request.id, id);
            } else {
                // serde reads an explicit null as an absent id.
                prop_assert!(id.is_null());
            }
        }
    }
}
