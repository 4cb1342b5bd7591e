//! The manifest: what a plugin says of itself, how an author writes one, and the rules it must keep.

mod builder;
mod rules;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::handshake::typed_line;
#[cfg(doc)]
use crate::name::PluginName;

pub use builder::PluginManifestBuilder;
pub use rules::parse_api_version;

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
