//! What operators can do with plugins: start, stop, turn off, debug, grant, adopt, read logs.
//!
//! Every action is checked where it is done (by the plugin's actor or by the intake) and recorded there under the operator's name.

use std::time::Duration;

use temps_store::GrantRecord;
use tokio::sync::{broadcast, oneshot};

use crate::grants::{Engine, Wish, WishError};
use crate::host::{LogLine, PluginHost};
use crate::intake::Order;
use crate::plugin::PluginState;
use crate::plugin::actor::{Command, Control, Wanted};
use crate::plugin::state::DRAIN_TIME;
use crate::tap::Watcher;

/// How long a stop is waited for beyond draining and leaving.
const STOP_SLACK: Duration = Duration::from_secs(10);

/// Why something that an operator asked for was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There is no plugin of this name.
    #[error("there is no plugin named {0:?}")]
    UnknownPlugin(String),
    /// The plugin's state does not allow it.
    #[error("{plugin} is {state}: {hint}")]
    NotNow {
        /// Name of the plugin.
        plugin: String,
        /// State that it is in.
        state: &'static str,
        /// What can be done instead.
        hint: String,
    },
    /// What was given makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] temps_store::StoreError),
}

impl From<WishError> for OperateError {
    fn from(error: WishError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl PluginHost {
    /// Starts a plugin that is stopped, in backoff or quarantined, or takes a refused file up again. Returns once the attempt
    /// was begun.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn start_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        let snapshot = self.plugin(name).ok_or_else(|| OperateError::UnknownPlugin(name.to_owned()))?;
        if snapshot.state == PluginState::Refused && snapshot.hash.is_none() {
            self.record_audit("operator.start", snapshot.plugin_name.as_ref().map(AsRef::as_ref), actor, {
                serde_json::json!({"file": snapshot.file.to_string_lossy()})
            });
            // The intake ends only with the host.
            let _ = self.intake.send(Order::Again(snapshot.file.clone())).await;
            return Ok(());
        }
        self.operate(name, Wanted::Start, actor).await
    }

    /// Stops a plugin until it is started again or the host restarts. Returns once it is stopped.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn stop_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        self.operate(name, Wanted::Stop, actor).await?;
        self.at_rest(name).await
    }

