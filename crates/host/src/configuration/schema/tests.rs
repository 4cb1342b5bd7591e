//! Tests of schemas: what is refused, what is a secret, and that no message holds one.

use serde_json::{Value, json};

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "reads best beside json!")]
fn compiled(schema: Value) -> ConfigSchema {
    ConfigSchema::compile(&schema).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "reads best beside json!")]
fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn a_schema_that_is_an_attack_or_a_mistake_is_refused_with_the_reason() {
    let nested = (0..100).fold(json!({}), |inner, _| json!({"items": inner}));
    let bomb: Value = (0..30)
        .map(|n| (format!("d{n}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", n + 1)}, {"$ref": format!("#/$defs/d{}", n + 1)}]})))
        .chain([("d30".to_owned(), json!({"type": "string"}))])
        .collect::<Map<_, _>>()
        .into();
    let patterns: Vec<Value> = (0..65).map(|n| json!({"pattern": format!("^{n}")})).collect();
    let object = |more: Value| {
        let mut schema = json!({"type": "object"});
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schema
    };
    for (schema, says) in [
        (json!([]), "must be an object"),
        (json!({}), "must be \"object\""),
        (json!({"type": "string"}), "must be \"object\""),
        (object(json!({"$schema": "http://json-schema.org/draft-07/schema#"})), "2020-12"),
        (object(json!({"properties": {"a": {"type": "text"}}})), "/properties/a/type"),
        (object(json!({"properties": {"a": {"minLength": -1}}})), "minLength"),
        (object(json!({"properties": {"a": {"pattern": "("}}})), "pattern"),
        (object(json!({"properties": {"a": {"pattern": "(a{1000}){1000}"}}})), "pattern"),
        (object(json!({"properties": {"a": {"pattern": "(a)\\1"}}})), "pattern"),
        (
            object(json!({"properties": {"a": {"$ref": "https://example.com/schema.json"}}})),
            "nothing else is fetched",
        ),
        (object(json!({"properties": {"a": {"$ref": "file:///etc/passwd"}}})), "nothing else is fetched"),
        (object(json!({"properties": {"a": {"$ref": "#/$defs/none"}}})), "leads nowhere"),
        (object(json!({"properties": {"a": {"$ref": "#"}}})), "refers to itself"),
        (object(json!({"properties": {"a": nested}})), "too deep"),
        (object(json!({"$defs": bomb})), "too large"),
        (object(json!({"anyOf": patterns})), "regular expressions"),
        (object(json!({"$dynamicRef": "#x"})), "not supported"),
        (object(json!({"properties": {"a": {"$id": "https://example.com/"}}})), "$id"),
        (object(json!({"properties": {"a=b": {}}})), "is no name for a setting"),
        (object(json!({"description": "x".repeat(40_000)})), "bytes"),
        (object(json!({"properties": {"a": {"type": "integer", "default": "one"}}})), "a default breaks it"),
    ] {
        let Err(error) = ConfigSchema::compile(&schema) else { panic!("{schema} was taken") };
        let message = error.to_string();
        assert!(message.contains(says) && message.len() < 1_000, "{says}: {message}");
    }
}

#[test]
fn a_setting_is_a_secret_however_deep_the_mark_stands() {
    let schema = compiled(json!({
        "type": "object",
        "properties": {
            "plain": {"type": "string"},
            "marked": {"type": "string", "writeOnly": true},
            "password": {"type": "string", "format": "password"},
            "inside": {"type": "object", "properties": {"token": {"writeOnly": true}}},
            "referred": {"$ref": "#/$defs/token"},
            "elsewhere": {"type": "string"},
            "either": {"anyOf": [{"type": "null"}, {"items": {"writeOnly": true}}]},
        },
        "allOf": [{"if": {}, "then": {"properties": {"elsewhere": {"writeOnly": true}}}}],
        "$defs": {"token": {"type": "string", "writeOnly": true}},
    }));
    let secrets: Vec<&str> =
        schema.settings().iter().filter(|(_, says)| says.secret).map(|(name, _)| name.as_str()).collect();
    assert_eq!(secrets, ["either", "elsewhere", "inside", "marked", "password", "referred"]);
}

#[test]
fn no_problem_holds_a_value_of_a_secret() {
    let schema = compiled(json!({
        "type": "object",
        "properties": {
            "token": {"type": "string", "pattern": "^xoxb-", "maxLength": 10, "writeOnly": true},
            "smtp": {"type": "object", "properties": {"password": {"type": "integer", "writeOnly": true}}, "additionalProperties": false},
            "channel": {"type": "string", "pattern": "^#"},
        },
        "required": ["token"],
        "not": {"required": ["smtp", "channel"]},
        "anyOf": [{"properties": {"token": {"const": "xoxb-1"}}}],
    }));
    let values = object(json!({
        "token": "s3cret-and-too-long",
        "smtp": {"password": "s3cret", "s3cret": "s3cret"},
        "channel": "ops",
    }));
    let problems = schema.problems(&values);
    let told = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(!told.contains("s3cret"), "{told}");
    assert!(told.contains("token: ") && told.contains("^xoxb-"), "what would be right is said: {told}");
    assert!(told.contains("channel: \"ops\""), "what is no secret is named: {told}");
    let missing = schema.problems(&object(json!({"channel": "#ops"})));
    assert!(missing.iter().any(|problem| problem.missing && problem.path == "token"), "{missing:?}");
}

#[test]
fn defaults_are_filled_in_also_inside_of_what_was_set() {
    let schema = compiled(json!({
        "type": "object",
        "properties": {
            "channel": {"type": "string", "default": "#ops"},
            "retry": {"type": "object", "properties": {"times": {"type": "integer", "default": 3}, "wait": {"type": "integer"}}},
        },
    }));
    assert_eq!(schema.with_defaults(Map::new()), object(json!({"channel": "#ops"})));
    let set = object(json!({"channel": "#a", "retry": {"wait": 1}}));
    assert_eq!(schema.with_defaults(set), object(json!({"channel": "#a", "retry": {"wait": 1, "times": 3}})));
}

#[test]
fn settings_that_are_too_much_together_are_refused() {
    let schema = compiled(json!({"type": "object", "properties": {"text": {"type": "string"}}}));
    let problems = schema.problems(&object(json!({"text": "x".repeat(70_000)})));
    assert!(problems[0].message.contains("at most 65536"), "{problems:?}");
}
