//! Built executables of other packages, for tests that start real processes.
//!
//! Cargo gives a test the path of its own package's executables only (`CARGO_BIN_EXE_…`). For others the test runs
//! `cargo build` itself, which does nothing when they are up to date, into the directory that the test was built in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Set by `make test`, which builds everything before it tests anything. Building again, package by package, would
/// resolve features differently and compile dependencies twice.
const EVERYTHING_IS_BUILT: &str = "TEMPS_TEST_BUILT";

/// The executable of a package of this workspace that has the package's name; see [`built_executable`].
///
/// # Panics
/// When it cannot be built; the message has what cargo said.
pub fn built_binary(package: &str) -> PathBuf {
    built_executable(package, package)
}

/// An executable of a package of this workspace. Its package is built first, once per test process.
///
/// # Panics
/// When it cannot be built; the message has what cargo said.
pub fn built_executable(package: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<Mutex<HashMap<String, PathBuf>>> = OnceLock::new();
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let directory = built.entry(package.to_owned()).or_insert_with(|| build(package));
    let path = directory.join(name);
    assert!(path.is_file(), "the package {package} has no executable {name}; {path:?} is missing");
    path
}

/// Builds a package's executables, and returns the directory that they are in.
fn build(package: &str) -> PathBuf {
    let directory = profile_directory();
    if std::env::var_os(EVERYTHING_IS_BUILT).is_some() {
        return directory;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", package, "--bins"]);
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
    if let Some(target) = directory.parent() {
        command.arg("--target-dir").arg(target);
    }
    if directory.ends_with("release") {
        command.arg("--release");
    }
    let output = command.output().expect("cargo can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`cargo build --package {package}` failed: {said}");
    directory
}

/// The directory that this test was built in: `target/debug`, for a test at `target/debug/deps/name-hash`.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    let directory = test.parent().unwrap_or(Path::new("."));
    let directory =
        if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    directory.to_owned()
}
