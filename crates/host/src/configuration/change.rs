//! A change of a plugin's configuration: what an operator asks for, and whether it may be done. Pure, but for the vault.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use temps_store::{Revision, StoredSetting};

use super::vault::Place;
use super::{ConfigError, ConfigProblem, ConfigSchema, Vault};

/// What an operator wants to change. `Debug` shows no value, because any may be a secret.
#[derive(Clone, Default, PartialEq)]
pub struct ConfigChange {
    /// Settings to set; null unsets.
    pub set: Map<String, Value>,
    /// Whether plain settings that are not named are unset. Secrets that are not named stay: nobody can read them back.
    pub replace: bool,
    /// The revision that the configuration must have. `None`: any.
    pub expected: Option<Revision>,
    /// Whether settings may be unset that the plugin cannot run without.
    pub force: bool,
}

impl std::fmt::Debug for ConfigChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigChange")
            .field("settings", &self.set.keys().collect::<Vec<_>>())
            .field("replace", &self.replace)
            .field("expected", &self.expected)
            .field("force", &self.force)
            .finish()
    }
}

/// What was set for a plugin, as it is kept.
pub(crate) type Settings = BTreeMap<String, StoredSetting>;

impl ConfigChange {
    /// Names of settings that are set.
    pub(crate) fn names_set(&self) -> Vec<String> {
        self.set.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect()
    }

    /// Names of settings that are there and go.
    pub(crate) fn names_unset(&self, kept: &Settings, schema: &ConfigSchema) -> Vec<String> {
        let goes = |name: &str, setting: &StoredSetting| match self.set.get(name) {
            Some(value) => value.is_null(),
            None => self.replace && !is_secret(schema, name, setting),
        };
        kept.iter().filter(|(name, setting)| goes(name, setting)).map(|(name, _)| name.clone()).collect()
    }
}

/// What is sealed is shown to nobody, also when a later schema does not call it a secret any more.
pub(crate) fn is_secret(schema: &ConfigSchema, name: &str, setting: &StoredSetting) -> bool {
    schema.is_secret(name) || matches!(setting, StoredSetting::Sealed(_))
}

/// The settings that the schema declares, opened, and what could not be.
pub(crate) fn opened(
    schema: &ConfigSchema,
    kept: &Settings,
    vault: &Vault,
    (node, plugin): (&str, &str),
) -> (Map<String, Value>, Vec<ConfigProblem>) {
    let mut values = Map::new();
    let mut problems = Vec::new();
    for (name, setting) in kept.iter().filter(|(name, _)| schema.settings().contains_key(*name)) {
        let value = match setting {
            StoredSetting::Plain(value) => Ok(value.clone()),
            StoredSetting::Sealed(sealed) => vault
                .open(Place { node, plugin, setting: name }, sealed)
                .map_err(|error| error.to_string())
                .and_then(|text| {
                    serde_json::from_str(&text).map_err(|_| "what was sealed is no value".to_owned())
                }),
        };
        match value {
            Ok(value) => _ = values.insert(name.clone(), value),
            Err(message) => problems.push(ConfigProblem { path: name.clone(), message, missing: false }),
        }
    }
    (values, problems)
}

/// Judges a change: it may not bring a problem that was not there. So settings can be given one after the other to a plugin
/// that waits for several, and a plugin that runs never gets what breaks its schema.
pub(crate) fn verdict(
    plugin: &str,
    change: &ConfigChange,
    before: &[ConfigProblem],
    after: &[ConfigProblem],
) -> Result<(), ConfigError> {
    let set: BTreeSet<String> = change.names_set().into_iter().collect();
    let (missing, invalid): (Vec<_>, Vec<_>) = after
        .iter()
        .filter(|problem| !before.contains(problem) || set.contains(problem.setting()))
        .cloned()
        .partition(|problem| problem.missing);
    if !invalid.is_empty() {
        return Err(ConfigError::Invalid(invalid));
    }
    if !missing.is_empty() && !change.force {
        let settings = missing.into_iter().map(|problem| problem.path).collect();
        return Err(ConfigError::Needed { plugin: plugin.to_owned(), settings });
    }
    Ok(())
}

/// What is to be kept after a change: secrets sealed, also those that stood open since before they were declared as such.
pub(crate) fn stored(
    schema: &ConfigSchema,
    kept: &Settings,
    change: &ConfigChange,
    vault: &Vault,
    (node, plugin): (&str, &str),
) -> Result<Settings, ConfigError> {
    let mut kept = kept.clone();
    for name in change.names_unset(&kept, schema) {
        kept.remove(&name);
    }
    for (name, value) in change.set.iter().filter(|(_, value)| !value.is_null()) {
        kept.insert(name.clone(), StoredSetting::Plain(value.clone()));
    }
    for (name, setting) in &mut kept {
        if let (true, StoredSetting::Plain(value)) = (schema.is_secret(name), &*setting) {
            let sealed = vault.seal(Place { node, plugin, setting: name }, &value.to_string())?;
            *setting = StoredSetting::Sealed(sealed);
        }
    }
    Ok(kept)
}
