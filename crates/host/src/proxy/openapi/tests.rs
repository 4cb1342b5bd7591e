//! What becomes of plugins' documents, also of those that mean harm.

use super::mover::{DATA, NAMED};
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
    let big =
        json!({ "openapi": "3.1.0", "paths": { "/a": { "get": { "description": "x".repeat(900_000) } } } });
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
                        && (DATA.contains(&key.as_str()) || key.starts_with("x-") || key == "examples") => {}
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
