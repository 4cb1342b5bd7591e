//! The `temps` command: the daemon and everything that talks to it, in one program.
//!
//! Each noun has a file with its arguments and what it does; `client` is the way to the daemon, `output` the only way
//! out, `exit` how a command ends. The same program is the launcher of plugins: the host starts it again for that.

mod arguments;
mod audit;
mod author;
mod client;
mod completions;
mod delivery;
mod deployment;
mod doctor;
mod environment;
mod event;
mod exit;
mod host;
mod output;
mod plugin;
mod project;
mod recording;
mod serve;
mod stream;
mod target;
mod token;
mod version;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::arguments::{Cli, Command, Global};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::target::Target;

fn main() -> ExitCode {
    // Before anything else, and before any thread: as a launcher this process never comes back from here.
    temps_host::launcher();
    let cli = Cli::parse();
    let output = Output { json: cli.global.json, quiet: cli.global.quiet };
    match run(cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.exit != Exit::Ok {
                output.failure(&failure);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(cli: Cli, output: Output) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(arguments) => serve::run(&cli.global, &arguments, output),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Plugin(plugin::Command::Author(command)) => author::run(&command, output),
        command => ask(&cli.global, command, output),
    }
}

/// Runs a command that asks the daemon, until it is done, interrupted, or out of time.
fn ask(global: &Global, command: Command, output: Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("runtime", format!("cannot start: {error}")))?;
    let timeout = global.timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let own_end = matches!(&command, Command::Plugin(command) if command.ends_when_interrupted());
    runtime.block_on(async {
        let work = dispatch(global, command, output, timeout);
        let in_time = async {
            match timeout {
                Some(timeout) => {
                    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(too_long(timeout)))
                }
                None => work.await,
            }
        };
        tokio::select! {
            result = in_time => result,
            _ = tokio::signal::ctrl_c(), if !own_end => Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted")),
        }
    })
}

fn too_long(timeout: Duration) -> Failure {
    let message = format!("not done after {} s", timeout.as_secs());
    Failure::new(Exit::Timeout, "timeout", message).hint("--timeout gives it longer")
}

async fn dispatch(
    global: &Global,
    command: Command,
    output: Output,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let command = match command {
        Command::Host(command) => return host::run(command, global, output).await,
        Command::Doctor => return doctor::run(global, output).await,
        Command::Audit(arguments) if arguments.is_offline() => {
            return audit::verify_offline(global, output).await;
        }
        Command::Plugin(command) => match command.alone(output).await? {
            Some(command) => Command::Plugin(command),
            None => return Ok(()),
        },
        command => command,
    };
    let Target { url, token } = Target::find(global)?;
    let client = &Client::new(url, token, timeout)?;
    match command {
        Command::Plugin(command) => plugin::run(command, client, output).await,
        Command::Project(command) => project::run(command, client, output).await,
        Command::Environment(command) => environment::run(command, client, output).await,
        Command::Deployment(command) => deployment::run(command, client, output).await,
        Command::Event(command) => event::run(command, client, output).await,
        Command::Delivery(command) => delivery::run(command, client, output).await,
        Command::Token(command) => token::run(command, client, output).await,
        Command::Audit(arguments) => audit::run(arguments, client, output).await,
        Command::LoginLink => token::login_link(client, output).await,
        Command::Version => version::run(client, output).await,
        Command::Serve(_) | Command::Doctor | Command::Host(_) | Command::Completions(_) => Ok(()),
    }
}
