//! The plugin's configuration: what the versions of it need, what operators change, and what it gets.
//!
//! A version whose settings are missing or wrong is held like one that lacks grants, and taken up at the moment when they are
//! right. What the plugin gets goes through a watch that belongs to the version, so that one never gets the settings of another.

use chrono::Utc;
use serde_json::{Map, Value, json};
use temps_protocol::PluginManifest;
use temps_store::{ConfigRecord, StoreError};

use super::{Actor, Version, Waiting};
use crate::configuration::{
    ConfigChange, ConfigError, ConfigProblem, ConfigSchema, ConfigView, Injected, SettingView, Settings,
    is_secret, opened, stored, verdict,
};
use crate::operate::OperateError;
use crate::plugin::state::Input;

/// Settings that are named in a reason; the others are counted.
const NAMED: usize = 5;

impl Actor {
    /// Reads what was set from the store.
    pub(super) async fn load_config(&mut self) -> Result<(), StoreError> {
        self.config = self.shared.store.config(self.name.as_str()).await?;
        Ok(())
    }

    /// What a version would get, or what is wrong with it.
    pub(super) fn configuration_of(&self, manifest: &PluginManifest) -> Result<Injected, Vec<ConfigProblem>> {
        let schema = ConfigSchema::of(manifest).map_err(|error| {
            vec![ConfigProblem { path: String::new(), message: error.to_string(), missing: false }]
        })?;
        let (values, problems) = self.look(&schema, &self.settings(), &Map::new());
        if problems.is_empty() { Ok(Injected::new(values, self.revision())) } else { Err(problems) }
    }

    /// Holds a version until its settings are right. One that was taken up before is not there then.
    pub(super) fn hold_for_settings(&mut self, version: Version, problems: Vec<ConfigProblem>) {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        self.audit("plugin.held", "host", json!({"settings": texts, "hash": version.artifact.hash}));
        self.log.say("warn", format!("it waits for its settings: {}", texts.join("; ")));
        self.waiting = Some(Waiting { version, wishes: Vec::new(), settings: problems });
        if self.version.is_none() {
            self.give(Input::Held);
        }
    }

    /// Changes the configuration as an operator wants, and lets it count at once.
    pub(super) async fn configure(
        &mut self,
        change: ConfigChange,
        by: &str,
    ) -> Result<ConfigView, ConfigError> {
        self.load_config().await?;
        let schema = self.schema()?;
        let current = self.revision();
        if change.expected.is_some_and(|expected| expected != current) {
            return Err(ConfigError::Conflict { current });
        }
        let kept = self.settings();
        let undeclared = undeclared(&schema, &change, &kept);
        if !undeclared.is_empty() {
            return Err(ConfigError::Invalid(undeclared));
        }
        let (_, before) = self.look(&schema, &kept, &Map::new());
        let (set, unset) = (change.names_set(), change.names_unset(&kept, &schema));
        let remaining: Settings = kept
            .iter()
            .filter(|(name, _)| !unset.contains(*name))
            .map(|(n, s)| (n.clone(), s.clone()))
            .collect();
        let (_, after) = self.look(&schema, &remaining, &change.set);
        verdict(self.name.as_str(), &change, &before, &after)?;
        if !set.is_empty() || !unset.is_empty() {
            let settings = stored(&schema, &kept, &change, &self.shared.vault, self.owner())?;
            let (updated_at, updated_by) = (Utc::now(), by.to_owned());
            let record = ConfigRecord { settings, revision: current + 1, updated_at, updated_by };
            if !self.shared.store.put_config(self.name.as_str(), record.clone()).await? {
                self.load_config().await?;
                return Err(ConfigError::Conflict { current: self.revision() });
            }
            self.config = Some(record);
            self.audit("config.changed", by, json!({"set": set, "unset": unset, "revision": current + 1}));
            let names: Vec<_> = set.into_iter().chain(unset).collect();
            self.log.say("info", format!("{by} changed settings: {}", names.join(", ")));
            self.apply().await;
        }
        self.config_view()
    }

    /// Gives the plugin what is set now, or takes up the version that waited for it.
    async fn apply(&mut self) {
        let waiting = self.waiting.take();
        if let Some(version) = self.version.clone() {
            match self.configuration_of(&version.manifest) {
                Ok(config) => _ = self.injected.send_replace(config),
                // What was set is for the version that waits; the present one keeps what it has until it goes.
                Err(_) if waiting.is_some() => {}
                Err(problems) => {
                    self.version = None;
                    self.hold_for_settings(version, problems);
                }
            }
        }
        if let Some(waiting) = waiting {
            self.offer(waiting.version).await;
        }
    }

