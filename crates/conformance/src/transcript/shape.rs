//! Comparing by shape: what a plugin chooses anew in each life is matched by its kind, and consistently; all else as it is.
//!
//! Kinds are ids (UUIDs and the ids of requests), times, versions, the paths of this life, and secrets. What the host said
//! before is no choice of the plugin: an id or a time that the plugin repeats is expected as it was said.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::read::MASK;

/// Fields with a version of something, of any value.
const VERSIONS: [&str; 2] = ["version", "api_version"];

/// Fields that say what something is. They are compared first.
const TELLING: [&str; 3] = ["type", "method", "name"];

/// Endings of the names of fields whose numbers are times or belong to one process.
const NUMBERS_OF_A_LIFE: [&str; 6] = ["_at", "_ms", "_seconds", "timestamp", "uptime", "pid"];

/// Where what came is otherwise than expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// The field, as a path into the step; empty for all of it.
    pub(super) field: String,
    pub(super) expected: String,
    pub(super) got: String,
}

/// What stands for what in this life.
#[derive(Debug, Clone, Default)]
pub(super) struct Shapes {
    /// Texts of the file and what stands for them in this life, from its start: the secret, paths.
    places: Vec<(String, String)>,
    /// Ids of the file that the plugin chose, and those that it chose in this life.
    chosen: BTreeMap<String, String>,
    /// Ids of requests, as JSON.
    requests: BTreeMap<String, Value>,
    /// Ids and times that the host said.
    said: BTreeSet<String>,
    /// What is sent for a secret that was masked.
    fresh: String,
}

impl Shapes {
    /// Nothing is known yet; `fresh` is sent for secrets that were masked.
    pub(super) fn with_fresh(fresh: String) -> Self {
        Self { fresh, ..Self::default() }
    }

    /// From here on `actual` stands for `recorded`.
    pub(super) fn place(&mut self, recorded: &str, actual: &str) {
        if !recorded.is_empty() && recorded != MASK {
            self.places.push((recorded.to_owned(), actual.to_owned()));
            // A longer path is never taken for the shorter one that it begins with.
            self.places.sort_by_key(|(recorded, _)| std::cmp::Reverse(recorded.len()));
        }
    }

    /// A new channel begins, whose requests are numbered anew.
    pub(super) fn new_channel(&mut self) {
        self.requests.clear();
    }

    /// A text of the host, as it is sent in this life.
    pub(super) fn send_text(&mut self, text: &str) -> String {
        for word in words(text) {
            if kind_of(word) != Kind::Plain && !self.chosen.contains_key(word) {
                self.said.insert(word.to_owned());
            }
        }
        let mut sent = self.placed(text).replace(MASK, &self.fresh);
        for (recorded, actual) in &self.chosen {
            sent = sent.replace(recorded, actual);
        }
        sent
    }

