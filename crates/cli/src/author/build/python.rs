//! Python: one file that Python runs (a zipapp), or a directory once there are dependencies or a page.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::author::build::{DIRECTORY_PROGRAM, cannot, copy_tree, install};
use crate::author::project::{Project, toml_file};
use crate::author::tool;
use crate::exit::Failure;
use crate::output::Output;

/// The file that is the plugin.
const MAIN: &str = "plugin.py";

/// The package of the SDK, where a copy of it lies in the project.
const SDK: &str = "temps_plugin";

/// The folder of a page.
const PAGE: &str = "ui";

/// Folders that are never part of a plugin.
const NOT_PACKED: &[&str] = &["dist", "build", "tests", "__pycache__", "venv", "node_modules"];

/// The program of a directory: finds what was packed beside it, and runs the plugin.
const PROGRAM: &str = "#!/usr/bin/env python3
import os
import runpy
import sys

here = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(1, os.path.join(here, \"lib\"))
runpy.run_path(os.path.join(here, \"plugin.py\"), run_name=\"__main__\")
";

/// Packs the project to `made`; `draft` is a directory for what is in between, `kept` has packages of the build before.
pub(super) fn build(
    project: &Project,
    made: &Path,
    draft: &Path,
    kept: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    let directory = &project.directory;
    if !directory.join(MAIN).is_file() {
        return Err(Failure::usage(format!("{} has no {MAIN}, which is the plugin", directory.display())));
    }
    let dependencies = dependencies(directory)?;
    look_through(directory, draft, output)?;
    if dependencies.is_empty() && !directory.join(PAGE).is_dir() {
        let stage = draft.join("zip");
        pack(directory, &stage)?;
        let (main, run) = (stage.join(MAIN), stage.join("__main__.py"));
        fs::rename(&main, &run).map_err(|error| cannot(&run, &error))?;
        let mut zip = Command::new("python3");
        zip.args(["-m", "zipapp", "--compress", "--python", "/usr/bin/env python3", "--output"]);
        return tool::run(zip.arg(made).arg(&stage), output);
    }
    pack(directory, made)?;
    if directory.join(PAGE).is_dir() {
        copy_tree(&directory.join(PAGE), &made.join(PAGE))?;
    }
    let program = made.join(DIRECTORY_PROGRAM);
    fs::write(&program, PROGRAM).map_err(|error| cannot(&program, &error))?;
    if dependencies.is_empty() {
        return Ok(());
    }
    install(&dependencies.join("\n"), &made.join("lib"), kept, |lib| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]);
        // What else is installed on this machine does not matter to what is made here, nor who makes it.
        pip.env("PIP_ROOT_USER_ACTION", "ignore").arg("--no-warn-conflicts");
        tool::run(pip.arg("--target").arg(lib).args(&dependencies).current_dir(directory), output)
    })
}

/// Finds what is no Python, which would be seen only when a host starts the plugin otherwise.
fn look_through(directory: &Path, draft: &Path, output: Output) -> Result<(), Failure> {
    let own = packed(directory)?.into_iter().filter(|name| name != SDK);
    let mut python = Command::new("python3");
    python.args(["-m", "compileall", "-q", "-f"]).args(own).current_dir(directory);
    // What it compiles goes where nobody looks.
    tool::run(python.env("PYTHONPYCACHEPREFIX", draft.join("compiled")), output)
}

/// What the plugin needs beside Python, and beside the SDK where a copy of it lies in the project.
fn dependencies(directory: &Path) -> Result<Vec<String>, Failure> {
    let file = directory.join("pyproject.toml");
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let manifest = toml_file(&file)?;
    let listed = manifest.get("project").and_then(|project| project.get("dependencies"));
    let listed = listed.and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has_sdk = directory.join(SDK).is_dir();
    let wanted = listed.iter().filter_map(toml::Value::as_str);
    Ok(wanted.filter(|name| !(has_sdk && is_sdk(name))).map(str::to_owned).collect())
}

fn is_sdk(requirement: &str) -> bool {
    let end = requirement.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'));
    let name = &requirement[..end.unwrap_or(requirement.len())];
    name.replace(['_', '.'], "-").eq_ignore_ascii_case("temps-plugin")
}

/// Copies modules and packages.
fn pack(directory: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(|error| cannot(to, &error))?;
    packed(directory)?.iter().try_for_each(|name| copy_tree(&directory.join(name), &to.join(name)))
}

/// Names of the modules and packages that are part of the plugin, but of no tests.
fn packed(directory: &Path) -> Result<Vec<String>, Failure> {
    let mut packed = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| cannot(directory, &error))? {
        let path = entry.map_err(|error| cannot(directory, &error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with('.') || NOT_PACKED.contains(&name) {
            continue;
        }
        let is_module = name.ends_with(".py") && !name.starts_with("test_");
        if is_module || path.join("__init__.py").is_file() {
            packed.push(name.to_owned());
        }
    }
    packed.sort();
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_known_in_any_spelling_of_its_name() {
        for name in
            ["temps-plugin", "temps_plugin>=0.1", "Temps.Plugin [x]", "temps-plugin;python_version<'4'"]
        {
            assert!(is_sdk(name), "{name}");
        }
        for name in ["temps-plugin-extra", "fastapi", ""] {
            assert!(!is_sdk(name), "{name}");
        }
    }
}
