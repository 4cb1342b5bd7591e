//! What may stand in the project's files: names, module docs, where processes are started, where SQL is written.
//!
//! The rules look at text, not at syntax. They are simple on purpose: a rule that needs a parser would be a lint.

use std::path::{Path, PathBuf};

/// One text file of the checkout.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path below the checkout, with `/` between its parts.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// Folders that hold results of builds, not sources.
const NOT_SOURCES: &[&str] = &["target", "node_modules", ".git", ".dev", "__pycache__", ".mypy_cache"];

/// Names of rooms for everything, in which nothing is ever found again.
const FORBIDDEN_NAMES: &[&str] = &["utils.rs", "common.rs", "errors.rs", "helpers.rs", "manager.rs"];

/// The one file of the host that may start a process.
const STARTS_PROCESSES: &str = "crates/host/src/plugin/process.rs";

/// Largest file that is read, in bytes; larger ones are data.
const LARGEST_SOURCE: u64 = 4 * 1024 * 1024;

/// All text files below `root`.
///
/// # Errors
/// What the file system says.
pub fn read(root: &Path) -> std::io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && !NOT_SOURCES.iter().any(|name| entry.file_name() == *name) {
                folders.push(entry.path());
            } else if kind.is_file() && entry.metadata()?.len() <= LARGEST_SOURCE {
                // What is not UTF-8 is a picture or a program, and no rule is about those.
                let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
                let path: PathBuf = entry.path().strip_prefix(root).unwrap_or(&entry.path()).into();
                sources.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// Rust files that do not begin with module docs.
#[must_use]
pub fn without_module_docs(sources: &[Source]) -> Vec<String> {
    rust(sources)
        .filter(|source| !source.text.trim_start().starts_with("//!"))
        .map(|source| format!("{}: begin with `//!`: what it is, why, what it must not know", source.path))
        .collect()
}

/// Files whose name says nothing.
#[must_use]
pub fn with_empty_names(sources: &[Source]) -> Vec<String> {
    rust(sources)
        .filter(|source| FORBIDDEN_NAMES.contains(&file_name(source)))
        .map(|source| format!("{}: name the file after the one noun that it is about", source.path))
        .collect()
}

/// Places in the host that start a process, other than the one that may.
#[must_use]
pub fn starting_processes(sources: &[Source]) -> Vec<String> {
    let starts: Vec<String> = rust(sources)
        .filter(|source| source.path.starts_with("crates/host/src/"))
        .flat_map(|source| places(source, |line| line.contains("Command::new(")))
        .collect();
    let (legal, mut problems): (Vec<_>, Vec<_>) =
        starts.into_iter().partition(|place| place.starts_with(STARTS_PROCESSES));
    problems.extend(legal.into_iter().skip(1));
    problems
        .iter()
        .map(|place| format!("{place}: only one place in {STARTS_PROCESSES} starts processes"))
        .collect()
}

/// SQL outside the store, and outside of the crate for tests, which ends sessions of a server.
#[must_use]
pub fn sql_outside_the_store(sources: &[Source]) -> Vec<String> {
    shipped(sources)
        .filter(|source| !["crates/store/", "crates/testkit/"].iter().any(|own| source.path.starts_with(own)))
        .flat_map(|source| places(source, is_sql))
        .map(|place| format!("{place}: SQL lives in crates/store"))
        .collect()
}

/// `unsafe` outside the sandbox.
#[must_use]
pub fn unsafe_outside_the_sandbox(sources: &[Source]) -> Vec<String> {
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    rust(sources)
        .filter(|source| {
            !source.path.starts_with("crates/sandbox/") && !source.path.starts_with("tests/house/")
        })
        .flat_map(|source| places(source, |line| words.iter().any(|word| line.contains(word))))
        .map(|place| format!("{place}: unsafe code lives in crates/sandbox"))
        .collect()
}

/// Lints that are silenced without a reason that the compiler checks.
#[must_use]
pub fn silenced_lints(sources: &[Source]) -> Vec<String> {
    rust(sources)
        .filter(|source| !source.path.starts_with("tests/house/"))
        .flat_map(|source| places(source, |line| line.contains("#[allow(") || line.contains("#![allow(")))
        .map(|place| format!("{place}: use #[expect(lint, reason = \"...\")]"))
        .collect()
}

/// Tests that are turned off, other than those that another test starts as a process of its own.
#[must_use]
pub fn tests_turned_off(sources: &[Source]) -> Vec<String> {
    let is_part_of_another = |line: &str| line.contains("another test") || line.contains("the test above");
    rust(sources)
        .filter(|source| !source.path.starts_with("tests/house/"))
        .flat_map(|source| {
            let lines = source.text.lines().enumerate();
            let off = lines
                .filter(|(_, line)| line.trim_start().starts_with("#[ignore") && !is_part_of_another(line));
            off.map(|(at, _)| format!("{}:{}", source.path, at + 1))
        })
        .map(|place| {
            format!("{place}: a test that cannot run here calls temps_testkit::skip, so that it is counted")
        })
        .collect()
}

/// Manifests that do not take the workspace's lints. The sandbox has its own list, with unsafe code denied instead of
/// forbidden.
#[must_use]
pub fn without_lints(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| file_name(source) == "Cargo.toml" && source.text.contains("[package]"))
        .filter(|source| source.path != "crates/sandbox/Cargo.toml")
        .filter(|source| !source.text.contains("[lints]\nworkspace = true"))
        .map(|source| format!("{}: add `[lints]` with `workspace = true`", source.path))
        .collect()
}

