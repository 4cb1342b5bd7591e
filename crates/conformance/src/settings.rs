//! A configuration that keeps a plugin's schema, so that a plugin with required settings can be tried without an operator.
//!
//! It makes values for the plain cases: types, defaults, enumerations, bounds of length. What has a pattern or more than one
//! shape is for the author to give.

use serde_json::{Map, Value, json};

/// The settings, with defaults filled in and something for everything required; `given` goes first.
///
/// # Errors
/// The names of required settings for which no value can be made up.
pub(crate) fn make_up(schema: Option<&Value>, given: &Map<String, Value>) -> Result<Value, Vec<String>> {
    let mut settings = given.clone();
    let mut missing = Vec::new();
    let Some(schema) = schema else { return Ok(Value::Object(settings)) };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, rule) in schema["properties"].as_object().into_iter().flatten() {
        if settings.contains_key(name) {
            continue;
        }
        if let Some(default) = rule.get("default") {
            settings.insert(name.clone(), default.clone());
        } else if required.contains(&name.as_str()) {
            match value(rule) {
                Some(value) => _ = settings.insert(name.clone(), value),
                None => missing.push(name.clone()),
            }
        }
    }
    if missing.is_empty() { Ok(Value::Object(settings)) } else { Err(missing) }
}

/// A value that keeps the rule of one setting.
pub(crate) fn value(rule: &Value) -> Option<Value> {
    if let Some(constant) = rule.get("const") {
        return Some(constant.clone());
    }
    if let Some(first) = rule["enum"].as_array().and_then(|values| values.first()) {
        return Some(first.clone());
    }
    match rule["type"].as_str()? {
        "string" => text(rule),
        "integer" | "number" => {
            Some(rule.get("minimum").or(rule.get("maximum")).cloned().unwrap_or(json!(1)))
        }
        "boolean" => Some(json!(false)),
        "array" if rule.get("minItems").is_none() => Some(json!([])),
        "object" if rule.get("required").is_none() => Some(json!({})),
        _ => None,
    }
}

/// Addresses lead to this machine's discard port, so that nothing leaves it.
fn text(rule: &Value) -> Option<Value> {
    let shortest = usize::try_from(rule["minLength"].as_u64().unwrap_or(1)).ok()?;
    match (rule["format"].as_str(), rule["pattern"].as_str()) {
        (Some("uri" | "url"), None) | (_, Some("^https?://")) => Some(json!("http://127.0.0.1:9/")),
        (_, Some("^https://")) => Some(json!("https://127.0.0.1:9/")),
        (None | Some("password"), None) => Some(json!("x".repeat(shortest))),
        (Some("email"), None) => Some(json!("conformance@example.com")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_gets_a_value_and_what_cannot_is_named() {
        let schema = json!({"type": "object", "required": ["a", "b", "c"], "properties": {
            "a": {"type": "string", "pattern": "^https://"}, "b": {"type": "integer", "minimum": 5},
            "c": {"type": "string", "pattern": "^[A-Z]{7}$"}, "d": {"default": "d"}, "e": {"type": "string"}}});
        assert_eq!(make_up(Some(&schema), &Map::new()), Err(vec!["c".to_owned()]));
        let given = json!({"c": "ABCDEFG"}).as_object().cloned().unwrap_or_default();
        let expected = json!({"a": "https://127.0.0.1:9/", "b": 5, "c": "ABCDEFG", "d": "d"});
        assert_eq!(make_up(Some(&schema), &given), Ok(expected));
    }
}
