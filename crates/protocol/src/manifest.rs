//! The manifest: what a plugin says of itself, how an author writes one, and the rules it must keep.

mod builder;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::data::Method;
use crate::event::is_pattern;
use crate::handshake::typed_line;
use crate::limits::{MAX_MANIFEST_ENTRIES, MAX_MANIFEST_TEXT};
use crate::name::PluginName;

pub use builder::PluginManifestBuilder;

/// What a plugin says of itself in its first line.
///
/// Only `name` and `version` must be there. Fields that the article does not have are optional, so that a plugin
/// written from the article alone runs unchanged, and a plugin that uses them runs under other hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PluginManifest {
    /// Name of the plugin; see [`PluginName`] for its rules.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$")))]
    pub name: String,
    /// Version of the plugin, best a semantic version.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub version: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What the plugin does, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Entries that the plugin adds to the console's navigation.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<NavEntry>>"))]
    pub nav: Vec<NavEntry>,
    /// Scripts and styles of a UI, as some plugins in use declare them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui: Option<UiDeclaration>,
    /// Whether the plugin needs a database of its own. Absent means no.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<bool>"))]
    pub requires_db: bool,
    /// Path that answers 200 while the plugin is well.
    #[serde(default = "default_health_path", deserialize_with = "null_as_health_path")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub health_path: String,
    /// Event types that the plugin wants: exact, `prefix.*`, or `*`. Nothing else is delivered.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub events: Vec<String>,
    /// Version of the protocol that the plugin was written for. Absent means `1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// What the plugin asks to be allowed. Absent asks for its events and all read methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// Hosts that the plugin wants to reach, as `name`, `name:port` or `*.name`. Absent asks for HTTPS to any public name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<String>>,
    /// JSON Schema of the plugin's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// Limits that the plugin asks for beyond the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How a failed event affects later ones of its project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering: Option<Ordering>,
    /// Narrows down events by their content.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<EventFilter>>"))]
    pub filters: Vec<EventFilter>,
    /// Paths that the plugin wants to serve to callers that are not signed in.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub public_paths: Vec<String>,
}

/// One entry in the console's navigation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NavEntry {
    /// Text of the entry.
    pub label: String,
    /// Name of a Lucide icon in kebab case, for example `message-square`.
    pub icon: String,
    /// Where the entry appears.
    pub section: NavSection,
    /// Path inside the plugin's UI, beginning with `/`.
    pub path: String,
    /// Place among the entries; lower comes first.
    pub order: u32,
}

/// The part of the console that a [`NavEntry`] appears in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NavSection {
    /// The main sidebar.
    Platform,
    /// The administration section.
    Settings,
    /// Inside a project.
    Project,
}

/// Scripts and styles of a UI, as some plugins in use declare them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UiDeclaration {
    /// Path of the entry script.
    pub entry_js: String,
    /// Paths of style sheets.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub css: Vec<String>,
    /// Pages of the UI.
    #[serde(default, deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<UiRoute>>"))]
    pub routes: Vec<UiRoute>,
}

/// One page of a UI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UiRoute {
    /// Path of the page.
    pub path: String,
    /// Title of the page.
    pub title: String,
}

/// What a plugin asks to be allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Permissions {
    /// Data methods that the plugin wants to call, by name.
    #[serde(deserialize_with = "null_as_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub methods: Vec<String>,
    /// Ids of the projects that it wants to see. Absent asks for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projects: Option<Vec<i32>>,
}

/// Limits that a plugin asks for. Whatever is absent stays at the host's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Resources {
    /// Memory in bytes, or with a unit: `256M`, `1G`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<String>,
    /// Share of one CPU, for example `25%`; `200%` is two CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<String>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks_max: Option<u32>,
    /// Open files per process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nofile: Option<u32>,
    /// Disk in bytes, or with a unit, for the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_max: Option<String>,
}

/// How a failed event affects later ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// A failed event is retried beside the line; later ones go on.
    #[default]
    Relaxed,
    /// A failed event holds back later ones of the same project until it is settled.
    Strict,
}

/// A condition on an event's content: the value at `path` must be one of `any_of`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventFilter {
    /// `project_id`, `environment_id`, or `data.` and dotted names.
    pub path: String,
    /// Values that let the event pass.
    pub any_of: Vec<Value>,
}

/// One rule that a manifest breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestProblem {
    /// The field, for example `nav[0].path`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for ManifestProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All rules that a manifest breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} problem(s) in the manifest", problems.len())]
pub struct ManifestError {
    /// The broken rules, in the order of the fields.
    pub problems: Vec<ManifestProblem>,
}

