//! Applies the house rules to this checkout. A failure names the place and what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use temps_house::{arrows, sources};

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout is there")
}

fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
}

fn judged(rule: impl Fn(&[sources::Source]) -> Vec<String>) {
    let sources = sources::read(&checkout()).expect("the checkout can be read");
    assert!(
        sources.iter().any(|source| source.path == "crates/protocol/src/lib.rs"),
        "the sources were not found"
    );
    none(&rule(&sources));
}

fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(checkout())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

#[test]
fn crate_arrows_only_fall() {
    let found = arrows::read(&metadata());
    assert!(found.len() > 20, "the workspace's dependencies were not found");
    none(&arrows::judge(&found));
}

#[test]
fn no_build_has_failpoints_unless_it_asks_for_them() {
    let metadata = metadata();
    assert!(metadata.to_string().contains("failpoints"), "the feature was not found");
    none(&arrows::failpoints_turned_on(&metadata));
    for file in ["Makefile", "scripts/run.sh"] {
        let text = std::fs::read_to_string(checkout().join(file)).unwrap();
        let builds = text.lines().filter(|line| line.contains("cargo build"));
        let asks = |line: &&str| line.contains("failpoints") || line.contains("--all-features");
        none(&builds.filter(asks).map(|line| format!("{file}: {line}")).collect::<Vec<_>>());
    }
}

#[test]
fn every_rust_file_begins_with_module_docs() {
    judged(sources::without_module_docs);
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    judged(sources::with_empty_names);
}

#[test]
fn the_host_starts_processes_in_one_place() {
    judged(sources::starting_processes);
}

#[test]
fn sql_lives_in_the_store() {
    judged(sources::sql_outside_the_store);
}

#[test]
fn unsafe_code_lives_in_the_sandbox() {
    judged(sources::unsafe_outside_the_sandbox);
}

#[test]
fn lints_are_expected_with_a_reason() {
    judged(sources::silenced_lints);
}

#[test]
fn no_test_is_turned_off() {
    judged(sources::tests_turned_off);
}

#[test]
fn every_crate_takes_the_lints() {
    judged(sources::without_lints);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let prefixes = sources::machine_prefixes(&checkout(), home.as_deref());
    judged(|all| sources::machine_paths(all, &prefixes));
}