    /// Stops and starts a plugin. Returns once the new start was begun or is due.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn restart_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        let before = self.plugin(name).map_or(0, |snapshot| snapshot.starts);
        self.operate(name, Wanted::Restart, actor).await?;
        self.until(name, |snapshot| snapshot.starts > before || snapshot.pid.is_none()).await
    }

    /// Lets a plugin run again, now and after each start of the host.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn enable_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        self.operate(name, Wanted::Enable, actor).await
    }

    /// Stops a plugin and keeps it off, also after a restart of the host. Returns once it is stopped.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn disable_plugin(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        self.operate(name, Wanted::Disable, actor).await?;
        self.at_rest(name).await
    }

    /// Suspends health checks and handshake deadlines, which would kill a paused process, or takes them up again.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn debug_plugin(&self, name: &str, on: bool, actor: &str) -> Result<(), OperateError> {
        self.operate(name, Wanted::Debug(on), actor).await
    }

    /// Grants of a plugin, and what it asks for beyond them, as (given, missing). What was revoked is among the missing.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn grants(
        &self,
        name: &str,
    ) -> Result<(Vec<GrantRecord>, Vec<(String, String)>), OperateError> {
        let authority = self.control(name)?.authority.borrow().clone();
        let missing = authority.missing.into_iter().map(|wish| (wish.kind.to_owned(), wish.value)).collect();
        Ok((authority.granted, missing))
    }

    /// Gives grants, each (kind, value); with an empty list everything that the plugin asks for. Works at once.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn grant(
        &self,
        name: &str,
        grants: Vec<(String, String)>,
        actor: &str,
    ) -> Result<(), OperateError> {
        self.operate(name, Wanted::Grant(parse(&grants)?), actor).await
    }

    /// Takes grants back, each (kind, value). Works at once.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn revoke(
        &self,
        name: &str,
        grants: Vec<(String, String)>,
        actor: &str,
    ) -> Result<(), OperateError> {
        self.operate(name, Wanted::Revoke(parse(&grants)?), actor).await
    }

    /// Removes a plugin's database on the operator's server with everything in it, for good. Nothing else ever does.
    ///
    /// # Errors
    /// [`OperateError`]; among others while the plugin may still use it.
    pub async fn drop_database(&self, name: &str, actor: &str) -> Result<(), OperateError> {
        let handle = self.shared.registry.get(name);
        let handle = handle.ok_or_else(|| OperateError::UnknownPlugin(name.to_owned()))?;
        if handle.grants.borrow().database == Some(Engine::Postgres) {
            let why =
                format!("{name} has this database; `temps plugin revoke {name} database=postgres` first");
            return Err(OperateError::Invalid(why));
        }
        let removed = self.shared.databases.remove(name).await;
        removed.map_err(|error| OperateError::Invalid(error.to_string()))?;
        self.record_audit("operator.drop_database", Some(name), actor, serde_json::json!({}));
        Ok(())
    }

    /// Gives a plugin's name, with its data and grants, to another file that claims it; `file` says which when several do,
    /// by path or by file name.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn adopt(&self, name: &str, file: Option<&str>, actor: &str) -> Result<(), OperateError> {
        let (reply, done) = oneshot::channel();
        let (name, file, by) = (name.to_owned(), file.map(str::to_owned), actor.to_owned());
        let order = Order::Adopt { name: name.clone(), file, by, reply };
        if self.intake.send(order).await.is_err() {
            return Err(ended(&name));
        }
        done.await.unwrap_or_else(|_| Err(ended(&name)))
    }

    /// The last `count` lines of a plugin's log, oldest first, and a receiver for those that follow.
    ///
    /// # Errors
    /// [`OperateError::UnknownPlugin`].
    pub fn logs(
        &self,
        name: &str,
        count: usize,
    ) -> Result<(Vec<LogLine>, broadcast::Receiver<LogLine>), OperateError> {
        Ok(self.control(name)?.log.read(count))
    }

    /// Watches a plugin's traffic from now on, through all its starts.
    ///
    /// # Errors
    /// [`OperateError::UnknownPlugin`], and [`OperateError::NotNow`] when the host was built without a tap.
    pub fn watch_traffic(&self, name: &str) -> Result<Watcher, OperateError> {
        let snapshot = self.plugin(name).ok_or_else(|| OperateError::UnknownPlugin(name.to_owned()))?;
        self.shared.tap.watch_one(name).ok_or_else(|| OperateError::NotNow {
            plugin: name.to_owned(),
            state: snapshot.state.as_str(),
            hint: "this host's traffic cannot be watched".to_owned(),
        })
    }

    pub(crate) fn control(&self, name: &str) -> Result<Control, OperateError> {
        if let Some(control) = self.shared.registry.control(name) {
            return Ok(control);
        }
        let snapshot = self.plugin(name).ok_or_else(|| OperateError::UnknownPlugin(name.to_owned()))?;
        let hint = snapshot.reason.clone().unwrap_or_else(|| "its name is not known yet".to_owned());
        Err(OperateError::NotNow { plugin: name.to_owned(), state: snapshot.state.as_str(), hint })
    }

    async fn operate(&self, name: &str, wanted: Wanted, actor: &str) -> Result<(), OperateError> {
        let (reply, done) = oneshot::channel();
        let command = Command::Operate { wanted, by: actor.to_owned(), reply };
        if self.control(name)?.commands.send(command).await.is_err() {
            return Err(ended(name));
        }
        done.await.unwrap_or_else(|_| Err(ended(name)))
    }

    /// Waits until a plugin has no process any more.
    async fn at_rest(&self, name: &str) -> Result<(), OperateError> {
        self.until(name, |snapshot| {
            matches!(
                snapshot.state,
                PluginState::Stopped
                    | PluginState::Disabled
                    | PluginState::Gone
                    | PluginState::Held
                    | PluginState::Refused
                    | PluginState::Discovered
            )
        })
        .await
    }

    async fn until(
        &self,
        name: &str,
        reached: impl Fn(&crate::PluginSnapshot) -> bool,
    ) -> Result<(), OperateError> {
        let mut view = self.watch_plugin(name).ok_or_else(|| OperateError::UnknownPlugin(name.to_owned()))?;
        let patience = DRAIN_TIME + self.shared.config().stop_grace + STOP_SLACK;
        let waited = tokio::time::timeout(patience, view.wait_for(|snapshot| reached(snapshot))).await;
        match waited.map(|seen| seen.map(drop)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ended(name)),
            Err(_) => {
                let state = view.borrow().state.as_str();
                let hint = "it does not leave; look at its process, the host goes on trying".to_owned();
                Err(OperateError::NotNow { plugin: name.to_owned(), state, hint })
            }
        }
    }
}

fn parse(grants: &[(String, String)]) -> Result<Vec<Wish>, WishError> {
    grants.iter().map(|(kind, value)| Wish::parse(kind, value)).collect()
}

pub(crate) fn ended(name: &str) -> OperateError {
    OperateError::NotNow { plugin: name.to_owned(), state: "stopped", hint: "the host is ending".to_owned() }
}
