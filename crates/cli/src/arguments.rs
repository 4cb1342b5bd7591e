//! The command line: what `temps` can be told, and what every command has in common.
//!
//! The nouns' own arguments stand with the nouns. Help texts are written for a person who has the problem, not the
//! source.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Parser, Subcommand};

use crate::exit::EXIT_CODES;
use crate::{
    audit, completions, delivery, deployment, environment, event, host, plugin, project, serve, token,
};

/// A plugin system for developer platforms: the daemon, and everything that talks to it.
#[derive(Debug, Parser)]
#[command(
    name = "temps",
    version,
    after_help = EXIT_CODES,
    after_long_help = format!("With --json, data is one JSON document on stdout (one document a line for streams), and an \
error is one line on stderr: {{\"error\": {{\"code\", \"message\", \"hint\", \"exit_code\"}}}}. Lists have the shape \
{{\"items\": [...], \"next_cursor\": ...}}; everything else is the thing itself, as in the REST API.\n\n{EXIT_CODES}"),
    arg_required_else_help = true,
    disable_help_subcommand = false,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Give data and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but data and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Address of the daemon [default: as the settings say, else http://127.0.0.1:6160]
    #[arg(long, global = true, env = "TEMPS_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// API token [default: the admin token that the daemon keeps on this machine]
    // Hidden, so that the help does not show a secret from the environment.
    #[arg(long, global = true, env = "TEMPS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Directory with settings, state and plugins [default: ~/.temps, or the system's places for root]
    #[arg(long, global = true, env = "TEMPS_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Settings file [default: temps.toml in the home directory]
    #[arg(long, global = true, env = "TEMPS_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Give up after this many seconds
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: Option<u32>,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon
    Serve(serve::Arguments),
    /// See and operate plugins
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Check hosts of plugins
    #[command(subcommand)]
    Host(host::Command),
    /// Projects of the platform
    #[command(subcommand)]
    Project(project::Command),
    /// Environments of projects
    #[command(subcommand)]
    Environment(environment::Command),
    /// Report and see deployments
    #[command(subcommand)]
    Deployment(deployment::Command),
    /// Publish and watch events
    #[command(subcommand)]
    Event(event::Command),
    /// What became of events at each plugin
    #[command(subcommand)]
    Delivery(delivery::Command),
    /// API tokens
    #[command(subcommand)]
    Token(token::Command),
    /// The record of everything that happened
    Audit(audit::Arguments),
    /// Make a link that signs a browser in once
    LoginLink,
    /// See what this machine can do, and whether the daemon is well
    Doctor,
    /// Versions of this command and of the daemon
    Version,
    /// Write a script that completes commands in a shell
    Completions(completions::Arguments),
}

/// A moment: RFC 3339, or how long ago in seconds, minutes, hours or days.
pub(crate) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    let ago = text.char_indices().last().and_then(|(at, unit)| {
        let count: i64 = text.get(..at)?.parse().ok().filter(|count| *count >= 0)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            _ => return None,
        };
        TimeDelta::try_seconds(count.checked_mul(seconds)?)
    });
    let at = ago.and_then(|ago| Utc::now().checked_sub_signed(ago));
    at.ok_or_else(|| "write a time like 2026-01-31T12:00:00Z, or how long ago: 90s, 10m, 2h, 7d".to_owned())
}

/// How many entries of a list are wanted.
#[derive(Debug, Clone, Args)]
pub(crate) struct Limit {
    /// How many at most
    #[arg(long, short = 'n', default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        assert_eq!(moment("2026-01-31T12:00:00+02:00").unwrap().to_rfc3339(), "2026-01-31T10:00:00+00:00");
        let ago = Utc::now() - moment("2h").unwrap();
        assert!((ago - TimeDelta::hours(2)).abs() < TimeDelta::minutes(1), "{ago}");
        for wrong in ["", "h", "-1h", "yesterday", "2w", "99999999999999999d", "1ü"] {
            assert!(moment(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_command_and_every_option_is_explained() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no help");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
            }
            for inner in command.get_subcommands() {
                check(inner, &path);
            }
        }
        check(&Cli::command(), "");
    }
}