impl PluginManifest {
    /// Begins a manifest; see [`PluginManifestBuilder`].
    pub fn builder(name: impl Into<String>, version: impl Into<String>) -> PluginManifestBuilder {
        PluginManifestBuilder {
            manifest: PluginManifest {
                name: name.into(),
                version: version.into(),
                display_name: None,
                description: None,
                nav: Vec::new(),
                ui: None,
                requires_db: false,
                health_path: default_health_path(),
                events: Vec::new(),
                api_version: None,
                permissions: None,
                egress: None,
                config: None,
                resources: None,
                ordering: None,
                filters: Vec::new(),
                public_paths: Vec::new(),
            },
        }
    }

    /// The name for people: `display_name`, or the plugin's name when there is none.
    #[must_use]
    pub fn title(&self) -> &str {
        self.display_name.as_deref().filter(|text| !text.is_empty()).unwrap_or(&self.name)
    }

    /// Whether the plugin asked for events of this type.
    #[must_use]
    pub fn wants(&self, event_type: &str) -> bool {
        self.events.iter().any(|pattern| crate::event::pattern_matches(pattern, event_type))
    }

    /// The line that announces this manifest, without its newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        typed_line("manifest", self)
    }

    /// Checks every rule of the manifest.
    ///
    /// # Errors
    /// [`ManifestError`] lists all broken rules at once, so that an author mends them in one go.
    pub fn check(&self) -> Result<(), ManifestError> {
        let mut found = Problems(Vec::new());
        self.check_identity(&mut found);
        self.check_paths(&mut found);
        self.check_wishes(&mut found);
        if found.0.is_empty() { Ok(()) } else { Err(ManifestError { problems: found.0 }) }
    }

    fn check_identity(&self, found: &mut Problems) {
        if let Err(error) = PluginName::new(self.name.as_str()) {
            found.add("name", error.to_string());
        }
        if self.version.is_empty()
            || self.version.len() > 64
            || !self.version.bytes().all(|b| b.is_ascii_graphic())
        {
            let message = format!(
                "{:?} is not a version; use a semantic version like \"1.0.0\"",
                shorten(&self.version)
            );
            found.add("version", message);
        }
        found.text("display_name", self.display_name.as_deref().unwrap_or_default());
        found.text("description", self.description.as_deref().unwrap_or_default());
        if let Some(wanted) = &self.api_version {
            match parse_api_version(wanted) {
                None => {
                    found.add("api_version", format!("{:?} is not a version like \"1.0\"", shorten(wanted)))
                }
                Some((major, _)) if major > crate::API_VERSION.major => found.add(
                    "api_version",
                    format!(
                        "the plugin needs protocol {}, this host speaks up to {}; update the host",
                        shorten(wanted),
                        crate::API_VERSION
                    ),
                ),
                Some(_) => {}
            }
        }
    }

    fn check_paths(&self, found: &mut Problems) {
        if let Err(why) = check_route_path(&self.health_path) {
            found.add("health_path", why);
        }
        found.count("nav", self.nav.len());
        for (index, entry) in self.nav.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
            found.text(&format!("nav[{index}].label"), &entry.label);
            found.text(&format!("nav[{index}].icon"), &entry.icon);
            if entry.label.trim().is_empty() {
                found.add(&format!("nav[{index}].label"), "must not be empty".into());
            }
            if !entry.path.starts_with('/') || entry.path.contains("..") || entry.path.contains('\\') {
                found.add(
                    &format!("nav[{index}].path"),
                    "must begin with \"/\" and stay inside the plugin".into(),
                );
            }
            found.text(&format!("nav[{index}].path"), &entry.path);
        }
        found.count("public_paths", self.public_paths.len());
        for (index, path) in self.public_paths.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
            if let Err(why) = check_route_path(path) {
                found.add(&format!("public_paths[{index}]"), why);
            }
        }
    }

    fn check_wishes(&self, found: &mut Problems) {
        found.count("events", self.events.len());
        for (index, pattern) in self.events.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
            if !is_pattern(pattern) {
                let message = format!(
                    "{:?} is neither an event type like \"deployment.succeeded\" nor a pattern like \"deployment.*\"",
                    shorten(pattern)
                );
                found.add(&format!("events[{index}]"), message);
            }
        }
        if let Some(permissions) = &self.permissions {
            found.count("permissions.methods", permissions.methods.len());
            for (index, method) in permissions.methods.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
                if Method::parse(method).is_none() {
                    let known = Method::ALL.map(Method::as_str).join(", ");
                    found.add(
                        &format!("permissions.methods[{index}]"),
                        format!("{:?} is not a method; known are {known}", shorten(method)),
                    );
                }
            }
        }
        if let Some(egress) = &self.egress {
            found.count("egress", egress.len());
            for (index, target) in egress.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
                if !is_egress_target(target) {
                    found.add(&format!("egress[{index}]"), format!("{:?} is not a public host name, with an optional port; IP addresses are not allowed", shorten(target)));
                }
            }
        }
        if let Some(config) = &self.config
            && !config.is_object()
        {
            found.add("config", "must be a JSON Schema, that is an object".into());
        }
        found.count("filters", self.filters.len());
        for (index, filter) in self.filters.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
            let known = matches!(filter.path.as_str(), "project_id" | "environment_id")
                || filter.path.starts_with("data.");
            if !known {
                found.add(
                    &format!("filters[{index}].path"),
                    "must be project_id, environment_id, or begin with \"data.\"".into(),
                );
            }
        }
    }
}

