//! What the documentation shows is executed, and what it names is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use temps_docs::{Page, anchors, blocks, links, pages};
use temps_testkit::binaries::{built_executable, stand_in_for_cargo};
use temps_testkit::daemon::{Daemon, home_with_hello, put_plugin, temps};

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout is there")
}

fn all() -> Vec<Page> {
    let pages = pages(&checkout()).expect("the documentation can be read");
    assert!(pages.iter().any(|page| page.path.ends_with("README.md")), "the documentation was not found");
    pages
}

fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
}

fn place(page: &Page, line: usize) -> String {
    format!("{}:{line}", page.path.strip_prefix(checkout()).unwrap_or(&page.path).display())
}

#[test]
fn every_link_leads_somewhere() {
    let pages = all();
    let texts: BTreeMap<PathBuf, &str> =
        pages.iter().map(|page| (page.path.clone(), page.text.as_str())).collect();
    let mut problems = Vec::new();
    for page in &pages {
        for (line, link) in links(&page.text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.path.clone(),
                file => page.path.parent().unwrap_or(Path::new(".")).join(file),
            };
            let Ok(target) = target.canonicalize() else {
                problems.push(format!("{}: {link} is not there", place(page, line)));
                continue;
            };
            let known = texts.get(&target).map(|text| anchors(text));
            if !anchor.is_empty() && known.is_some_and(|known| !known.iter().any(|known| known == anchor)) {
                problems.push(format!("{}: {link} names no heading", place(page, line)));
            }
        }
    }
    none(&problems);
}

#[test]
fn code_that_names_its_file_stands_there_exactly_so() {
    let mut problems = Vec::new();
    for page in all() {
        for block in blocks(&page.text) {
            let Some(file) = block.file() else { continue };
            let text = std::fs::read_to_string(checkout().join(file)).unwrap_or_default();
            if !text.contains(&block.body) {
                problems.push(format!("{}: this does not stand in {file}", place(&page, block.line)));
            }
        }
    }
    none(&problems);
}

#[test]
fn the_life_of_a_plugin_is_the_same_in_the_tests_of_every_sdk() {
    let read = |file: &str| std::fs::read_to_string(checkout().join(file)).expect("the file is there");
    let page = read("sdks/README.md");
    let (_, life) = page.split_once("## One life").expect("the page lists the steps");
    let number = |line: &str| line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    let listed: Vec<&str> = life.lines().filter(|line| number(line)).map(|line| &line[3..]).collect();
    assert_eq!(listed.len(), 8, "{listed:?}");
    for file in [
        "crates/cli/tests/it/life.rs",
        "sdks/python/tests/test_real_host.py",
        "sdks/node/test/real-host.test.js",
        "sdks/go/realhost_test.go",
    ] {
        let test = read(file);
        let steps: Vec<&str> =
            test.lines().filter_map(|line| line.split_once(" Step: ")).map(|(_, step)| step).collect();
        assert_eq!(steps, listed, "{file}");
    }
}

#[test]
fn every_command_that_is_shown_exists() {
    let home = tempfile_home();
    let mut known: BTreeMap<String, bool> = BTreeMap::new();
    let mut problems = Vec::new();
    for page in all() {
        for block in blocks(&page.text).iter().filter(|block| block.language == "sh") {
            for (at, line) in block.body.lines().enumerate() {
                let Some(words) = line.trim_start().strip_prefix("temps ") else { continue };
                let is_word = |word: &&str| {
                    word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
                };
                let words: Vec<_> = words.split_whitespace().take_while(is_word).take(2).collect();
                let Some(noun) = words.first() else { continue };
                // The second word is a verb where the noun has verbs, and a value otherwise.
                let exists = known.entry(words.join(" ")).or_insert_with(|| {
                    let help = |words: &[&str]| {
                        temps(&home)
                            .arg("help")
                            .args(words)
                            .stdout(Stdio::null())
                            .stderr(Stdio::null())
                            .status()
                    };
                    let succeeds = |words: &[&str]| help(words).is_ok_and(|status| status.success());
                    succeeds(&words) || (succeeds(&[noun]) && !has_verbs(&home, noun))
                });
                if !*exists {
                    problems.push(format!(
                        "{}: there is no `temps {}`",
                        place(&page, block.line + at + 1),
                        words.join(" ")
                    ));
                }
            }
        }
    }
    none(&problems);
}

fn has_verbs(home: &Path, noun: &str) -> bool {
    let output = temps(home).args(["help", noun]).output().expect("temps can be started");
    String::from_utf8_lossy(&output.stdout).contains("\nCommands:")
}

