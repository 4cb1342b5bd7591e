//! OpenAPI: the documents that plugins announce, merged into the host's own under each plugin's prefix.
//!
//! Pure. A plugin's document is untrusted: whatever it says, the merged document stays valid, its references resolve
//! inside it, nothing of the host's part changes, and its size is bounded. What cannot be taken over is left out; a
//! document that makes no sense at all is left out whole, with a warning.

mod mover;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use temps_protocol::PluginName;

use self::mover::Mover;

/// Longest document of one plugin in bytes, as JSON. It comes in the ready line, which is not longer.
pub const MAX_DOCUMENT_BYTES: usize = temps_protocol::limits::MAX_READY_BYTES;

/// Longest that all plugins' documents may be together, in bytes. Browsers and generators read the result whole.
pub const MAX_MERGED_BYTES: usize = 8 * 1024 * 1024;

/// Deepest nesting of a document. Readers of schemas recurse.
const MAX_DEPTH: usize = 64;

/// Sections of `components` that are taken over. Security schemes are not: the host's own hold.
const SECTIONS: [&str; 9] = [
    "schemas",
    "responses",
    "parameters",
    "examples",
    "requestBodies",
    "headers",
    "links",
    "callbacks",
    "pathItems",
];

/// Why a plugin's document was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum LeftOut {
    #[error("{0:?} is not a plugin's name")]
    Name(String),
    #[error("it is not an OpenAPI 3 document; announce one with `openapi: 3.x.y` and `paths`")]
    NotOpenApi,
    #[error("it has more than {MAX_DOCUMENT_BYTES} bytes")]
    TooLong,
    #[error("it is nested deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("the documents before it already have {MAX_MERGED_BYTES} bytes together")]
    NoRoom,
}

/// Merges the plugins' documents, each (name, document), into the host's.
///
/// Paths move under `/api/x/{name}`; components, tags and operation ids get the name in front; references follow; security
/// requirements become the host's.
#[must_use]
pub fn merge(host: Value, plugins: Vec<(String, Value)>) -> Value {
    let mut merged = host;
    let mut room = MAX_MERGED_BYTES;
    for (name, document) in plugins {
        match Adopted::from(&name, &document, merged.get("security"), &mut room) {
            Ok(adopted) => adopted.put_into(&mut merged),
            Err(reason) => {
                tracing::warn!(plugin = name, %reason, "the plugin's OpenAPI document was left out");
            }
        }
    }
    merged
}

/// A plugin's document as it stands in the merged one.
struct Adopted {
    paths: Map<String, Value>,
    components: Map<String, Value>,
    tags: Vec<Value>,
}

impl Adopted {
    fn from(
        name: &str,
        document: &Value,
        security: Option<&Value>,
        room: &mut usize,
    ) -> Result<Self, LeftOut> {
        PluginName::new(name).map_err(|_| LeftOut::Name(name.to_owned()))?;
        let version = document.get("openapi").and_then(Value::as_str).unwrap_or_default();
        let paths = document.get("paths").and_then(Value::as_object);
        let (true, Some(paths)) = (version.starts_with("3."), paths) else { return Err(LeftOut::NotOpenApi) };
        if is_deeper(document, MAX_DEPTH) {
            return Err(LeftOut::TooDeep);
        }
        let length = document.to_string().len();
        if length > MAX_DOCUMENT_BYTES {
            return Err(LeftOut::TooLong);
        }
        *room = room.checked_sub(length).ok_or(LeftOut::NoRoom)?;

        let mover =
            Mover { name, known: component_refs(document), security, old: version.starts_with("3.0") };
        let paths = paths.iter().filter_map(|(path, item)| mover.path(path, item)).collect();
        let components = SECTIONS
            .iter()
            .filter_map(|section| {
                let given = document.get("components")?.get(section)?.as_object()?;
                let moved = given.iter().filter(|(key, value)| is_component_key(key) && value.is_object());
                let moved: Map<String, Value> = moved
                    .map(|(key, value)| (mover.prefixed(key), mover.component(section, value)))
                    .collect();
                (!moved.is_empty()).then(|| ((*section).to_owned(), Value::Object(moved)))
            })
            .collect();
        Ok(Self { paths, components, tags: mover.tags(document) })
    }

    /// Adds everything; what the host has already, under whatever name, stays as it is.
    fn put_into(self, merged: &mut Value) {
        let Some(merged) = merged.as_object_mut() else { return };
        add_all(merged, "paths", self.paths);
        for (section, entries) in self.components {
            if let (Value::Object(entries), Some(components)) = (entries, object(merged, "components")) {
                add_all(components, &section, entries);
            }
        }
        let tags = merged.entry("tags").or_insert_with(|| json!([]));
        if let Some(tags) = tags.as_array_mut() {
            tags.extend(self.tags);
        }
    }
}

fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    parent.entry(key).or_insert_with(|| json!({})).as_object_mut()
}

fn add_all(parent: &mut Map<String, Value>, key: &str, entries: Map<String, Value>) {
    if let Some(target) = object(parent, key) {
        for (name, value) in entries {
            target.entry(name).or_insert(value);
        }
    }
}

/// All components that can be referred to, as `section/key`.
fn component_refs(document: &Value) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for section in SECTIONS {
        let given = document.get("components").and_then(|all| all.get(section)).and_then(Value::as_object);
        for (key, value) in given.into_iter().flatten() {
            if is_component_key(key) && value.is_object() {
                known.insert(format!("{section}/{key}"));
            }
        }
    }
    known
}

fn is_component_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn is_deeper(value: &Value, than: usize) -> bool {
    match value {
        Value::Array(items) => than == 0 || items.iter().any(|item| is_deeper(item, than - 1)),
        Value::Object(fields) => than == 0 || fields.values().any(|field| is_deeper(field, than - 1)),
        _ => false,
    }
}
