//! The plugins of this project that are in Rust, or in nothing but Python, pass the kit. Those that need an SDK of another
//! language are put through it in that SDK's tests.

use std::path::{Path, PathBuf};

use temps_conformance::{Entry, Options, run};

/// Longest time for one plugin, in milliseconds.
const MOST_MS: u64 = 20_000;

/// The folders in `examples/`, and who puts them through the kit: those that need packages or a build are at hand, built, in the
/// tests of the SDK that they are written with.
const EXAMPLES: [(&str, &str); 8] = [
    ("deployment-board", "sdks/node/test/real-host.test.js"),
    ("embed", "it is a host, and no plugin"),
    ("fastapi", "sdks/python/tests/test_real_host.py"),
    ("minimal-go", "sdks/go/realhost_test.go"),
    ("minimal-node", "sdks/node/test/real-host.test.js"),
    ("minimal-python", "sdks/python/tests/test_real_host.py"),
    ("minimal-rust", "here"),
    ("plain-python", "here"),
];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

async fn passes(plugin: PathBuf, routes: &[&str]) {
    let shown = plugin.display().to_string();
    let routes = routes.iter().map(|&route| route.to_owned()).collect();
    let report = run(&Options { plugin, routes, ..Options::default() }, |_| {}).await;
    let report = report.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let told: Vec<String> = report.entries.iter().filter_map(Entry::explain).collect();
    assert!(report.conformant, "{shown}:\n{}", told.join("\n"));
    assert!(report.took_ms < MOST_MS, "{shown} took {} ms", report.took_ms);
}

#[tokio::test]
async fn the_official_plugins_pass() {
    passes(temps_testkit::binaries::built_binary("hello"), &["/greeting", "/events"]).await;
    passes(temps_testkit::binaries::built_binary("slack-notifier"), &["/settings"]).await;
}

#[tokio::test]
async fn the_examples_that_need_no_packages_pass() {
    passes(temps_testkit::binaries::built_binary("minimal-rust"), &[]).await;
    for script in ["minimal.py", "with-channel.py"] {
        passes(examples().join("plain-python").join(script), &[]).await;
    }
}

#[test]
fn every_example_is_put_through_the_kit_by_somebody() {
    let folders = std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<_> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, EXAMPLES.map(|(name, _)| name));
    for (name, tested) in EXAMPLES.iter().filter(|(_, tested)| tested.starts_with("sdks/")) {
        let text = std::fs::read_to_string(examples().join("..").join(tested)).unwrap();
        let has_kit = text.contains("passes_the_kit") || text.contains("passesTheKit");
        assert!(has_kit && text.contains(name), "{tested} does not put {name} through the kit");
    }
}
