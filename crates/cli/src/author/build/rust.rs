//! Rust: cargo's executable.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::author::build::cannot;
use crate::author::project::Project;
use crate::author::tool;
use crate::exit::Failure;
use crate::output::Output;

/// Builds the project's one executable and copies it to `made`.
pub(super) fn build(project: &Project, made: &Path, debug: bool, output: Output) -> Result<(), Failure> {
    let mut command = Command::new("cargo");
    command.current_dir(&project.directory).args(["build", "--bins"]);
    if !debug {
        command.arg("--release");
    }
    tool::run(&mut command, output)?;
    // Once more, with nothing left to build: cargo says where it put the executable, whatever its settings are.
    command.args(["--quiet", "--message-format=json"]).stdout(Stdio::piped());
    let said = tool::text(&mut command)?;
    let program = executable(&said, &project.name).ok_or_else(|| {
        Failure::other(
            "no_executable",
            format!("{} builds no single executable", project.directory.display()),
        )
        .hint(format!("name the plugin's [[bin]] {}", project.name))
    })?;
    fs::copy(&program, made).map(drop).map_err(|error| cannot(made, &error))
}

/// The executable in cargo's messages: the only one, or the one with the package's name.
fn executable(messages: &str, name: &str) -> Option<String> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs: Vec<(String, String)> = messages
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, message["executable"].as_str()?.to_owned()))
        })
        .collect();
    let named = programs.iter().find(|(target, _)| target.replace('_', "-") == name);
    match (named, programs.as_slice()) {
        (Some((_, program)), _) | (None, [(_, program)]) => Some(program.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_the_only_one_or_the_one_with_the_packages_name() {
        let line =
            |name: &str| format!("{{\"target\":{{\"name\":\"{name}\"}},\"executable\":\"/t/{name}\"}}\n");
        let library = "{\"target\":{\"name\":\"x\"},\"executable\":null}\n";
        assert_eq!(executable(&(library.to_owned() + &line("a")), "p").as_deref(), Some("/t/a"));
        assert_eq!(executable(&(line("a") + &line("p_q")), "p-q").as_deref(), Some("/t/p_q"));
        assert_eq!(executable(&(line("a") + &line("b")), "p"), None);
        assert_eq!(executable("", "p"), None);
    }
}