    /// A JSON value of the host, as it is sent in this life.
    pub(super) fn send_value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.send_text(text)),
            Value::Array(values) => values.iter().map(|value| self.send_value(value)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), self.send_value(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// A frame of the host. What needs no change stays exactly as it is in the file.
    pub(super) fn send_frame(&mut self, text: &str) -> String {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return self.send_text(text) };
        let mut sent = self.send_value(&frame);
        if let Some(id) = frame.get("id").filter(|_| frame["type"] == "response")
            && let Some(actual) = self.requests.get(&id.to_string())
        {
            sent["id"] = actual.clone();
        }
        if sent == frame { text.to_owned() } else { sent.to_string() }
    }

    /// Whether a frame of the plugin is the expected one.
    pub(super) fn frame(&mut self, expected: &str, got: &str) -> Result<(), Difference> {
        let read = |text: &str| serde_json::from_str::<Value>(text).ok().map(usual);
        let (wanted, came) = match (read(expected), read(got)) {
            (Some(wanted), Some(came)) => (wanted, came),
            (None, None) => return self.text("text", expected, got),
            _ => return Err(differ("text", expected, got)),
        };
        let mut tried = self.clone();
        let (mut wanted, mut came) = (wanted, came);
        if wanted["type"] == "request"
            && came["type"] == "request"
            && let (Some(fields), Some(others)) = (wanted.as_object_mut(), came.as_object_mut())
        {
            match (fields.remove("id"), others.remove("id")) {
                (Some(id), Some(actual)) => tried.request(&id, actual)?,
                (None, None) => {}
                (id, actual) => return Err(differ("text.id", &shown(id.as_ref()), &shown(actual.as_ref()))),
            }
        }
        // Why an event failed is told in the plugin's words.
        if wanted["type"] == "ack"
            && came["type"] == "ack"
            && wanted["error"].is_string()
            && came["error"].is_string()
        {
            came["error"] = wanted["error"].clone();
        }
        tried.value("text", &wanted, &came)?;
        *self = tried;
        Ok(())
    }

    fn request(&mut self, id: &Value, actual: Value) -> Result<(), Difference> {
        let is_id = |id: &Value| id.is_number() || id.is_string();
        let used = self.requests.values().any(|used| *used == actual);
        if is_id(id) && (!is_id(&actual) || used) {
            let wanted = if used { "an id that no request had before" } else { "an id" };
            return Err(differ("text.id", wanted, &actual.to_string()));
        }
        self.requests.insert(id.to_string(), actual);
        Ok(())
    }

    /// Whether a JSON value is the expected one.
    pub(super) fn value(&mut self, field: &str, expected: &Value, got: &Value) -> Result<(), Difference> {
        let different = || Err(differ(field, &expected.to_string(), &got.to_string()));
        match (expected, got) {
            (Value::String(wanted), Value::String(came)) => {
                let name = field.rsplit('.').next().unwrap_or_default();
                if VERSIONS.contains(&name) { Ok(()) } else { self.text(field, wanted, came) }
            }
            // A secret that is no text was masked as a whole.
            (Value::String(mask), _) if mask == MASK => Ok(()),
            (Value::Number(wanted), Value::Number(came)) => {
                let of_a_life = NUMBERS_OF_A_LIFE.iter().any(|ending| field.ends_with(ending));
                if of_a_life || wanted.as_f64() == came.as_f64() { Ok(()) } else { different() }
            }
            (Value::Array(wanted), Value::Array(came)) if wanted.len() == came.len() => wanted
                .iter()
                .zip(came)
                .enumerate()
                .try_for_each(|(at, (wanted, came))| self.value(&format!("{field}[{at}]"), wanted, came)),
            (Value::Object(wanted), Value::Object(came)) => self.fields(field, wanted, came),
            _ if expected == got => Ok(()),
            _ => different(),
        }
    }

    fn fields(
        &mut self,
        field: &str,
        wanted: &Map<String, Value>,
        came: &Map<String, Value>,
    ) -> Result<(), Difference> {
        // Something of another kind is told by its kind, and not by what follows from it.
        let (first, rest): (Vec<_>, Vec<_>) =
            wanted.iter().partition(|(name, _)| TELLING.contains(&name.as_str()));
        for (name, value) in first.into_iter().chain(rest) {
            let inner = format!("{field}.{name}");
            match came.get(name) {
                Some(got) => self.value(&inner, value, got)?,
                None => return Err(differ(&inner, &value.to_string(), "no such field")),
            }
        }
        match came.iter().find(|(name, _)| !wanted.contains_key(*name)) {
            Some((name, value)) => {
                Err(differ(&format!("{field}.{name}"), "no such field", &value.to_string()))
            }
            None => Ok(()),
        }
    }

    /// Whether a text is the expected one: word by word, where it is not the same as a whole.
    pub(super) fn text(&mut self, field: &str, expected: &str, got: &str) -> Result<(), Difference> {
        let wanted = self.placed(expected);
        if wanted == got || wanted.contains(MASK) && fits_mask(&wanted, got) {
            return Ok(());
        }
        let mut tried = self.clone();
        let (wanted, came): (Vec<&str>, Vec<&str>) = (pieces(&wanted), pieces(got));
        let same = wanted.len() == came.len()
            && wanted.iter().zip(&came).all(|(wanted, came)| tried.word(wanted, came));
        if !same {
            return Err(differ(field, &format!("{expected:?}"), &format!("{got:?}")));
        }
        *self = tried;
        Ok(())
    }

    fn word(&mut self, wanted: &str, came: &str) -> bool {
        if wanted == came {
            return true;
        }
        if self.said.contains(wanted) || kind_of(wanted) != kind_of(came) {
            return false;
        }
        match kind_of(wanted) {
            Kind::Plain => false,
            Kind::Time => true,
            // One id stands for one id, both ways.
            Kind::Id => match self.chosen.get(wanted) {
                Some(chosen) => chosen == came,
                None if self.said.contains(came) || self.chosen.values().any(|chosen| chosen == came) => {
                    false
                }
                None => self.chosen.insert(wanted.to_owned(), came.to_owned()).is_none(),
            },
        }
    }

    fn placed(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (recorded, actual)| text.replace(recorded, actual))
    }
}

