//! A manifest's `config`: a JSON Schema (2020-12) within bounds, which settings it has, and what breaks it.
//!
//! The schema comes from the plugin, so it may be an attack: on the memory and the time that it takes to compile and to apply,
//! and on what others see, by showing a secret in a message. No message here holds a value of a secret.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

use super::{ConfigProblem, MAX_CONFIG_BYTES};

/// Most bytes of a schema as JSON. It stands in the manifest's line, which has 64 KiB.
const MAX_SCHEMA_BYTES: usize = 32 * 1024;

/// Most settings of one plugin.
const MAX_SETTINGS: usize = 100;

/// Longest name of a setting, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Most objects and lists of a schema, each counted as often as references lead to it, so that short schemas that unfold
/// to enormous ones are found.
const MAX_NODES: usize = 10_000;

/// Deepest nesting of a schema, through references too; one that refers to itself is deeper than any.
const MAX_DEPTH: usize = 64;

/// Most regular expressions of a schema.
const MAX_PATTERNS: usize = 64;

/// Memory that one compiled regular expression may take, in bytes. They run in linear time.
const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// Problems that are told at most.
const MAX_PROBLEMS: usize = 20;

/// Characters of a rule that are shown with a problem.
const MAX_SHOWN: usize = 200;

/// The dialect that a schema is read in.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Keywords that a schema of settings cannot need and that would lead elsewhere.
const REFUSED_KEYWORDS: [&str; 5] =
    ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$anchor"];

/// Why a manifest's `config` is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the manifest's \"config\" is no usable JSON Schema: {0}")]
pub struct SchemaError(String);

/// A schema that was found to be usable.
pub(crate) struct ConfigSchema {
    schema: Value,
    validator: Validator,
    settings: BTreeMap<String, Declared>,
}

/// What a schema says of one setting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Declared {
    pub(crate) description: Option<String>,
    pub(crate) secret: bool,
    pub(crate) required: bool,
    pub(crate) default: Option<Value>,
}

impl ConfigSchema {
    /// The schema of a manifest; one without `config` has no settings.
    pub(crate) fn of(manifest: &temps_protocol::PluginManifest) -> Result<Self, SchemaError> {
        match &manifest.config {
            Some(schema) => Self::compile(schema),
            None => Self::compile(&serde_json::json!({"type": "object"})),
        }
    }

    /// Checks and compiles a schema.
    pub(crate) fn compile(schema: &Value) -> Result<Self, SchemaError> {
        check_form(schema)?;
        Extent::measure(schema)?;
        let wrong = |error: &ValidationError<'_>| {
            let path = error.instance_path().as_str();
            SchemaError(shorten(&if path.is_empty() {
                error.to_string()
            } else {
                format!("{path}: {error}")
            }))
        };
        if let Err(error) = jsonschema::meta::validate(schema) {
            return Err(wrong(&error));
        }
        let validator = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(
                PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES),
            )
            .build(schema)
            .map_err(|error| wrong(&error))?;
        let compiled = Self { schema: schema.clone(), validator, settings: settings(schema)? };
        compiled.check_defaults()?;
        Ok(compiled)
    }

    /// What the schema says of each setting.
    pub(crate) fn settings(&self) -> &BTreeMap<String, Declared> {
        &self.settings
    }

    /// Whether a setting is a secret.
    pub(crate) fn is_secret(&self, name: &str) -> bool {
        self.settings.get(name).is_some_and(|declared| declared.secret)
    }

    /// The values with the schema's defaults where nothing was set.
    pub(crate) fn with_defaults(&self, mut values: Map<String, Value>) -> Map<String, Value> {
        fill(&self.schema, &mut values);
        values
    }

    /// Everything that is wrong with these values.
    pub(crate) fn problems(&self, values: &Map<String, Value>) -> Vec<ConfigProblem> {
        let whole = Value::Object(values.clone());
        let bytes = whole.to_string().len();
        if bytes > MAX_CONFIG_BYTES {
            let message =
                format!("all settings together have {bytes} bytes; at most {MAX_CONFIG_BYTES} are kept");
            return vec![ConfigProblem { path: String::new(), message, missing: false }];
        }
        self.validator.iter_errors(&whole).take(MAX_PROBLEMS).map(|error| self.told(&error)).collect()
    }

    fn told(&self, error: &ValidationError<'_>) -> ConfigProblem {
        let path = error.instance_path().as_str().trim_start_matches('/').to_owned();
        if let (ValidationErrorKind::Required { property }, true) = (error.kind(), path.is_empty()) {
            let path = property.as_str().map_or_else(|| property.to_string(), str::to_owned);
            return ConfigProblem { path, message: "it must be set".into(), missing: true };
        }
        let setting = path.split('/').next().unwrap_or_default();
        // What is said of a whole that may hold secrets names the rule and never the value.
        let message =
            if setting.is_empty() || self.is_secret(setting) { self.rule(error) } else { error.to_string() };
        ConfigProblem { path, message: shorten(&message), missing: false }
    }

    /// A broken rule in the schema's own words.
    fn rule(&self, error: &ValidationError<'_>) -> String {
        let keyword = error.kind().keyword();
        match self.schema.pointer(error.schema_path().as_str()) {
            Some(rule) => format!("it does not keep the rule `{keyword}`: {rule}"),
            None => format!("it does not keep the rule `{keyword}` of the schema"),
        }
    }

    /// A default that breaks its own schema would make trouble only once it is needed.
    fn check_defaults(&self) -> Result<(), SchemaError> {
        let defaults = self.with_defaults(Map::new());
        let broken = self.problems(&defaults).into_iter();
        let broken = broken
            .filter(|problem| defaults.contains_key(problem.setting()))
            .map(|problem| problem.to_string());
        match broken.reduce(|all, one| format!("{all}; {one}")) {
            None => Ok(()),
            Some(which) => Err(SchemaError(format!("a default breaks it: {which}"))),
        }
    }
}

