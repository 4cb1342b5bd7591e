//! What operators can do with configuration: look at it, and change it.

use tokio::sync::oneshot;

use super::{ConfigChange, ConfigError, ConfigView};
use crate::host::PluginHost;
use crate::plugin::actor::Command;

impl PluginHost {
    /// A plugin's configuration. Secrets are not in it.
    ///
    /// # Errors
    /// [`ConfigError::Operate`] when there is no such plugin, or its manifest is not known.
    pub async fn plugin_config(&self, name: &str) -> Result<ConfigView, ConfigError> {
        let (reply, answer) = oneshot::channel();
        self.tell(name, Command::ShowConfig { reply }, answer).await
    }

    /// Changes a plugin's configuration, whole or not at all, and gives it to the plugin at once. A plugin that was held for
    /// want of it starts. Which settings were changed, and by whom, is in the audit trail.
    ///
    /// # Errors
    /// [`ConfigError`]; nothing was changed then.
    pub async fn configure_plugin(
        &self,
        name: &str,
        change: ConfigChange,
        actor: &str,
    ) -> Result<ConfigView, ConfigError> {
        let (reply, answer) = oneshot::channel();
        self.tell(name, Command::Configure { change, by: actor.to_owned(), reply }, answer).await
    }

    async fn tell<T>(
        &self,
        name: &str,
        command: Command,
        answer: oneshot::Receiver<Result<T, ConfigError>>,
    ) -> Result<T, ConfigError> {
        let control = self.control(name)?;
        if control.commands.send(command).await.is_err() {
            return Err(crate::operate::ended(name).into());
        }
        answer.await.unwrap_or_else(|_| Err(crate::operate::ended(name).into()))
    }
}