/// Files that name a place of one machine: `prefixes` are such places, for example a developer's home directory.
#[must_use]
pub fn machine_paths(sources: &[Source], prefixes: &[String]) -> Vec<String> {
    let names_one = |line: &str| prefixes.iter().any(|prefix| names_path(line, prefix));
    sources
        .iter()
        .flat_map(|source| {
            let lines = source.text.lines().enumerate().filter(|(_, line)| names_one(line));
            lines.map(|(at, _)| format!("{}:{}: names a path of one machine", source.path, at + 1))
        })
        .collect()
}

/// Beginnings of paths that belong to this machine alone, from the checkout's place and the user's home directory.
#[must_use]
pub fn machine_prefixes(checkout: &Path, home: Option<&Path>) -> Vec<String> {
    // Under these every machine has its own folders, so one more part of the path tells this machine's from all others'.
    let shared = ["home", "mnt", "opt", "srv", "tmp", "usr", "var", "media", "run", "builds", "Users"];
    let prefix = |path: &Path| {
        let parts: Vec<_> =
            path.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let depth = if shared.contains(&parts.first()?.as_str()) { 2 } else { 1 };
        (parts.len() >= depth).then(|| format!("/{}/", parts[..depth].join("/")))
    };
    let mut prefixes: Vec<String> = [Some(checkout), home].into_iter().flatten().filter_map(prefix).collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

/// Whether `line` has a path that begins with `prefix`, as opposed to one that only has it inside.
fn names_path(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + prefix.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || "._/-~$}>".contains(c))
            && after.is_some_and(|c| c.is_alphanumeric() || c == '.' || c == '_')
    })
}

fn is_sql(line: &str) -> bool {
    let begins = [
        ("SELECT ", " FROM "),
        ("INSERT INTO ", ""),
        ("DELETE FROM ", ""),
        ("CREATE TABLE ", ""),
        ("UPDATE ", " SET "),
        ("PRAGMA ", ""),
    ];
    begins.iter().any(|(verb, rest)| {
        line.find(verb)
            .is_some_and(|at| line[at + verb.len()..].contains(rest) || line.trim_end().ends_with('\\'))
    })
}

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".rs"))
}

/// Rust files that end up in something that is shipped.
fn shipped(sources: &[Source]) -> impl Iterator<Item = &Source> {
    rust(sources).filter(|source| {
        let is_test = |part: &str| part == "tests" || part == "benches";
        !source.path.split('/').any(is_test)
    })
}

fn file_name(source: &Source) -> &str {
    source.path.rsplit('/').next().unwrap_or_default()
}

