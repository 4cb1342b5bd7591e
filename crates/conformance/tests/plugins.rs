//! Every plugin of this project passes the kit: the official ones, and each example in whatever language it is written.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use temps_conformance::{Entry, Options, run};

/// Longest time for one plugin, in milliseconds.
const MOST_MS: u64 = 20_000;

/// Where builds of an example put what can be dropped into a plugins directory, beside the folder itself.
const PRODUCTS: [&str; 3] = ["plugin", "dist/plugin", "build/plugin"];

/// The plugins in `examples/`: executable scripts, plugin directories, and what a build has left.
fn examples() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let folders = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    for folder in folders.filter(|path| path.is_dir()) {
        let products = PRODUCTS.iter().map(|product| folder.join(product)).filter(|path| is_executable(path));
        let before = found.len();
        // A directory is a plugin as a whole, with everything beside its executable.
        found.extend(products.filter_map(|path| path.parent().map(Path::to_owned)).take(1));
        if found.len() == before {
            let files = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
            found.extend(files.filter(|path| is_executable(path) && is_script(path)));
        }
    }
    found.sort();
    found
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn is_script(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"#!"))
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
    passes(temps_testkit::built_binary("hello"), &["/greeting", "/events"]).await;
    passes(temps_testkit::built_binary("slack-notifier"), &["/settings"]).await;
}

#[tokio::test]
async fn every_example_passes() {
    passes(temps_testkit::built_binary("minimal-rust"), &[]).await;
    let examples = examples();
    assert!(examples.iter().any(|path| path.ends_with("plain-python/minimal.py")), "{examples:?}");
    for example in examples {
        passes(example, &[]).await;
    }
}
