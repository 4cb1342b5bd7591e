//! Go: one static executable.

use std::path::Path;
use std::process::Command;

use crate::author::project::Project;
use crate::author::tool;
use crate::exit::Failure;
use crate::output::Output;

/// Builds the package in the project's directory to `made`.
pub(super) fn build(project: &Project, made: &Path, debug: bool, output: Output) -> Result<(), Failure> {
    let mut command = Command::new("go");
    command.current_dir(&project.directory).env("CGO_ENABLED", "0").arg("build");
    if !debug {
        command.args(["-trimpath", "-ldflags=-s -w"]);
    }
    tool::run(command.arg("-o").arg(made).arg("."), output)
}
