//! A day in each language: a new project, `temps plugin dev` with edits, its tests, and a running daemon that takes it up.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use temps_testkit::daemon::{Daemon, empty_home, eventually, runs};
use temps_testkit::skip;

use super::{Desk, Dev, asked, checkout, edit, has, tool};

/// One language's project: what is edited in it, and how its tests run.
struct Day {
    lang: &'static str,
    name: &'static str,
    more: &'static [&'static str],
    /// The file that is edited, and where its version stands.
    source: &'static str,
    version: &'static str,
    /// What its route answers with, before and after the first edit.
    answer: (&'static str, &'static str),
    /// What it logs, before and after.
    log: (&'static str, &'static str),
    /// What is put at the end of the source so that it does not build, and what the tool says of it.
    slip: (&'static str, &'static str),
    tests: &'static [&'static [&'static str]],
}

const RUST: Day = Day {
    lang: "rust",
    name: "day-rust",
    more: &["--ui"],
    source: "src/main.rs",
    version: "Cargo.toml",
    answer: (r#"json!({ "project": project"#, r#"json!({ "latest": project"#),
    log: (r#""deployed""#, r#""delivered""#),
    slip: ("\nfn broken( {}\n", "src/main.rs"),
    tests: &[&["cargo", "test", "--quiet"]],
};

const PYTHON: Day = Day {
    lang: "python",
    name: "day-python",
    more: &[],
    source: "plugin.py",
    version: "plugin.py",
    answer: (r#"{"project": last_project"#, r#"{"latest": last_project"#),
    log: ("deployed: %s", "delivered: %s"),
    slip: ("\ndef broken(:\n", "plugin.py"),
    tests: &[&["python3", "-m", "unittest"]],
};

const NODE: Day = Day {
    lang: "node",
    name: "day-node",
    more: &["--ui"],
    source: "plugin.ts",
    version: "plugin.ts",
    answer: ("{ project: lastProject", "{ latest: lastProject"),
    log: ("deployed: ${", "delivered: ${"),
    slip: ("\nconst broken = ;\n", "plugin.ts"),
    tests: &[&["npm", "test"]],
};

const GO: Day = Day {
    lang: "go",
    name: "day-go",
    more: &["--ui"],
    source: "main.go",
    version: "main.go",
    answer: (r#"{"project": last"#, r#"{"latest": last"#),
    log: (r#""deployed""#, r#""delivered""#),
    slip: ("\nfunc broken( {}\n", "main.go"),
    tests: &[&["go", "vet", "./..."], &["go", "test", "./..."]],
};

#[test]
fn a_day_in_rust() {
    go_through(&RUST, |_| {});
}

#[test]
fn a_day_in_python() {
    go_through(&PYTHON, |_| {});
}

#[test]
fn a_day_in_node() {
    let modules = checkout().join("sdks/node/node_modules");
    if !has("npm", "--version") || !modules.join(".bin/esbuild").exists() {
        return skip("a_day_in_node", "needs npm, and the Node SDK's packages installed");
    }
    // The packages that the SDK was built with, so that no registry has to be asked.
    go_through(&NODE, |project| link_modules(project, &modules));
}

#[test]
fn a_bundle_is_run_by_what_the_first_line_of_its_source_says() {
    const NAME: &str = "a_bundle_is_run_by_what_the_first_line_of_its_source_says";
    let modules = checkout().join("sdks/node/node_modules");
    if !has("npm", "--version") || !modules.join(".bin/esbuild").exists() {
        return skip(NAME, "needs npm, and the Node SDK's packages installed");
    }
    let desk = Desk::new();
    let project = desk.project("try-bun", "node", &[]);
    link_modules(&project, &modules);
    let source = project.join("plugin.ts");
    let text = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, format!("#!/usr/bin/env bun\n{text}")).unwrap();
    let built = std::fs::read_to_string(desk.build(&project)).unwrap();
    assert!(built.starts_with("#!/usr/bin/env bun\nconst "), "{built:.80}");
}

#[test]
fn a_day_in_go() {
    if !has("go", "version") {
        return skip("a_day_in_go", "needs Go");
    }
    go_through(&GO, |_| {});
}

fn go_through(day: &Day, prepare: impl FnOnce(&Path)) {
    let desk = Desk::new();
    let project = desk.project(day.name, day.lang, day.more);
    prepare(&project);
    develop(day, &desk, &project);
    for line in day.tests {
        tool(&project, line);
    }
    it_works_on_a_daemon(&desk.build(&project), day.name);
}

/// Edits a project while it runs: an edit shows up, one that does not build changes nothing, and its repair shows up.
fn develop(day: &Day, desk: &Desk, project: &Path) {
    let (source, version) = (project.join(day.source), project.join(day.version));
    let has_page = day.more.contains(&"--ui");
    let route = format!("/api/x/{}/last", day.name);
    let page = format!("/api/x/{}/ui/", day.name);
    let mut dev = Dev::start(desk, project, &[]);
    let first = dev.runs("0.1.0");
    dev.type_in("1");
    while !dev.next("log").to_string().contains("deployed") {}
    answers(&dev, &route, r#""project":"My App""#);

    edit(&source, &[day.answer, day.log]);
    edit(&version, &[("0.1.0", "0.2.0")]);
    if has_page {
        edit(&project.join("ui/index.html"), &[("</body>", "<p>edited</p></body>")]);
        std::fs::write(project.join("ui/new.txt"), "a new file").unwrap();
    }
    let second = dev.runs("0.2.0");
    assert_ne!(first, second);
    dev.type_in("1");
    dev.line_with("delivered");
    answers(&dev, &route, r#""latest":"My App""#);
    if has_page {
        assert!(dev.asked(&page).contains("<p>edited</p>"), "{}", dev.asked(&page));
        let new = dev.asked(&format!("{page}new.txt"));
        assert!(new.ends_with("a new file"), "{new}");
    }

    let good = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, good.clone() + day.slip.0).unwrap();
    let failed = dev.next("build_failed");
    assert!(failed.to_string().contains(day.slip.1), "{failed}");
    assert!(runs(second), "the one before runs on");
    answers(&dev, &route, r#""latest":"My App""#);

    std::fs::write(&source, good).unwrap();
    edit(&source, &[(day.answer.1, day.answer.0)]);
    edit(&version, &[("0.2.0", "0.3.0")]);
    let third = dev.runs("0.3.0");
    answers(&dev, &route, r#""project":"""#);
    dev.end();
    assert!(!runs(third), "the plugin is gone");
}

/// Waits until a route answers so; what the plugin does with an event comes a moment after the event.
fn answers(dev: &Dev, route: &str, text: &str) {
    let without_spaces = |answer: String| answer.replace("\": \"", "\":\"");
    eventually(text, || without_spaces(dev.asked(route)).contains(text).then_some(()));
}

/// Drops what was built into a running daemon, lets a project be deployed, and asks the plugin which one. Returns its answer.
pub(super) fn it_works_on_a_daemon(built: &Path, name: &str) -> String {
    let daemon = Daemon::start_in(empty_home(), &[]);
    let plugins = daemon.home.path().join("plugins");
    let copied = Command::new("cp").arg("-r").arg(built).arg(&plugins).status().unwrap();
    assert!(copied.success());
    daemon.wait_for(name, "running");
    daemon.json(&["deployment", "report", "--project", "my-app", "--state", "succeeded"]);
    eventually("the plugin has remembered the project", || {
        let answer = asked(daemon.home.path(), &daemon.url, &format!("/api/x/{name}/last"));
        answer.contains("my-app").then_some(answer)
    })
}

/// What `npm install` does, with packages of the SDK's checkout.
fn link_modules(project: &Path, modules: &Path) {
    use std::os::unix::fs::symlink;
    let own = project.join("node_modules");
    std::fs::create_dir(&own).unwrap();
    for name in ["typescript", "esbuild", "@types", "@esbuild", "undici-types", ".bin"] {
        if modules.join(name).exists() {
            symlink(modules.join(name), own.join(name)).unwrap();
        }
    }
    symlink(checkout().join("sdks/node"), own.join("temps-plugin")).unwrap();
    if !checkout().join("sdks/node/dist/esm/index.js").exists() {
        tool(&checkout().join("sdks/node"), &["node", "scripts/build.js"]);
    }
}

#[test]
fn a_python_project_with_a_page_is_a_directory_and_one_without_is_a_file() {
    let desk = Desk::new();
    let plain: PathBuf = desk.build(&desk.project("try-plain", "python", &[]));
    assert!(plain.is_file(), "{plain:?}");
    let paged = desk.build(&desk.project("try-page", "python", &["--ui"]));
    assert!(paged.join("plugin").is_file() && paged.join("ui/index.html").is_file(), "{paged:?}");
    it_works_on_a_daemon(&paged, "try-page");
}

#[test]
fn what_a_plugin_asks_for_is_compared_with_what_it_does_and_its_traffic_is_recorded() {
    let desk = Desk::new();
    let project = desk.project("lively", "python", &[]);
    // In the project, where each of its lines must not be taken for an edit.
    let recording = project.join("traffic.jsonl");
    let mut dev = Dev::start(&desk, &project, &["--record", recording.to_str().unwrap()]);
    dev.runs("0.1.0");
    dev.type_in("1");
    dev.line_with("deployed: My App");
    dev.type_in("g");
    let wishes = dev.next("wishes");
    assert_eq!(wishes["called"], serde_json::json!(["get_project"]));
    assert_eq!(wishes["denied"], serde_json::json!([]));
    assert_eq!(wishes["unused_methods"], serde_json::json!([]));

    let asks = "get_project\"]),\n        public_paths=[\"/hook\"],";
    let changes = [("0.1.0", "0.2.0"), ("get_project(", "get_environment("), ("get_project\"]),", asks)];
    edit(&project.join("plugin.py"), &changes);
    let granted = dev.next("granted");
    assert_eq!(granted["grants"], serde_json::json!([{"kind": "public_path", "value": "/hook"}]));
    dev.runs("0.2.0");
    dev.type_in("1");
    assert!(dev.line_with("\"what\":\"denied\"").contains("get_environment"));
    dev.type_in("g");
    let wishes = dev.next("wishes");
    assert_eq!(wishes["needed"], granted["grants"]);
    assert_eq!(wishes["denied"], serde_json::json!(["get_environment"]));
    // Typed, it ends like Ctrl-C.
    dev.type_in("q");
    let home = dev.home.clone();
    let (code, said) = dev.lines.end();
    assert_eq!(code, 0, "{said}");
    assert!(!home.exists(), "its home is gone");

    let text = std::fs::read_to_string(recording).unwrap();
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = steps.iter().map(|step| step["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["spawn", "stdout", "stdout"], "{text}");
    assert_eq!(steps[0]["args"][4], "[masked]");
    assert_eq!(kinds.iter().filter(|kind| **kind == "spawn").count(), 2, "one for each edit: {text}");
    for kind in ["http_request", "http_response", "frame", "signal", "exit"] {
        assert!(kinds.contains(&kind), "{kind} is missing: {text}");
    }
    assert!(text.contains("Bearer [masked]"), "{text}");
}
