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
mod tests;