/// Names of tests in a text: words in backticks with several underscores.
fn named_tests(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| {
        word.matches('_').count() >= 3
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

#[test]
fn every_invariant_and_decision_is_kept_by_tests_that_exist() {
    let page = std::fs::read_to_string(checkout().join("ARCHITECTURE.md")).expect("the page can be read");
    let (_, table) = page.split_once("## Invariants").expect("there are invariants");
    let decisions = all().into_iter().filter(|page| page.path.starts_with(checkout().join("docs/design")));
    let table = &decisions.fold(table.to_owned(), |text, page| text + "\n" + &page.text);
    let mut sources = String::new();
    let mut folders = vec![checkout().join("crates"), checkout().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the sources can be read").flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "node_modules" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(path).expect("a source can be read");
            }
        }
    }
    let missing: Vec<String> = named_tests(table)
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .map(|name| format!("there is no test {name}"))
        .collect();
    assert!(named_tests(table).count() > 20, "the names were not found");
    none(&missing);
}

/// The settings in the operator's guide, as they stand there.
#[test]
fn the_settings_that_are_shown_are_valid() {
    let guide =
        std::fs::read_to_string(checkout().join("docs/guides/operate.md")).expect("the guide is there");
    let blocks = blocks(&guide);
    let settings =
        blocks.iter().find(|block| block.language == "toml").expect("the guide shows the settings");
    let home = temps_testkit::daemon::empty_home();
    let file = home.path().join("shown.toml");
    let with_examples =
        settings.body.replace("# public_url", "public_url").replace("# plugins_dirs", "plugins_dirs");
    for text in [&settings.body, &with_examples] {
        std::fs::write(&file, text).expect("the file can be written");
        let output = temps(home.path())
            .args(["--json", "doctor", "--config"])
            .arg(&file)
            .output()
            .expect("temps runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("shown.toml is valid"), "{said}");
    }
}

fn tempfile_home() -> PathBuf {
    // Help needs no home; the command only has to be given one.
    checkout().join("target")
}

/// Runs the blocks of one page in one shell, with a daemon of its own and this checkout as the working directory.
fn run_blocks_of(page: &str) {
    let text = std::fs::read_to_string(checkout().join(page)).expect("the page can be read");
    let script: String =
        blocks(&text).iter().filter(|block| block.is_run()).map(|block| block.body.as_str()).collect();
    assert!(!script.is_empty(), "{page} has no block to be run");
    let home = home_with_hello();
    put_plugin(home.path(), "slack-notifier", &built_executable("slack-notifier", "slack-notifier"));
    let daemon = Daemon::start_in(home, &[]);
    for plugin in ["hello", "slack-notifier"] {
        daemon.wait_for(plugin, "running");
    }
    let programs = built_executable("temps-cli", "temps");
    let programs = programs.parent().expect("an executable is in a directory");
    let stand_in = stand_in_for_cargo(daemon.home.path());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(checkout())
        .env("HOME", daemon.home.path())
        .env("TEMPS_HOME", daemon.home.path())
        .env("TEMPS_URL", &daemon.url)
        .env(
            "PATH",
            format!("{stand_in}{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default()),
        )
        .stdin(Stdio::null())
        .output()
        .expect("bash can be started");
    assert!(
        output.status.success(),
        "{page} does not work as it stands:\n{script}\n--- stdout\n{}\n--- stderr\n{}\n--- daemon\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        daemon.log()
    );
}

#[test]
fn the_readme_works_as_it_stands() {
    run_blocks_of("README.md");
}

#[test]
fn the_guide_for_operators_works_as_it_stands() {
    run_blocks_of("docs/guides/operate.md");
}

#[test]
fn the_guide_for_any_language_works_as_it_stands() {
    run_blocks_of("docs/guides/write-a-plugin-any-language.md");
}

#[test]
fn the_guide_for_rust_works_as_it_stands() {
    run_blocks_of("docs/guides/write-a-plugin-rust.md");
}

#[test]
fn the_guide_for_python_works_as_it_stands() {
    run_blocks_of("docs/guides/write-a-plugin-python.md");
}

#[test]
fn the_guide_to_the_tools_for_authors_works_as_it_stands() {
    run_blocks_of("docs/guides/author-tools.md");
}

#[test]
fn the_guide_for_embedding_works_as_it_stands() {
    run_blocks_of("docs/guides/embed.md");
}