/// Reads `1`, `1.0` or `1.0.0` as major and minor version.
#[must_use]
pub fn parse_api_version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().map_or(Ok(0), str::parse).ok()?;
    match parts.next().map(str::parse::<u64>) {
        None | Some(Ok(_)) if parts.next().is_none() => Some((major, minor)),
        _ => None,
    }
}

/// Checks a path that the host will ask for or open: absolute, plain, and not one of the host's own.
fn check_route_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("must begin with \"/\"".into());
    }
    if path.len() > 256
        || path.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'%' | b'?' | b'#' | b'\\'))
    {
        return Err("must be at most 256 plain characters, without % ? # \\ and spaces".into());
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err("must not have \".\" or \"..\" segments".into());
    }
    if path.split('/').nth(1).is_some_and(|first| first == "_temps" || first == "_events") {
        return Err("/_temps and /_events belong to the host".into());
    }
    Ok(())
}

/// Whether `target` is `name`, `name:port`, `*.name` or `*` (any public name).
fn is_egress_target(target: &str) -> bool {
    let (name, port) = match target.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (target, None),
    };
    let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let name = name.strip_prefix("*.").unwrap_or(name);
    let label_is_good = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    port_is_good
        && !is_address
        && name.len() <= 253
        && (name == "*" || (name.contains('.') && name.split('.').all(label_is_good)))
}

struct Problems(Vec<ManifestProblem>);

impl Problems {
    fn add(&mut self, field: &str, message: String) {
        self.0.push(ManifestProblem { field: field.to_owned(), message });
    }

    fn text(&mut self, field: &str, text: &str) {
        if text.len() > MAX_MANIFEST_TEXT {
            self.add(field, format!("has {} bytes; at most {MAX_MANIFEST_TEXT} are allowed", text.len()));
        }
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            self.add(field, "has control characters".into());
        }
    }

    fn count(&mut self, field: &str, count: usize) {
        if count > MAX_MANIFEST_ENTRIES {
            self.add(field, format!("has {count} entries; at most {MAX_MANIFEST_ENTRIES} are allowed"));
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

fn default_health_path() -> String {
    "/health".to_owned()
}

fn null_as_health_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_else(default_health_path))
}

/// Plugins in use write `null` where others leave a field out.
pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(manifest: &PluginManifest) -> Vec<String> {
        manifest.check().unwrap_err().problems.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn all_problems_are_listed_at_once() {
        let manifest = PluginManifest::builder("Bad Name", "")
            .event("deployment")
            .health_path("/_temps/x")
            .egress("127.0.0.1")
            .public_path("/a/../b")
            .permissions(Permissions { methods: vec!["drop".into()], projects: None })
            .build();
        assert_eq!(
            problems_of(&manifest),
            [
                "name",
                "version",
                "health_path",
                "public_paths[0]",
                "events[0]",
                "permissions.methods[0]",
                "egress[0]"
            ]
        );
    }

    #[test]
    fn a_later_major_version_is_refused_and_a_later_minor_is_not() {
        let with = |version: &str| PluginManifest::builder("a", "1.0.0").api_version(version).build();
        assert!(with("1").check().is_ok() && with("1.7").check().is_ok() && with("1.0.3").check().is_ok());
        assert_eq!(problems_of(&with("2.0")), ["api_version"]);
        assert_eq!(problems_of(&with("one")), ["api_version"]);
    }

    #[test]
    fn egress_targets_are_public_names() {
        for good in ["hooks.slack.com", "*.example.com", "api.example.com:8443", "*"] {
            assert!(is_egress_target(good), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "10.0.0.1",
            "::1",
            "a.b:0",
            "a.b:99999",
            "*.*.com",
            "http://a.b",
            "a b.c",
            "-a.b",
        ] {
            assert!(!is_egress_target(bad), "{bad}");
        }
    }
}
