//! The plugin's configuration, as the operator set it: the manifest declares it, the host checks it and sends it.
//!
//! It comes over the channel before the start hook runs, and again after each change.

use serde::de::DeserializeOwned;
use serde_json::Value;
use temps_protocol::Configuration;
use tokio::sync::watch;

use crate::context::PluginContext;

/// Why there is no configuration of the wanted form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The host sent none. Some hosts never do; a host of temps does so before the start hook runs.
    #[error("the host sent no configuration; does the manifest declare \"config\"?")]
    NotSent,
    /// It does not have the form that was asked for. The text names the field, and no value.
    #[error("the configuration does not have the wanted form: {0}")]
    Form(String),
}

impl PluginContext {
    /// The configuration as it is now, with defaults, read as `T`. Secrets are in it: never log it.
    ///
    /// # Errors
    /// [`ConfigError`].
    ///
    /// ```no_run
    /// # use temps_plugin_sdk::PluginContext;
    /// #[derive(serde::Deserialize)]
    /// struct Settings {
    ///     webhook_url: String,
    ///     channel: Option<String>,
    /// }
    ///
    /// fn settings(ctx: &PluginContext) -> Result<Settings, temps_plugin_sdk::ConfigError> {
    ///     ctx.config()
    /// }
    /// ```
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        match &*self.platform().channel().config().borrow() {
            Some(configuration) => read(configuration),
            None => Err(ConfigError::NotSent),
        }
    }

    /// The configuration as something that can be waited for. `None` until the host sent one.
    #[must_use]
    pub fn watch_config(&self) -> watch::Receiver<Option<Configuration>> {
        self.platform().channel().config()
    }
}

fn read<T: DeserializeOwned>(configuration: &Configuration) -> Result<T, ConfigError> {
    let value = Value::Object(configuration.config.clone());
    serde_json::from_value(value).map_err(|error| ConfigError::Form(without_values(&error.to_string())))
}

/// The messages of serde quote values between the kind that was found and the one that was expected.
fn without_values(message: &str) -> String {
    let quoting = |begin: &str| {
        let rest = message.strip_prefix(begin)?;
        let wanted = rest.rsplit_once(", expected ").map(|(_, wanted)| wanted)?;
        Some(format!("{begin}(not shown), expected {wanted}"))
    };
    ["invalid type: ", "invalid value: ", "unknown variant "].into_iter().find_map(quoting).unwrap_or_else(
        || match message.split_once('`') {
            // A missing or unknown field is named, and names are no secrets.
            Some(_) if message.starts_with("missing field") || message.starts_with("unknown field") => {
                message.to_owned()
            }
            _ => "a value cannot be read".to_owned(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[serde(rename = "webhook_url")]
        _webhook_url: Vec<u8>,
    }

    #[test]
    fn a_configuration_of_another_form_is_told_without_its_values() {
        let told = |config: Value| {
            let config = config.as_object().unwrap().clone();
            read::<Settings>(&Configuration { config, revision: 1 }).unwrap_err().to_string()
        };
        let wrong = told(json!({"webhook_url": "https://hooks.example.com/s3cret, expected"}));
        assert!(!wrong.contains("s3cret") && wrong.contains("expected"), "{wrong}");
        assert!(told(json!({})).contains("webhook_url"));
    }
}
