//! `temps completions`: scripts that complete commands in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Cli;
use crate::exit::Failure;
use crate::output::stdout;

/// Which shell.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell that will read the script
    shell: Shell,
}

/// Writes the script to stdout.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "temps", &mut script);
    stdout(&String::from_utf8_lossy(&script))
}
