//! How an author writes a manifest: one call for each thing to say.

use serde_json::Value;

use super::{EventFilter, NavEntry, Ordering, Permissions, PluginManifest, Resources};

/// Writes a [`PluginManifest`] step by step.
///
/// ```
/// use temps_protocol::{NavEntry, NavSection, PluginManifest};
///
/// let manifest = PluginManifest::builder("slack-notifier", "1.0.0")
///     .display_name("Slack Notifier")
///     .event("deployment.succeeded")
///     .nav(NavEntry {
///         label: "Slack".into(),
///         icon: "message-square".into(),
///         section: NavSection::Settings,
///         path: "/slack".into(),
///         order: 60,
///     })
///     .build();
/// assert!(manifest.check().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct PluginManifestBuilder {
    pub(super) manifest: PluginManifest,
}

impl PluginManifestBuilder {
    /// Sets the name for people.
    #[must_use]
    pub fn display_name(mut self, text: impl Into<String>) -> Self {
        self.manifest.display_name = Some(text.into());
        self
    }

    /// Says what the plugin does, in a sentence.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.manifest.description = Some(text.into());
        self
    }

    /// Asks for an event type: exact, `prefix.*`, or `*`.
    #[must_use]
    pub fn event(mut self, pattern: impl Into<String>) -> Self {
        self.manifest.events.push(pattern.into());
        self
    }

    /// Adds an entry to the console's navigation.
    #[must_use]
    pub fn nav(mut self, entry: NavEntry) -> Self {
        self.manifest.nav.push(entry);
        self
    }

    /// Says whether the plugin needs a database of its own.
    #[must_use]
    pub fn requires_db(mut self, needed: bool) -> Self {
        self.manifest.requires_db = needed;
        self
    }

    /// Sets the path that answers 200 while the plugin is well; `/health` by default.
    #[must_use]
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.manifest.health_path = path.into();
        self
    }

    /// Says which protocol version the plugin was written for.
    #[must_use]
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.manifest.api_version = Some(version.into());
        self
    }

    /// Asks for exactly these permissions instead of all read methods.
    #[must_use]
    pub fn permissions(mut self, permissions: Permissions) -> Self {
        self.manifest.permissions = Some(permissions);
        self
    }

    /// Asks to reach one more host: `name`, `name:port`, or `*.name`.
    #[must_use]
    pub fn egress(mut self, target: impl Into<String>) -> Self {
        self.manifest.egress.get_or_insert_default().push(target.into());
        self
    }

    /// Asks to reach no host at all, instead of HTTPS to any public name.
    #[must_use]
    pub fn no_egress(mut self) -> Self {
        self.manifest.egress = Some(Vec::new());
        self
    }

    /// Declares the plugin's configuration as a JSON Schema.
    #[must_use]
    pub fn config(mut self, schema: Value) -> Self {
        self.manifest.config = Some(schema);
        self
    }

    /// Asks for limits beyond the defaults.
    #[must_use]
    pub fn resources(mut self, resources: Resources) -> Self {
        self.manifest.resources = Some(resources);
        self
    }

    /// Chooses how a failed event affects later ones.
    #[must_use]
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.manifest.ordering = Some(ordering);
        self
    }

    /// Lets only events pass whose value at `path` is one of `any_of`.
    #[must_use]
    pub fn filter(mut self, path: impl Into<String>, any_of: Vec<Value>) -> Self {
        self.manifest.filters.push(EventFilter { path: path.into(), any_of });
        self
    }

    /// Asks to serve a path, and everything below it, to callers that are not signed in.
    #[must_use]
    pub fn public_path(mut self, path: impl Into<String>) -> Self {
        self.manifest.public_paths.push(path.into());
        self
    }

    /// Ends the manifest. Rules are checked when it is announced; see [`PluginManifest::check`].
    #[must_use]
    pub fn build(self) -> PluginManifest {
        self.manifest
    }
}
