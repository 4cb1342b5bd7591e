//! The languages that there is an SDK for, and what a machine needs for the bench plugin of each.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::rig::{bench_plugin, copy_named};

/// A language with an SDK. Rust comes first: the figures of the others are compared with its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    Python,
    Node,
    Go,
}

impl Language {
    pub(crate) const ALL: [Language; 4] = [Language::Rust, Language::Python, Language::Node, Language::Go];

    /// The word for it on the command line of `temps`, and in names of plugins.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Python => "python",
            Language::Node => "node",
            Language::Go => "go",
        }
    }

    /// What its bench plugin is called.
    pub(crate) fn plugin(self) -> String {
        format!("bench-{}", self.word())
    }

    /// What has to be started once to know that its tools are there.
    fn tool(self) -> (&'static str, &'static str) {
        match self {
            Language::Rust => ("cargo", "--version"),
            Language::Python => ("python3", "--version"),
            Language::Node => ("node", "--version"),
            Language::Go => ("go", "version"),
        }
    }
}

/// The checkout that this rig was built from.
pub(crate) fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Finds out whether all languages can be measured, and says all that is missing if not.
pub(crate) fn require_all() -> Outcome<()> {
    let mut missing = Vec::new();
    for language in Language::ALL {
        let (tool, argument) = language.tool();
        let started = Command::new(tool).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !started.is_ok_and(|status| status.success()) {
            missing.push(format!("`{tool}`, for the figures of {}", language.word()));
        }
    }
    if !node_sdk().join("node_modules/.bin/esbuild").exists() {
        missing.push("the packages of sdks/node".to_owned());
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("missing: {}; `scripts/setup.sh bench` brings or lists them", missing.join(", ")).into())
}

/// The Node SDK, built unless it is already.
pub(crate) fn built_node_sdk() -> Outcome<PathBuf> {
    run(Command::new("node").args(["scripts/build.js", "--if-needed"]).current_dir(node_sdk()))?;
    Ok(node_sdk())
}

fn node_sdk() -> PathBuf {
    checkout().join("sdks/node")
}

/// Builds the bench plugin of a language to `to`, as a host would be given it: a file, or a directory for Python.
pub(crate) fn build_plugin(language: Language, to: &Path) -> Outcome<()> {
    let source = checkout().join("benches/plugins").join(language.word());
    match language {
        Language::Rust => copy_named(&bench_plugin()?, to, &language.plugin()),
        Language::Python => {
            std::fs::create_dir(to)?;
            let (program, sdk) = (to.join("plugin"), checkout().join("sdks/python/src/temps_plugin"));
            run(Command::new("cp").arg(source.join("bench.py")).arg(&program))?;
            run(Command::new("cp").arg("-r").arg(sdk).arg(to))?;
            run(Command::new("chmod").args(["-R", "a+X,go-w"]).arg(to))?;
            run(Command::new("chmod").arg("755").arg(program))
        }
        Language::Node => {
            let sdk = built_node_sdk()?;
            run(Command::new("node").arg(sdk.join("scripts/bundle.js")).arg(source.join("bench.js")).arg(to))
        }
        Language::Go => {
            let mut go = Command::new("go");
            go.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(to).arg(".");
            run(go.current_dir(source).env("CGO_ENABLED", "0"))
        }
    }
}

/// Runs a tool, which must succeed; what it says is the error if it does not.
pub(crate) fn run(command: &mut Command) -> Outcome<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{name} failed ({}): {}", output.status, said.trim()).into())
}
