//! Starting the tools of a language, and saying what is missing when there are none.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Longest command that is named whole, in characters.
const LONGEST_LINE: usize = 80;

/// Where a missing tool comes from.
fn origin(tool: &str) -> &'static str {
    match tool {
        "cargo" => "install Rust from https://rustup.rs",
        "python3" => "install Python 3.9 or later",
        "npm" | "node" => "install Node 20 or later from https://nodejs.org",
        "go" => "install Go from https://go.dev/dl",
        _ => "install it, or add its directory to PATH",
    }
}

/// Runs a tool whose output the author reads; it fails when the tool does.
pub(super) fn run(command: &mut Command, output: Output) -> Result<(), Failure> {
    let quiet = output.quiet || output.json;
    // Data goes to stdout, and what a tool says is talk.
    command.stdin(Stdio::null()).stdout(io::stderr());
    if quiet {
        return text(command).map(drop);
    }
    let status = command.status().map_err(|error| missing(command, &error))?;
    if status.success() { Ok(()) } else { Err(failed(command, &status.to_string(), "")) }
}

/// Runs a tool and returns what it wrote to stdout.
pub(super) fn text(command: &mut Command) -> Result<String, Failure> {
    let ended = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| missing(command, &error))?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    // Some tools say on stdout what is wrong.
    let said = if ended.stderr.trim_ascii().is_empty() { &ended.stdout } else { &ended.stderr };
    Err(failed(command, &ended.status.to_string(), &String::from_utf8_lossy(said)))
}

/// The command as it would be typed, its beginning at least.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn missing(command: &Command, error: &io::Error) -> Failure {
    let tool = command.get_program().to_string_lossy().into_owned();
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::new(Exit::Failure, "no_tool", format!("{tool} is needed, and is not installed"))
            .hint(origin(&tool));
    }
    Failure::other("no_tool", format!("cannot start {tool}: {error}"))
}

fn failed(command: &Command, status: &str, said: &str) -> Failure {
    let said = said.trim_end();
    let message = format!("`{}` failed ({status})", line(command));
    let failure = Failure::other("build_failed", message);
    if said.is_empty() { failure } else { failure.hint(said) }
}
