//! Events: what happened on the platform, as every plugin sees it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that happened on the platform.
///
/// The same envelope travels in a channel frame, in `POST /_events`, in the journal and in REST.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginEvent {
    /// Identity of the event, a UUID. Publishing twice with one id is publishing once.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub id: String,
    /// What happened, for example `deployment.succeeded`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$")))]
    pub event_type: String,
    /// When it happened, RFC 3339.
    pub timestamp: DateTime<Utc>,
    /// The project that it concerns, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<i32>,
    /// The payload: an object whose fields depend on `event_type`.
    #[serde(default = "empty_object")]
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Map<String, Value>"))]
    pub data: Value,
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Why an event cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The type is not dotted lower-case words.
    #[error(
        "the event type {0:?} is not of the form \"noun.verb\" in lower case, for example \"deployment.succeeded\""
    )]
    BadType(String),
    /// The id is empty, too long, or not printable ASCII.
    #[error("the event id {0:?} must be 1 to 64 printable ASCII characters, best a UUID")]
    BadId(String),
    /// The payload is not an object.
    #[error("the event's data must be a JSON object")]
    DataNotObject,
    /// The event is larger than [`crate::limits::MAX_EVENT_BYTES`] on the wire.
    #[error("the event has {0} bytes; at most 262144 are allowed")]
    TooLarge(usize),
}

impl PluginEvent {
    /// Checks the envelope against the rules of the protocol.
    ///
    /// # Errors
    /// The first rule that the event breaks.
    pub fn check(&self) -> Result<(), EventError> {
        if !is_event_type(&self.event_type) {
            return Err(EventError::BadType(self.event_type.clone()));
        }
        if self.id.is_empty() || self.id.len() > 64 || !self.id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(EventError::BadId(self.id.chars().take(80).collect()));
        }
        if !self.data.is_object() {
            return Err(EventError::DataNotObject);
        }
        let size = serde_json::to_vec(self).map_or(usize::MAX, |bytes| bytes.len());
        if size > crate::limits::MAX_EVENT_BYTES {
            return Err(EventError::TooLarge(size));
        }
        Ok(())
    }
}

/// Whether `text` is an event type: at least two dotted words of lower-case letters, digits and underscores.
#[must_use]
pub fn is_event_type(text: &str) -> bool {
    text.len() <= 128 && text.contains('.') && text.split('.').all(is_word)
}

/// Whether `text` is a subscription pattern: an event type, `prefix.*`, or `*`.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text == "*"
        || is_event_type(text)
        || text.strip_suffix(".*").is_some_and(|prefix| text.len() <= 128 && prefix.split('.').all(is_word))
}

/// Whether a subscription `pattern` takes in `event_type`.
///
/// `*` takes in everything, `deployment.*` every type that begins with `deployment.`, anything else only itself.
#[must_use]
pub fn pattern_matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) if prefix.ends_with('.') => {
            event_type.len() > prefix.len() && event_type.starts_with(prefix)
        }
        _ => pattern == event_type,
    }
}

fn is_word(word: &str) -> bool {
    let mut bytes = word.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_the_article_says() {
        assert!(pattern_matches("deployment.succeeded", "deployment.succeeded"));
        assert!(!pattern_matches("deployment.succeeded", "deployment.ready"));
        assert!(pattern_matches("deployment.*", "deployment.ready"));
        assert!(!pattern_matches("deployment.*", "deployments.ready"));
        assert!(!pattern_matches("deployment.*", "deployment."));
        assert!(pattern_matches("*", "project.created"));
    }

    #[test]
    fn malformed_types_and_patterns_are_told_apart() {
        for good in ["deployment.succeeded", "a.b.c", "x1.y_2"] {
            assert!(is_event_type(good), "{good}");
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["", "deployment", "Deployment.x", "a..b", "a.", ".a", "a.b-c", "deploy*", "a.*.b"] {
            assert!(!is_event_type(bad), "{bad}");
            assert!(!is_pattern(bad), "{bad}");
        }
        assert!(is_pattern("deployment.*") && is_pattern("*") && is_pattern("a.b.*"));
    }

    proptest! {
        #[test]
        fn a_type_matches_itself_its_prefix_and_the_star(a in "[a-z]{1,8}", b in "[a-z]{1,8}") {
            let event_type = format!("{a}.{b}");
            prop_assert!(pattern_matches(&event_type, &event_type));
            let prefix = format!("{a}.*");
            prop_assert!(pattern_matches(&prefix, &event_type));
            prop_assert!(pattern_matches("*", &event_type));
            let other = format!("{b}.*");
            prop_assert_eq!(pattern_matches(&other, &event_type), a == b);
        }
    }
}
