//! The way of one plugin's document to its place in the merged one: what each part becomes there, and which parts stay out.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::proxy::path::{PREFIX, Place, Target};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// Keys whose values are data and no part of the description.
pub(super) const DATA: [&str; 5] = ["example", "default", "enum", "const", "value"];

/// Keys whose value maps names to descriptions, so that a name is never taken for a key.
pub(super) const NAMED: [&str; 12] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "content",
    "responses",
    "headers",
    "encoding",
    "links",
    "callbacks",
    "variables",
];

/// Moves parts of one plugin's document to their new places.
pub(super) struct Mover<'a> {
    pub(super) name: &'a str,
    /// References that resolve, in the form `#/components/section/key`.
    pub(super) known: BTreeSet<String>,
    pub(super) security: Option<&'a Value>,
    /// Whether the document is OpenAPI 3.0, whose schemas say `nullable`.
    pub(super) old: bool,
}

impl Mover<'_> {
    pub(super) fn prefixed(&self, text: &str) -> String {
        format!("{}.{text}", self.name)
    }

    /// A path and its operations, if the host would serve the path.
    pub(super) fn path(&self, path: &str, item: &Value) -> Option<(String, Value)> {
        let full = format!("{PREFIX}{}{path}", self.name);
        let served = path.starts_with('/')
            && !path.contains(['?', '#'])
            && Target::parse(&full).is_ok_and(|target| !matches!(target.place, Place::Host(_)));
        if !served {
            return None;
        }
        Some((full, self.path_item(item.as_object()?)))
    }

    fn path_item(&self, item: &Map<String, Value>) -> Value {
        let mut out = Map::new();
        for (key, value) in item {
            match key.as_str() {
                method if METHODS.contains(&method) => {
                    if let Some(operation) = value.as_object() {
                        out.insert(key.clone(), self.operation(operation));
                    }
                }
                "parameters" if value.is_array() => {
                    out.insert(key.clone(), self.node(value));
                }
                "summary" | "description" if value.is_string() => {
                    out.insert(key.clone(), value.clone());
                }
                "$ref" => {
                    if let Some(moved) = value.as_str().and_then(|target| self.reference(target)) {
                        out.insert(key.clone(), moved.into());
                    }
                }
                _ => {}
            }
        }
        Value::Object(out)
    }

    fn operation(&self, operation: &Map<String, Value>) -> Value {
        let mut out = self.fields(operation);
        let tags: Vec<Value> = match operation.get("tags").and_then(Value::as_array) {
            Some(tags) if !tags.is_empty() => {
                tags.iter().filter_map(Value::as_str).map(|tag| self.prefixed(tag).into()).collect()
            }
            _ => vec![self.name.into()],
        };
        out.insert("tags".into(), tags.into());
        if let Some(id) = operation.get("operationId").and_then(Value::as_str) {
            out.insert("operationId".into(), self.prefixed(id).into());
        }
        if let Some(security) = self.security {
            out.insert("security".into(), security.clone());
        }
        let answers = out.get("responses").and_then(Value::as_object);
        if answers.is_none_or(Map::is_empty) {
            out.insert("responses".into(), json!({ "default": { "description": "The plugin's answer." } }));
        }
        Value::Object(out)
    }

    pub(super) fn component(&self, section: &str, value: &Value) -> Value {
        match (section, value.as_object()) {
            ("pathItems", Some(item)) => self.path_item(item),
            ("callbacks", Some(callback)) => self.callback(callback),
            _ => self.node(value),
        }
    }

    fn callback(&self, callback: &Map<String, Value>) -> Value {
        if let Some(target) = callback.get("$ref").and_then(Value::as_str) {
            return self.reference(target).map_or_else(|| json!({}), |moved| json!({ "$ref": moved }));
        }
        let items =
            callback.iter().filter_map(|(key, item)| Some((key.clone(), self.path_item(item.as_object()?))));
        Value::Object(items.collect())
    }

    /// A description: an object whose keys mean something, or a list of such.
    fn node(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.node(item)).collect(),
            Value::Object(fields) => match fields.get("$ref").and_then(Value::as_str) {
                // What points outside of the document, or nowhere, could be anything.
                Some(target) if self.reference(target).is_none() => json!({}),
                _ => {
                    let mut out = self.fields(fields);
                    if self.old {
                        modernise(&mut out);
                    }
                    Value::Object(out)
                }
            },
            other => other.clone(),
        }
    }

    fn fields(&self, fields: &Map<String, Value>) -> Map<String, Value> {
        let mut out = Map::new();
        for (key, value) in fields {
            let moved = match (key.as_str(), value) {
                // They would lead away from the host, or change what references mean.
                ("servers" | "server" | "security" | "$id" | "operationRef" | "tags", _) => continue,
                ("$ref", Value::String(target)) => match self.reference(target) {
                    Some(moved) => moved.into(),
                    None => continue,
                },
                ("operationId", Value::String(id)) => self.prefixed(id).into(),
                ("callbacks", Value::Object(callbacks)) => callbacks
                    .iter()
                    .filter_map(|(name, callback)| Some((name.clone(), self.callback(callback.as_object()?))))
                    .collect::<Map<_, _>>()
                    .into(),
                ("mapping", Value::Object(mapping)) => self.mapping(mapping),
                ("examples", Value::Object(examples)) => self.named(examples),
                ("examples", _) => value.clone(),
                (key, _) if DATA.contains(&key) || key.starts_with("x-") => value.clone(),
                (key, Value::Object(named)) if NAMED.contains(&key) => self.named(named),
                _ => self.node(value),
            };
            out.insert(key.clone(), moved);
        }
        out
    }

    fn named(&self, entries: &Map<String, Value>) -> Value {
        entries.iter().map(|(name, value)| (name.clone(), self.node(value))).collect::<Map<_, _>>().into()
    }

    /// A discriminator's mapping; its values are references or bare names of schemas.
    fn mapping(&self, mapping: &Map<String, Value>) -> Value {
        let moved = mapping.iter().filter_map(|(key, value)| {
            let text = value.as_str()?;
            let target =
                if text.starts_with('#') { text.to_owned() } else { format!("#/components/schemas/{text}") };
            Some((key.clone(), self.reference(&target)?.into()))
        });
        Value::Object(moved.collect())
    }

    /// Where a reference leads in the merged document; `None` when it leads nowhere, or outside.
    fn reference(&self, target: &str) -> Option<String> {
        let mut steps = target.strip_prefix("#/components/")?.splitn(3, '/');
        let (section, key, deeper) = (steps.next()?, steps.next()?, steps.next());
        if deeper.is_some() || !self.known.contains(&format!("{section}/{key}")) {
            return None;
        }
        Some(format!("#/components/{section}/{}", self.prefixed(key)))
    }

    pub(super) fn tags(&self, document: &Value) -> Vec<Value> {
        let info = |key: &str| document.get("info").and_then(|info| info.get(key)).and_then(Value::as_str);
        let about = info("description").or_else(|| info("title")).unwrap_or("Routes of the plugin.");
        let mut tags = vec![json!({ "name": self.name, "description": about })];
        for tag in document.get("tags").and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = tag.get("name").and_then(Value::as_str) {
                let mut moved = json!({ "name": self.prefixed(name) });
                if let Some(description) = tag.get("description").filter(|text| text.is_string()) {
                    moved["description"] = description.clone();
                }
                if !tags.iter().any(|known| known["name"] == moved["name"]) {
                    tags.push(moved);
                }
            }
        }
        tags
    }
}

/// Says in the words of OpenAPI 3.1 what a schema of 3.0 says in its own.
fn modernise(schema: &mut Map<String, Value>) {
    if schema.remove("nullable") == Some(Value::Bool(true))
        && let Some(Value::String(kind)) = schema.get("type").cloned()
    {
        schema.insert("type".into(), json!([kind, "null"]));
    }
    for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match schema.get(exclusive) {
            Some(Value::Bool(true)) => {
                schema.remove(exclusive);
                if let Some(value) = schema.remove(bound) {
                    schema.insert(exclusive.into(), value);
                }
            }
            Some(Value::Bool(false)) => {
                schema.remove(exclusive);
            }
            _ => {}
        }
    }
}