    /// The configuration as operators may see it.
    pub(super) fn config_view(&self) -> Result<ConfigView, ConfigError> {
        let schema = self.schema()?;
        let kept = self.settings();
        let (_, problems) = self.look(&schema, &kept, &Map::new());
        let mut settings: Vec<SettingView> = schema
            .settings()
            .iter()
            .map(|(name, says)| {
                let setting = kept.get(name);
                let secret = says.secret || setting.is_some_and(|setting| is_secret(&schema, name, setting));
                let value = match setting {
                    _ if secret => None,
                    Some(temps_store::StoredSetting::Plain(value)) => Some(value.clone()),
                    _ => says.default.clone(),
                };
                SettingView {
                    name: name.clone(),
                    description: says.description.clone(),
                    secret,
                    required: says.required,
                    is_set: setting.is_some(),
                    value,
                    declared: true,
                }
            })
            .collect();
        let left_over = kept.iter().filter(|(name, _)| !schema.settings().contains_key(*name));
        settings.extend(left_over.map(|(name, _)| SettingView {
            name: name.clone(),
            description: None,
            // Whether it was one is not known any more, so it is treated as one.
            secret: true,
            required: false,
            is_set: true,
            value: None,
            declared: false,
        }));
        Ok(ConfigView {
            revision: self.revision(),
            updated_at: self.config.as_ref().map(|record| record.updated_at),
            updated_by: self.config.as_ref().map(|record| record.updated_by.clone()),
            settings,
            problems,
            schema: self.target().and_then(|version| version.manifest.config.clone()),
        })
    }

    /// The values that a schema's version gets once `set` is set too, and what is wrong with them.
    fn look(
        &self,
        schema: &ConfigSchema,
        kept: &Settings,
        set: &Map<String, Value>,
    ) -> (Map<String, Value>, Vec<ConfigProblem>) {
        let (mut values, mut problems) = opened(schema, kept, &self.shared.vault, self.owner());
        problems.retain(|problem| !set.contains_key(&problem.path));
        for (name, value) in set.iter().filter(|(_, value)| !value.is_null()) {
            values.insert(name.clone(), value.clone());
        }
        let values = schema.with_defaults(values);
        // What cannot be read is there, so that it is missing would be a second word about the same.
        let unread: Vec<String> = problems.iter().map(|problem| problem.path.clone()).collect();
        problems.extend(schema.problems(&values).into_iter().filter(|p| !unread.contains(&p.path)));
        (values, problems)
    }

    /// The version whose settings operators see and change: the one that waits, or else the one that is there.
    fn target(&self) -> Option<&Version> {
        self.waiting.as_ref().map(|waiting| &waiting.version).or(self.version.as_ref())
    }

    fn schema(&self) -> Result<ConfigSchema, ConfigError> {
        let Some(version) = self.target() else {
            let state = self.life.shown().as_str();
            let hint = "its manifest is not known now, so neither are its settings".to_owned();
            return Err(OperateError::NotNow { plugin: self.name.to_string(), state, hint }.into());
        };
        ConfigSchema::of(&version.manifest).map_err(|error| OperateError::Invalid(error.to_string()).into())
    }

    fn settings(&self) -> Settings {
        self.config.as_ref().map(|record| record.settings.clone()).unwrap_or_default()
    }

    fn revision(&self) -> i64 {
        self.config.as_ref().map_or(0, |record| record.revision)
    }

    /// Whose secrets they are.
    fn owner(&self) -> (&str, &str) {
        (self.shared.store.node(), self.name.as_str())
    }

    /// Why a version waits for settings, and what to do.
    pub(super) fn settings_reason(&self, problems: &[ConfigProblem]) -> String {
        let missing: Vec<&str> =
            problems.iter().filter(|problem| problem.missing).map(|problem| problem.path.as_str()).collect();
        let name = &self.name;
        if let (Some(first), true) = (missing.first(), missing.len() == problems.len()) {
            let more = missing.len().saturating_sub(NAMED);
            let what = missing.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            let what = if more > 0 { format!("{what} and {more} more") } else { what };
            let needs = if missing.len() == 1 { "a setting" } else { "settings" };
            return format!(
                "needs {needs}: {what} (set it with `temps plugin config set {name} {first}=...`)"
            );
        }
        let what: Vec<String> = problems.iter().take(NAMED).map(ToString::to_string).collect();
        format!(
            "cannot use its settings: {} (mend them with `temps plugin config set {name} ...`)",
            what.join("; ")
        )
    }
}

/// Settings that a change names and that there are not.
fn undeclared(schema: &ConfigSchema, change: &ConfigChange, kept: &Settings) -> Vec<ConfigProblem> {
    let known: Vec<&str> = schema.settings().keys().map(String::as_str).collect();
    let message = match known.as_slice() {
        [] => "the plugin declares no settings".to_owned(),
        known => format!("there is no such setting; there are {}", known.join(", ")),
    };
    let may =
        |name: &str, value: &Value| known.contains(&name) || (value.is_null() && kept.contains_key(name));
    let unknown = change.set.iter().filter(|(name, value)| !may(name, value)).take(NAMED);
    unknown
        .map(|(name, _)| ConfigProblem {
            path: name.chars().take(64).collect(),
            message: message.clone(),
            missing: false,
        })
        .collect()
}