fn differ(field: &str, expected: &str, got: &str) -> Difference {
    Difference { field: field.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "no such field".to_owned(), Value::to_string)
}

/// A frame in its usual form: with its type, and without parameters that say nothing.
fn usual(mut frame: Value) -> Value {
    if let Some(fields) = frame.as_object_mut() {
        if !fields.contains_key("type") && fields.contains_key("method") {
            fields.insert("type".into(), "request".into());
        }
        let empty = |params: &Value| params.is_null() || *params == json!({});
        if fields.get("params").is_some_and(empty) {
            fields.remove("params");
        }
    }
    frame
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Id,
    Time,
}

fn kind_of(word: &str) -> Kind {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let groups: Vec<usize> = word.split('-').map(str::len).collect();
    if groups == [8, 4, 4, 4, 12] && word.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
        return Kind::Id;
    }
    let date = word.get(..10).is_some_and(|date| {
        let parts: Vec<&str> = date.split('-').collect();
        parts.len() == 3
            && parts.iter().map(|part| part.len()).eq([4, 2, 2])
            && parts.iter().all(|p| digits(p))
    });
    if date && word.get(10..11) == Some("T") && word.len() >= 19 { Kind::Time } else { Kind::Plain }
}

/// What an id or a time consists of; everything else stands between words.
fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | ':' | '.' | '+')
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !in_word(c)).filter(|word| !word.is_empty())
}