fn check_form(schema: &Value) -> Result<(), SchemaError> {
    let refuse = |why: String| Err(SchemaError(why));
    let Some(root) = schema.as_object() else { return refuse("it must be an object".into()) };
    let bytes = schema.to_string().len();
    if bytes > MAX_SCHEMA_BYTES {
        return refuse(format!("it has {bytes} bytes; at most {MAX_SCHEMA_BYTES} are allowed"));
    }
    if root.get("type").and_then(Value::as_str) != Some("object") {
        return refuse("its \"type\" must be \"object\", with a property for each setting".into());
    }
    match root.get("$schema").map(|dialect| dialect.as_str().unwrap_or_default().trim_end_matches('#')) {
        None | Some(DIALECT) => {}
        Some(_) => return refuse(format!("write it for {DIALECT}, or leave \"$schema\" out")),
    }
    Ok(())
}

/// What the schema says of its settings, and which of them are secrets.
fn settings(schema: &Value) -> Result<BTreeMap<String, Declared>, SchemaError> {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    if properties.len() > MAX_SETTINGS {
        return Err(SchemaError(format!("it has more than {MAX_SETTINGS} properties")));
    }
    let required: BTreeSet<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut secrets = BTreeSet::new();
    find_secrets(schema, schema, &mut secrets);
    properties
        .iter()
        .map(|(name, says)| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
                let why = "is no name for a setting; use 1 to 64 letters, digits, `_`, `-` and `.`";
                return Err(SchemaError(format!("{:?} {why}", shorten(name))));
            }
            let text = |key: &str| says[key].as_str().map(str::to_owned);
            let declared = Declared {
                description: text("description").or_else(|| text("title")),
                secret: secrets.contains(name.as_str()),
                required: required.contains(name.as_str()),
                default: says.get("default").cloned(),
            };
            Ok((name.clone(), declared))
        })
        .collect()
}

/// Collects every name whose property, anywhere in the schema, is marked as a secret or holds something that is. A setting
/// that holds a secret is one as a whole.
fn find_secrets<'a>(root: &'a Value, at: &'a Value, secrets: &mut BTreeSet<&'a str>) {
    if let Some(properties) = at.get("properties").and_then(Value::as_object) {
        secrets.extend(
            properties.iter().filter(|(_, says)| is_marked(root, says)).map(|(name, _)| name.as_str()),
        );
    }
    children(at).for_each(|child| find_secrets(root, child, secrets));
}

/// Whether a schema or something inside of it, through references too, is marked as a secret.
fn is_marked(root: &Value, at: &Value) -> bool {
    let here = at.get("writeOnly") == Some(&Value::Bool(true))
        || at.get("format").and_then(Value::as_str) == Some("password");
    here || referred(root, at).is_some_and(|target| is_marked(root, target))
        || children(at).any(|child| is_marked(root, child))
}

/// What a reference leads to. `Extent` made sure that following them ends.
fn referred<'a>(root: &'a Value, at: &Value) -> Option<&'a Value> {
    root.pointer(at.get("$ref")?.as_str()?.strip_prefix('#')?)
}

fn children(at: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match at {
        Value::Object(fields) => Box::new(fields.values()),
        Value::Array(entries) => Box::new(entries.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

/// Sets defaults of an object's properties, and of those inside of objects that are there.
fn fill(schema: &Value, values: &mut Map<String, Value>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, says) in properties {
        if let (false, Some(default)) = (values.contains_key(name), says.get("default")) {
            values.insert(name.clone(), default.clone());
        }
        if let Some(Value::Object(inner)) = values.get_mut(name) {
            fill(says, inner);
        }
    }
}

/// How large a schema is once all references are unfolded.
struct Extent<'a> {
    root: &'a Value,
    nodes: usize,
    patterns: usize,
}

impl<'a> Extent<'a> {
    fn measure(root: &'a Value) -> Result<(), SchemaError> {
        Self { root, nodes: 0, patterns: 0 }.walk(root, 0)
    }

    fn walk(&mut self, at: &'a Value, depth: usize) -> Result<(), SchemaError> {
        if !matches!(at, Value::Object(_) | Value::Array(_)) {
            return Ok(());
        }
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return Err(SchemaError("it is too large or too deep, or refers to itself".into()));
        }
        if let Value::Object(fields) = at {
            self.keywords(fields, depth)?;
        }
        children(at).try_for_each(|child| self.walk(child, depth + 1))
    }

    fn keywords(&mut self, fields: &'a Map<String, Value>, depth: usize) -> Result<(), SchemaError> {
        if let Some(keyword) = REFUSED_KEYWORDS.iter().find(|keyword| fields.contains_key(**keyword)) {
            return Err(SchemaError(format!("`{keyword}` is not supported; refer to \"#/$defs/NAME\"")));
        }
        if depth > 0 && fields.contains_key("$id") {
            return Err(SchemaError("`$id` may only stand at its root".into()));
        }
        let expressions = fields.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
        self.patterns += expressions + usize::from(fields.get("pattern").is_some_and(Value::is_string));
        if self.patterns > MAX_PATTERNS {
            return Err(SchemaError(format!("it has more than {MAX_PATTERNS} regular expressions")));
        }
        let Some(reference) = fields.get("$ref").and_then(Value::as_str) else { return Ok(()) };
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        match target {
            Some(target) => self.walk(target, depth + 1),
            None => {
                let reference = shorten(reference);
                Err(SchemaError(format!(
                    "the reference {reference:?} leads nowhere inside of it; nothing else is fetched"
                )))
            }
        }
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
