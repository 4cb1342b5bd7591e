//! `temps host test`: shows what the scripted plugins find out about a host.

use std::path::PathBuf;
use std::time::Duration;

use temps_conformance::hosts::{self, Hook, Hooks, HostError, HostOptions};

use crate::arguments::Global;
use crate::exit::Failure;
use crate::output::Output;
use crate::plugin::test::{shown, verdict, write_junit};
use crate::target::{Target, settings};

/// The program of the scripted plugins; it stands beside this one.
const PROGRAM: &str = "temps-scripted-plugin";

/// How the host is reached, and how it is made to do something.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The plugins directory of the running host [default: this machine's, as the settings say]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Shell command that publishes the event in $KIT_EVENT [default: the REST API of temps]
    #[arg(long, value_name = "COMMAND")]
    publish: Option<String>,
    /// Shell command that stops the plugin $KIT_PLUGIN; only with --publish
    #[arg(long, value_name = "COMMAND", requires = "publish")]
    stop: Option<String>,
    /// Shell command that starts the plugin $KIT_PLUGIN again; only with --publish
    #[arg(long, value_name = "COMMAND", requires = "publish")]
    start: Option<String>,
    /// Shell command that gives the plugin $KIT_PLUGIN the settings in $KIT_CONFIG; only with --publish
    #[arg(long, value_name = "COMMAND", requires = "publish")]
    configure: Option<String>,
    /// A variable that the host's operator has added to the environment of plugins
    #[arg(long = "added-variable", value_name = "NAME")]
    added: Vec<String>,
    /// Only what is checked for this clause of PROTOCOL.md, for example C-10
    #[arg(long = "clause", value_name = "CLAUSE")]
    clauses: Vec<String>,
    /// Leave out what takes more than half a minute
    #[arg(long)]
    quick: bool,
    /// How many seconds a thing that must happen may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    patience: u32,
    /// Write the results as JUnit XML, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The program of the scripted plugins [default: temps-scripted-plugin beside this program]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Tests a host. Ends with 1 when it breaks a promise.
pub(crate) async fn run(arguments: Arguments, global: &Global, output: Output) -> Result<(), Failure> {
    let Target { url, token } = Target::find(global)?;
    let plugins = match &arguments.plugins {
        Some(directory) => directory.clone(),
        None => own_plugins(global)?,
    };
    let options = HostOptions {
        program: program(arguments.program.as_ref())?,
        plugins,
        url: url.as_str().trim_end_matches('/').to_owned(),
        token,
        hooks: hooks(&arguments),
        added: arguments.added,
        clauses: arguments.clauses,
        quick: arguments.quick,
        patience: Duration::from_secs(arguments.patience.into()),
    };
    let report = hosts::run(options, |step| output.say(step)).await.map_err(|error| refusal(&error))?;
    write_junit(arguments.junit.as_deref(), || report.to_junit())?;
    output.data(&report, shown)?;
    verdict(&report, false)
}

fn own_plugins(global: &Global) -> Result<PathBuf, Failure> {
    let config = settings(global, temps_server::config::Overrides::default())?;
    let first = config.places.plugins_dirs.first().cloned();
    first.ok_or_else(|| {
        Failure::usage("the settings name no plugins directory").hint("name it with --plugins DIR")
    })
}

fn program(named: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name(PROGRAM));
    let program = named.cloned().or_else(beside).unwrap_or_else(|| PROGRAM.into());
    if program.is_file() {
        return Ok(program);
    }
    let message = format!("the program of the scripted plugins is not at {}", program.display());
    Err(Failure::new(crate::exit::Exit::NotFound, "not_found", message)
        .hint("build it with `cargo build -p temps-conformance`, and name it with --program FILE"))
}

/// The REST API of temps, or commands; what has no command then is not checked.
fn hooks(arguments: &Arguments) -> Hooks {
    if arguments.publish.is_none() {
        return Hooks::rest();
    }
    let hook = |command: &Option<String>| command.clone().map_or(Hook::Absent, Hook::Command);
    Hooks {
        publish: hook(&arguments.publish),
        stop: hook(&arguments.stop),
        start: hook(&arguments.start),
        configure: hook(&arguments.configure),
    }
}

fn refusal(error: &HostError) -> Failure {
    match error {
        HostError::Place { .. } => Failure::other("place", error.to_string()),
        HostError::Address(_) | HostError::UnknownClause(_) => Failure::usage(error.to_string()),
    }
}