/// The text in words and what stands between them.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| in_word(c) != in_word(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Whether a text has everything of another one in which secrets are masked.
fn fits_mask(masked: &str, text: &str) -> bool {
    let mut parts = masked.split(MASK);
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (at, part) in parts.iter().enumerate() {
        if at + 1 == parts.len() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(found) => rest = &rest[found + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0197a5c8-7d3e-7c1a-9f55-0d2c6a1b3e01";
    const B: &str = "0197a5c8-7d3e-7c1a-9f55-0d2c6a1b3e02";
    const C: &str = "0197a5c8-7d3e-7c1a-9f55-0d2c6a1b3e03";

    fn asks(id: &str, key: &str) -> String {
        format!(r#"{{"type":"request","id":{id},"method":"kv_get","params":{{"key":"{key}"}}}}"#)
    }

    #[test]
    fn ids_of_requests_are_mapped_into_the_answers_and_never_used_twice() {
        let mut shapes = Shapes::default();
        shapes.frame(&asks("1", "a"), &asks("\"x-7\"", "a")).unwrap();
        let answer = |id: &str| format!(r#"{{"type":"response","id":{id},"result":null}}"#);
        assert_eq!(shapes.send_frame(&answer("1")), r#"{"id":"x-7","result":null,"type":"response"}"#);
        assert_eq!(shapes.send_frame(&answer("9")), answer("9"));
        let twice = shapes.frame(&asks("2", "b"), &asks("\"x-7\"", "b")).unwrap_err();
        assert_eq!(twice.field, "text.id");
        assert_eq!(shapes.frame(&asks("2", "b"), &asks("null", "b")).unwrap_err().field, "text.id");
    }

    #[test]
    fn a_field_that_is_otherwise_is_named() {
        let mut shapes = Shapes::default();
        let wrong = shapes.frame(&asks("1", "a"), &asks("1", "b")).unwrap_err();
        assert_eq!(
            (wrong.field.as_str(), wrong.expected.as_str(), wrong.got.as_str()),
            ("text.params.key", "\"a\"", "\"b\"")
        );
        let more = shapes.value("body", &json!({"a": [1]}), &json!({"a": [1], "b": 2})).unwrap_err();
        assert_eq!((more.field.as_str(), more.got.as_str()), ("body.b", "2"));
        assert_eq!(
            shapes.value("body", &json!([{"a": 1}]), &json!([{"a": 2}])).unwrap_err().field,
            "body[0].a"
        );
        // Nothing that was tried in vain is remembered.
        shapes.frame(&asks("1", "a"), &asks("1", "a")).unwrap();
    }

    #[test]
    fn what_the_plugin_chooses_is_matched_by_kind_and_what_the_host_said_as_it_was() {
        let mut shapes = Shapes::default();
        shapes.send_text(&format!("event {A} at 2026-06-06T12:00:00Z"));
        assert!(shapes.text("t", A, A).is_ok());
        assert!(shapes.text("t", A, B).is_err(), "the host said it");
        assert!(shapes.text("t", "2026-06-06T12:00:00Z", "2026-06-07T12:00:00Z").is_err());
        assert!(shapes.text("t", "at 2026-01-06T12:00:00Z", "at 2026-06-07T12:00:00.123+02:00").is_ok());
        assert!(shapes.text("t", "at 2026-01-06T12:00:00Z", "at noon").is_err());
        assert!(shapes.text("t", &format!("/notes/{B}"), &format!("/notes/{C}")).is_ok());
        assert!(shapes.text("t", B, C).is_ok(), "the same again");
        assert!(shapes.text("t", B, A).is_err(), "another one");
        assert_eq!(shapes.send_text(&format!("/notes/{B}?all")), format!("/notes/{C}?all"));
        assert!(shapes.value("m", &json!({"version": "1.0.0"}), &json!({"version": "1.0.1-rc.1"})).is_ok());
        assert!(shapes.value("m", &json!({"version": "1.0.0"}), &json!({"version": 1})).is_err());
    }

    #[test]
    fn paths_and_secrets_are_those_of_this_life() {
        let mut shapes = Shapes::with_fresh("new".into());
        shapes.place("/run/old", "/tmp/new");
        shapes.place("/run/old.sock", "/tmp/s");
        shapes.place(MASK, "never");
        assert_eq!(shapes.send_text("/run/old.sock /run/old/a [masked]"), "/tmp/s /tmp/new/a new");
        assert!(shapes.text("t", "in /run/old", "in /tmp/new").is_ok());
        assert!(shapes.text("t", "a [masked] b [masked]", "a x b y").is_ok());
        assert!(shapes.text("t", "a [masked] b", "a x c").is_err());
    }

    #[test]
    fn parameters_that_say_nothing_and_a_type_that_goes_without_saying_make_no_difference() {
        let mut shapes = Shapes::default();
        let bare = r#"{"id":1,"method":"list_projects"}"#;
        let full = r#"{"type":"request","id":1,"method":"list_projects","params":{}}"#;
        assert!(shapes.clone().frame(bare, full).is_ok());
        assert!(shapes.frame(full, bare).is_ok());
    }
}
