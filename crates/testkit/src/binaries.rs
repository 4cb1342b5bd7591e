//! Built executables that cargo does not hand to a test by itself, for tests that start real processes.
//!
//! Cargo gives a test the path of its own package's executables only (`CARGO_BIN_EXE_…`). For others the test runs
//! `cargo build` itself, which does nothing when they are up to date, into the directory that the test was built in.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
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
    built(&["--package", package, "--bins"], Path::new(name))
}

/// An example of a package of this workspace. It is built first, once per test process.
///
/// Cargo builds examples for tests by itself, but not when only some tests are asked for; then an old one would be
/// tested.
///
/// # Panics
/// When it cannot be built; the message has what cargo said.
pub fn built_example(package: &str, example: &str) -> PathBuf {
    built(&["--package", package, "--example", example], &Path::new("examples").join(example))
}

/// What belongs in front of PATH for a script that runs `cargo build`: nothing, or, where everything was built before
/// the tests, a directory (made in `home`) with a `cargo` that only agrees. See [`built_executable`] for the reason.
///
/// # Panics
/// When the directory cannot be made.
pub fn stand_in_for_cargo(home: &Path) -> String {
    if std::env::var_os(EVERYTHING_IS_BUILT).is_none() {
        return String::new();
    }
    let directory = home.join("bin");
    let file = directory.join("cargo");
    let script = "#!/bin/sh\n[ \"$1\" = build ] || { echo \"not expected: cargo $*\" >&2; exit 1; }\n";
    std::fs::create_dir(&directory).expect("a directory can be made");
    std::fs::write(&file, script).expect("the stand-in can be written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    format!("{}:", directory.display())
}

/// Builds `what` if this process has not yet, and returns the file at `path` below the directory of results.
fn built(what: &[&str], path: &Path) -> PathBuf {
    static BUILT: OnceLock<Mutex<HashSet<String>>> = OnceLock::new();
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let directory = profile_directory();
    let what = what.join(" ");
    if !built.contains(&what) {
        build(&what, &directory);
        built.insert(what.clone());
    }
    let path = directory.join(path);
    assert!(path.is_file(), "{path:?} is missing although `cargo build {what}` succeeded");
    path
}

fn build(what: &str, directory: &Path) {
    if std::env::var_os(EVERYTHING_IS_BUILT).is_some() {
        return;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]).args(what.split(' '));
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
    if let Some(target) = directory.parent() {
        command.arg("--target-dir").arg(target);
    }
    if directory.ends_with("release") {
        command.arg("--release");
    }
    let output = command.output().expect("cargo can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`cargo build {what}` failed: {said}");
}

/// The directory that this test was built in: `target/debug`, for a test at `target/debug/deps/name-hash`.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    let directory = test.parent().unwrap_or(Path::new("."));
    let directory =
        if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    directory.to_owned()
}
