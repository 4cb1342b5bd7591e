//! `temps host`: what concerns hosts of plugins, ours or another one.

mod test;

use clap::Subcommand;

use crate::arguments::Global;
use crate::exit::Failure;
use crate::output::Output;

/// What can be done with hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check whether a host speaks the protocol, clause by clause, with plugins that play a script
    Test(test::Arguments),
}

/// Does what was asked.
pub(crate) async fn run(command: Command, global: &Global, output: Output) -> Result<(), Failure> {
    match command {
        Command::Test(arguments) => test::run(arguments, global, output).await,
    }
}
