//! OpenAPI: the documents that plugins announce, merged into the host's own under each plugin's prefix.
//!
//! Pure. A plugin's document is untrusted: whatever it says, the merged document stays valid, its references resolve
//! inside it, nothing of the host's part changes, and its size is bounded. What cannot be taken over is left out; a
//! document that makes no sense at all is left out whole, with a warning.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use temps_protocol::PluginName;

use super::path::{PREFIX, Place, Target};

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

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// Keys whose values are data and no part of the description.
const DATA: [&str; 5] = ["example", "default", "enum", "const", "value"];

/// Keys whose value maps names to descriptions, so that a name is never taken for a key.
const NAMED: [&str; 12] = [
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

/// Moves parts of one plugin's document to their new places.
struct Mover<'a> {
    name: &'a str,
    /// References that resolve, in the form `#/components/section/key`.
    known: BTreeSet<String>,
    security: Option<&'a Value>,
    /// Whether the document is OpenAPI 3.0, whose schemas say `nullable`.
    old: bool,
}

impl Mover<'_> {
    fn prefixed(&self, text: &str) -> String {
        format!("{}.{text}", self.name)
    }

    /// A path and its operations, if the host would serve the path.
    fn path(&self, path: &str, item: &Value) -> Option<(String, Value)> {
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

    fn component(&self, section: &str, value: &Value) -> Value {
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

    fn tags(&self, document: &Value) -> Vec<Value> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host() -> Value {
        json!({
            "openapi": "3.1.0", "info": { "title": "host", "version": "1" },
            "paths": { "/api/plugins": { "get": { "responses": {} } } },
            "components": { "schemas": { "Plugin": { "type": "object" } } },
            "security": [{ "token": [] }],
        })
    }

    fn merged(document: Value) -> Value {
        merge(host(), vec![("hello".into(), document)])
    }

    #[test]
    fn paths_components_tags_ids_and_references_move_together() {
        let document = json!({
            "openapi": "3.0.3", "info": { "title": "Hello" },
            "servers": [{ "url": "https://evil.example" }],
            "tags": [{ "name": "settings", "description": "d" }],
            "security": [{ "own": [] }],
            "paths": { "/settings/{id}": {
                "servers": [{ "url": "/" }],
                "parameters": [{ "$ref": "#/components/parameters/Id" }],
                "put": {
                    "operationId": "save", "tags": ["settings"], "security": [],
                    "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/S" }, "example": { "$ref": "data" } } } },
                    "responses": { "200": { "description": "ok" } },
                },
                "get": {},
            } },
            "components": {
                "securitySchemes": { "own": { "type": "http" } },
                "parameters": { "Id": { "name": "id", "in": "path", "required": true, "schema": { "type": "string" } } },
                "schemas": { "S": { "type": "object", "nullable": true, "properties": {
                    "default": { "$ref": "#/components/schemas/S" },
                    "$ref": { "type": "string" },
                    "far": { "$ref": "https://evil.example/schema.json" },
                    "gone": { "$ref": "#/components/schemas/Gone" },
                    "n": { "type": "number", "minimum": 0, "exclusiveMinimum": true },
                } } },
            },
        });
        let merged = merged(document);
        let item = &merged["paths"]["/api/x/hello/settings/{id}"];
        assert_eq!(item["parameters"][0]["$ref"], "#/components/parameters/hello.Id");
        assert!(item.get("servers").is_none());
        let put = &item["put"];
        assert_eq!(put["operationId"], "hello.save");
        assert_eq!(put["tags"], json!(["hello.settings"]));
        assert_eq!(put["security"], json!([{ "token": [] }]));
        let media = &put["requestBody"]["content"]["application/json"];
        assert_eq!(media["schema"]["$ref"], "#/components/schemas/hello.S");
        assert_eq!(media["example"]["$ref"], "data");
        assert_eq!(item["get"]["tags"], json!(["hello"]));
        assert!(item["get"]["responses"]["default"].is_object());
        let schema = &merged["components"]["schemas"]["hello.S"];
        assert_eq!(schema["type"], json!(["object", "null"]));
        assert_eq!(schema["properties"]["default"]["$ref"], "#/components/schemas/hello.S");
        assert_eq!(schema["properties"]["$ref"], json!({ "type": "string" }));
        assert_eq!(schema["properties"]["far"], json!({}));
        assert_eq!(schema["properties"]["gone"], json!({}));
        assert_eq!(schema["properties"]["n"], json!({ "type": "number", "exclusiveMinimum": 0 }));
        assert!(merged["components"].get("securitySchemes").is_none());
        assert_eq!(merged["tags"][0]["name"], "hello");
        assert_eq!(merged["tags"][1]["name"], "hello.settings");
        assert_eq!(merged["paths"]["/api/plugins"], host()["paths"]["/api/plugins"]);
        assert!(merged.get("servers").is_none());
    }

    #[test]
    fn paths_that_the_host_does_not_serve_are_left_out() {
        let operation = json!({ "get": {} });
        let paths: Map<String, Value> =
            ["/ok", "/_events", "/_temps/channel", "/_temps/token", "/../plugins", "x", "/a?b", "//_temps/x"]
                .iter()
                .map(|path| ((*path).to_owned(), operation.clone()))
                .collect();
        let merged = merged(json!({ "openapi": "3.1.0", "paths": paths }));
        let all: Vec<&String> = merged["paths"].as_object().unwrap().keys().collect();
        assert_eq!(all, ["/api/plugins", "/api/x/hello/ok"]);
    }

    #[test]
    fn a_broken_document_is_left_out_and_the_others_are_merged() {
        let good = json!({ "openapi": "3.1.0", "paths": { "/a": { "get": {} } } });
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({ "a": deep });
        }
        let long =
            json!({ "openapi": "3.1.0", "paths": {}, "info": { "title": "x".repeat(MAX_DOCUMENT_BYTES) } });
        let broken = vec![
            ("a".to_owned(), json!(null)),
            ("b".to_owned(), json!({ "swagger": "2.0", "paths": {} })),
            ("c".to_owned(), json!({ "openapi": "3.1.0", "paths": [] })),
            ("d".to_owned(), json!({ "openapi": "3.1.0", "paths": {}, "components": deep })),
            ("e".to_owned(), long),
            ("../plugins".to_owned(), good.clone()),
        ];
        assert_eq!(merge(host(), broken.clone()), host());
        let mut all = broken;
        all.push(("hello".into(), good));
        assert!(merge(host(), all)["paths"]["/api/x/hello/a"].is_object());
    }

    #[test]
    fn all_documents_together_are_bounded() {
        let big = json!({ "openapi": "3.1.0", "paths": { "/a": { "get": { "description": "x".repeat(900_000) } } } });
        let many = (0..20).map(|n| (format!("p{n}"), big.clone())).collect();
        assert!(merge(host(), many).to_string().len() < MAX_MERGED_BYTES + 100_000);
    }

    /// Every reference outside of data, and whether it resolves.
    fn references(value: &Value, names: bool, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| references(item, false, found)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(target) if key == "$ref" && !names => found.push(target.clone()),
                        _ if !names
                            && (DATA.contains(&key.as_str())
                                || key.starts_with("x-")
                                || key == "examples") => {}
                        _ => references(value, !names && NAMED.contains(&key.as_str()), found),
                    }
                }
            }
            _ => {}
        }
    }

    fn nasty() -> impl Strategy<Value = Value> {
        let keys = prop::sample::select(vec![
            "$ref",
            "properties",
            "schema",
            "get",
            "post",
            "parameters",
            "responses",
            "200",
            "content",
            "schemas",
            "S",
            "T",
            "default",
            "example",
            "examples",
            "callbacks",
            "mapping",
            "security",
            "tags",
            "operationId",
            "servers",
            "$id",
            "/a",
            "/_events",
            "/../b",
            "pathItems",
            "items",
            "allOf",
            "links",
            "x-a",
            "value",
            "headers",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            prop::sample::select(vec![
                "#/components/schemas/S",
                "#/components/schemas/T/x",
                "#/paths/~1a",
                "#",
                "http://x/y",
                "S",
                "\u{0}"
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|entries| {
                    Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_document_says_the_merged_one_stays_whole(paths in nasty(), schemas in nasty(), rest in nasty(), tags in nasty()) {
            let paths = if paths.is_object() { paths } else { json!({ "/a": paths }) };
            let document = json!({
                "openapi": "3.0.0", "paths": paths, "tags": tags, "info": rest,
                "components": { "schemas": schemas, "pathItems": rest, "callbacks": rest },
            });
            let merged = merged(document);
            for path in merged["paths"].as_object().unwrap().keys() {
                prop_assert!(path == "/api/plugins" || path.starts_with("/api/x/hello/"), "{path}");
            }
            prop_assert_eq!(&merged["paths"]["/api/plugins"], &host()["paths"]["/api/plugins"]);
            prop_assert_eq!(&merged["components"]["schemas"]["Plugin"], &host()["components"]["schemas"]["Plugin"]);
            let mut found = Vec::new();
            references(&merged["paths"], true, &mut found);
            for section in merged["components"].as_object().unwrap().values() {
                references(section, true, &mut found);
            }
            for target in found {
                prop_assert!(merged.pointer(&target[1..]).is_some(), "{target} leads nowhere");
                prop_assert!(target.contains("/hello."), "{target} is not the plugin's own");
            }
        }
    }
}
