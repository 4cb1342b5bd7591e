//! How a host is made to do something that the protocol does not say how: publish an event, stop and start a plugin, change
//! its settings. Each host has its own ways, so each of these may be a shell command.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::caller::Caller;

/// How long a command may take. Stopping a plugin that does not heed SIGTERM takes more than 10 s.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// One of these ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// The REST API of temps.
    Rest,
    /// A command for `sh -c`. What it needs stands in its environment.
    Command(String),
    /// There is none; what needs it is not checked.
    Absent,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Publishes the event in `KIT_EVENT`, an object with `event_type` and `data`; it must not come before others that were
    /// published before.
    pub publish: Hook,
    /// Stops the plugin in `KIT_PLUGIN`, and returns when it is stopped.
    pub stop: Hook,
    /// Starts it again.
    pub start: Hook,
    /// Changes the settings of `KIT_PLUGIN` that stand in the object `KIT_CONFIG`.
    pub configure: Hook,
}

impl Hooks {
    /// All of them through the REST API of temps.
    #[must_use]
    pub fn rest() -> Self {
        Self { publish: Hook::Rest, stop: Hook::Rest, start: Hook::Rest, configure: Hook::Rest }
    }
}

impl Hook {
    pub(super) async fn publish(&self, caller: &Caller, event: &Value) -> Result<(), String> {
        self.call(caller, ("POST", "/api/events".to_owned()), event, &[("KIT_EVENT", event.to_string())])
            .await
    }

    pub(super) async fn stop(&self, caller: &Caller, plugin: &str) -> Result<(), String> {
        let path = format!("/api/plugins/{plugin}/stop");
        self.call(caller, ("POST", path), &json!({}), &[("KIT_PLUGIN", plugin.to_owned())]).await
    }

    pub(super) async fn start(&self, caller: &Caller, plugin: &str) -> Result<(), String> {
        let path = format!("/api/plugins/{plugin}/start");
        self.call(caller, ("POST", path), &json!({}), &[("KIT_PLUGIN", plugin.to_owned())]).await
    }

    pub(super) async fn configure(
        &self,
        caller: &Caller,
        plugin: &str,
        values: &Value,
    ) -> Result<(), String> {
        let path = format!("/api/plugins/{plugin}/config");
        let variables = [("KIT_PLUGIN", plugin.to_owned()), ("KIT_CONFIG", values.to_string())];
        self.call(caller, ("PATCH", path), values, &variables).await
    }

    async fn call(
        &self,
        caller: &Caller,
        (method, path): (&str, String),
        body: &Value,
        variables: &[(&str, String)],
    ) -> Result<(), String> {
        match self {
            Hook::Absent => Err("no command for it was given".to_owned()),
            Hook::Rest => {
                let answer = caller.send(method, &path, &[], body.to_string().into_bytes()).await?;
                let told = String::from_utf8_lossy(&answer.body).chars().take(300).collect::<String>();
                if answer.status < 300 {
                    Ok(())
                } else {
                    Err(format!("{method} {path}: {} {told}", answer.status))
                }
            }
            Hook::Command(command) => run(command, variables).await,
        }
    }
}

async fn run(command: &str, variables: &[(&str, String)]) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    shell.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
    let output = timeout(COMMAND_TIMEOUT, shell.output())
        .await
        .map_err(|_| format!("{command}: not done within {} s", COMMAND_TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_gets_its_variables_and_its_failure_is_told() {
        let variables = [("KIT_PLUGIN", "kit-acks".to_owned())];
        assert_eq!(run("test \"$KIT_PLUGIN\" = kit-acks", &variables).await, Ok(()));
        let failed = run("echo no such plugin >&2; exit 3", &variables).await.unwrap_err();
        assert!(failed.contains("exit status: 3") && failed.contains("no such plugin"), "{failed}");
    }

    /// The clock is the test's own: it goes on when there is nothing to do but to wait.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_never_ends_is_not_waited_for() {
        let failed = run("exec sleep 1000", &[]).await.unwrap_err();
        assert!(failed.contains("not done within 60 s"), "{failed}");
    }
}
