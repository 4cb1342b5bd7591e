//! `temps doctor`: what this machine can do, and whether the daemon is well.
//!
//! Every line is something that was tried or read just now; what could not be found out is said as that. Looking is
//! kept apart from judging: the files beside this one look, and judge what they saw with functions that tests can call.

mod daemon;
mod database;
mod machine;
mod places;
mod plugin_databases;
mod plugins;
mod sandbox;

use serde::Serialize;
use temps_host::sandbox::SandboxSettings;
use temps_server::config::Overrides;

use crate::arguments::Global;
use crate::exit::Failure;
use crate::output::{Output, plain};
use crate::target::settings;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// Works, with something that an operator should know.
    Warning,
    /// Does not work, or is not safe.
    Problem,
    /// Could not be found out.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// Stable name, for programs.
    pub(crate) name: String,
    /// How it went.
    pub(crate) status: Status,
    /// What was found.
    pub(crate) found: String,
    /// What to do, if something is to be done.
    pub(crate) hint: Option<String>,
}

impl Check {
    pub(crate) fn new(name: impl Into<String>, status: Status, found: impl Into<String>) -> Self {
        Self { name: name.into(), status, found: found.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Findings {
    /// Whether no check found a problem.
    ok: bool,
    /// The checks, in the order in which they were made.
    checks: Vec<Check>,
}

/// Looks at everything, and fails when something does not work.
pub(crate) async fn run(global: &Global, output: Output) -> Result<(), Failure> {
    let mut checks = machine::checks();
    match settings(global, Overrides::default()) {
        Ok(config) => {
            checks.extend(sandbox::checks(&config.sandbox));
            checks.push(places::settings_file(&config));
            checks.extend(places::checks(&config.places));
            checks.push(database::check(&config).await);
            checks.extend(plugins::checks(&config.places.plugins_dirs));
            checks.push(plugin_databases::server(&config.databases).await);
        }
        Err(failure) => {
            checks.extend(sandbox::checks(&SandboxSettings::default()));
            checks.push(Check::new("settings", Status::Problem, failure.message));
        }
    }
    checks.extend(daemon::checks(global).await);
    let problems = checks.iter().filter(|check| check.status == Status::Problem).count();
    output.data(&Findings { ok: problems == 0, checks }, |findings| text(&findings.checks))?;
    match problems {
        0 => Ok(()),
        1 => Err(Failure::other("problems", "1 problem was found")),
        more => Err(Failure::other("problems", format!("{more} problems were found"))),
    }
}

fn text(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for check in checks {
        let mark = match check.status {
            Status::Ok => "ok     ",
            Status::Warning => "warning",
            Status::Problem => "PROBLEM",
            Status::Unknown => "unknown",
        };
        lines.push(format!("{mark}  {:width$}  {}", check.name, plain(&check.found)));
        if let Some(hint) = &check.hint {
            lines.push(format!("         {:width$}  -> {}", "", plain(hint)));
        }
    }
    lines.join("\n")
}