/// `path:line` of each line before the file's inline tests, comments apart, that `matches`.
fn places(source: &Source, matches: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = source.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").enumerate();
    lines
        .filter(|(_, line)| !line.trim_start().starts_with("//") && matches(line))
        .map(|(at, _)| format!("{}:{}", source.path, at + 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> Vec<Source> {
        vec![Source { path: path.into(), text: text.into() }]
    }

    #[test]
    fn a_file_without_module_docs_is_refused() {
        assert_eq!(without_module_docs(&one("crates/a/src/b.rs", "use std::fs;\n//! too late\n")).len(), 1);
        assert_eq!(without_module_docs(&one("crates/a/src/b.rs", "//! What it is.\n")).len(), 0);
    }

    #[test]
    fn a_name_that_says_nothing_is_refused() {
        assert_eq!(with_empty_names(&one("crates/a/src/utils.rs", "//!")).len(), 1);
        assert_eq!(with_empty_names(&one("crates/a/src/fileutils.rs", "//!")).len(), 0);
    }

    #[test]
    fn a_second_start_of_a_process_in_the_host_is_refused() {
        let process = one(STARTS_PROCESSES, "Command::new(a)\n");
        assert_eq!(starting_processes(&process).len(), 0);
        assert_eq!(starting_processes(&one(STARTS_PROCESSES, "Command::new(a)\nCommand::new(b)\n")).len(), 1);
        assert_eq!(starting_processes(&one("crates/host/src/inspect.rs", "Command::new(a)")).len(), 1);
        assert_eq!(
            starting_processes(&one("crates/host/src/inspect.rs", "#[cfg(test)]\nCommand::new(a)")).len(),
            0
        );
    }

    #[test]
    fn sql_outside_the_store_is_refused() {
        let line = "let rows = db.query(\"SELECT id FROM events\");";
        assert_eq!(sql_outside_the_store(&one("crates/server/src/a.rs", line)).len(), 1);
        assert_eq!(
            sql_outside_the_store(&one("crates/server/src/a.rs", "\"INSERT INTO x VALUES (1)\"")).len(),
            1
        );
        assert_eq!(sql_outside_the_store(&one("crates/store/src/a.rs", line)).len(), 0);
        assert_eq!(
            sql_outside_the_store(&one("crates/server/src/a.rs", "// SELECT id FROM events")).len(),
            0
        );
    }

    #[test]
    fn unsafe_code_outside_the_sandbox_is_refused() {
        assert_eq!(unsafe_outside_the_sandbox(&one("crates/host/src/a.rs", "unsafe { x() }")).len(), 1);
        assert_eq!(unsafe_outside_the_sandbox(&one("crates/sandbox/src/a.rs", "unsafe { x() }")).len(), 0);
    }

    #[test]
    fn a_lint_that_is_silenced_without_a_reason_is_refused() {
        assert_eq!(silenced_lints(&one("crates/host/src/a.rs", "#[allow(dead_code)]")).len(), 1);
        assert_eq!(
            silenced_lints(&one("crates/host/src/a.rs", "#[expect(dead_code, reason = \"x\")]")).len(),
            0
        );
    }

    #[test]
    fn a_test_that_is_turned_off_is_refused() {
        assert_eq!(tests_turned_off(&one("crates/host/tests/a.rs", "#[ignore = \"slow\"]")).len(), 1);
        assert_eq!(tests_turned_off(&one("crates/host/tests/a.rs", "#[ignore]")).len(), 1);
        assert_eq!(tests_turned_off(&one("a.rs", "#[ignore = \"the child of the test above\"]")).len(), 0);
    }

    #[test]
    fn a_crate_that_does_not_take_the_lints_is_refused() {
        assert_eq!(without_lints(&one("crates/a/Cargo.toml", "[package]\nname = \"a\"\n")).len(), 1);
        assert_eq!(
            without_lints(&one("crates/a/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n")).len(),
            0
        );
    }

    #[test]
    fn a_path_of_one_machine_is_refused() {
        let prefixes = machine_prefixes(Path::new("/builds/me/temps"), Some(Path::new("/home/me")));
        assert_eq!(prefixes, ["/builds/me/", "/home/me/"]);
        assert_eq!(machine_paths(&one("a.md", "see /home/me/notes"), &prefixes).len(), 1);
        assert_eq!(machine_paths(&one("a.md", "see /home/you/notes or x/home/me/notes"), &prefixes).len(), 0);
    }
}
