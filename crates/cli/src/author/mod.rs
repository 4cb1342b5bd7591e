//! What plugin authors use: a new project, its build, a look at what a host would refuse, a platform to try it on.
//!
//! None of it asks a daemon. `project` knows what lies in a project's directory, `tool` starts the tools of languages.

mod build;
mod check;
mod dev;
mod new;
mod project;
mod sdk;
mod templates;
mod tool;

use clap::Subcommand;

use crate::exit::Failure;
use crate::output::Output;

/// What an author can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a project for a new plugin that builds, runs, and has a test
    New(new::Arguments),
    /// Build a project into what can be dropped into a plugins directory
    Build(build::Arguments),
    /// Look for what a host would refuse or an operator would ask about, with explanations
    Check(check::Arguments),
    /// Run a project on a platform of its own, again after each edit, with everything in sight
    Dev(dev::Arguments),
}

/// Does what was asked.
pub(crate) fn run(command: &Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::New(arguments) => new::run(arguments, output),
        Command::Build(arguments) => build::run(arguments, output),
        Command::Check(arguments) => check::run(arguments, output),
        Command::Dev(arguments) => dev::run(arguments, output),
    }
}
