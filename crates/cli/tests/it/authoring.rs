//! `temps plugin new|build|check|dev`: what an author does, from nothing to a plugin that runs on a real daemon.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use temps_testkit::daemon::{Daemon, Ended, Following, empty_home, eventually, runs, signal_process, temps};
use temps_testkit::skip;

/// A place for projects, with the SDKs of this checkout.
pub(crate) struct Desk {
    pub(crate) place: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap() }
    }

    /// The `temps` command with what the tools of languages need of this process's environment.
    pub(crate) fn temps(&self) -> Command {
        with_tools(temps(self.place.path()))
    }

    /// Makes a project, and returns its directory.
    pub(crate) fn project(&self, name: &str, lang: &str, more: &[&str]) -> PathBuf {
        let directory = self.place.path().join(name);
        let mut command = self.temps();
        command.args(["--json", "plugin", "new", name, "--lang", lang, "--sdk-path"]).arg(checkout());
        let ended = run(command.arg("--dir").arg(&directory).args(more));
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.json()["language"], lang);
        directory
    }

    /// Builds a project quickly, and returns what was built.
    pub(crate) fn build(&self, project: &Path) -> PathBuf {
        let ended = run(self.temps().args(["--json", "plugin", "build", "--debug"]).arg(project));
        assert_eq!(ended.code, 0, "{ended:?}");
        PathBuf::from(ended.json()["path"].as_str().unwrap())
    }
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Gives a command PATH and homes of tools, and cargo this build's directory, profile and packages, so that nothing that was
/// compiled already is compiled again, and nothing is fetched.
fn with_tools(mut command: Command) -> Command {
    for name in
        ["PATH", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "GOCACHE", "GOPATH", "npm_config_cache"]
    {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    let program = std::env::current_exe().unwrap();
    // target/debug/deps/it-hash
    let target = program.ancestors().nth(3).unwrap();
    command.env("CARGO_TARGET_DIR", target).env("CARGO_NET_OFFLINE", "true");
    command
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        .env("CARGO_PROFILE_TEST_DEBUG", "line-tables-only");
    command
}

pub(crate) fn run(command: &mut Command) -> Ended {
    command.stdin(Stdio::null()).output().unwrap().into()
}

/// Whether a tool can be started here.
fn has(tool: &str, argument: &str) -> bool {
    let mut command = with_tools(Command::new(tool));
    command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a tool in a project, which must succeed.
fn tool(project: &Path, line: &[&str]) {
    let ended = run(with_tools(Command::new(line[0])).args(&line[1..]).current_dir(project));
    assert_eq!(ended.code, 0, "{line:?}: {ended:?}");
}

/// Drops what was built into a running daemon, lets a project be deployed, and asks the plugin which one.
fn it_works_on_a_daemon(built: &Path, name: &str) {
    let daemon = Daemon::start_in(empty_home(), &[]);
    let plugins = daemon.home.path().join("plugins");
    let copied = Command::new("cp").arg("-r").arg(built).arg(&plugins).status().unwrap();
    assert!(copied.success());
    daemon.wait_for(name, "running");
    daemon.json(&["deployment", "report", "--project", "my-app", "--state", "succeeded"]);
    eventually("the plugin has remembered the project", || {
        asked(&daemon, &format!("/api/x/{name}/last")).contains("my-app").then_some(())
    });
}

fn asked(daemon: &Daemon, path: &str) -> String {
    use std::io::{Read, Write};
    let token = std::fs::read_to_string(daemon.home.path().join("state/admin-token")).unwrap();
    let address = daemon.url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let token = token.trim();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_new_rust_project_is_built_tested_and_works_on_a_daemon() {
    let desk = Desk::new();
    let project = desk.project("try-rust", "rust", &["--ui"]);
    tool(&project, &["cargo", "test", "--quiet"]);
    it_works_on_a_daemon(&desk.build(&project), "try-rust");
}

#[test]
fn a_new_python_project_is_tested_built_to_one_file_and_works_on_a_daemon() {
    let desk = Desk::new();
    let project = desk.project("try-python", "python", &[]);
    tool(&project, &["python3", "-m", "unittest"]);
    let built = desk.build(&project);
    assert!(built.is_file(), "{built:?}");
    it_works_on_a_daemon(&built, "try-python");
}

#[test]
fn a_new_python_project_with_a_page_is_built_to_a_directory_and_works_on_a_daemon() {
    let desk = Desk::new();
    let project = desk.project("try-page", "python", &["--ui"]);
    let built = desk.build(&project);
    assert!(built.join("plugin").is_file() && built.join("ui/index.html").is_file(), "{built:?}");
    it_works_on_a_daemon(&built, "try-page");
}

#[test]
fn a_new_node_project_is_tested_built_to_one_file_and_works_on_a_daemon() {
    const NAME: &str = "a_new_node_project_is_tested_built_to_one_file_and_works_on_a_daemon";
    let modules = checkout().join("sdks/node/node_modules");
    if !has("npm", "--version") || !modules.join(".bin/esbuild").exists() {
        return skip(NAME, "needs npm, and the Node SDK's packages installed");
    }
    let desk = Desk::new();
    let project = desk.project("try-node", "node", &[]);
    // The packages that the SDK was built with, so that no registry has to be asked.
    link_modules(&project, &modules);
    tool(&project, &["npm", "test"]);
    let built = desk.build(&project);
    assert!(built.is_file(), "{built:?}");
    it_works_on_a_daemon(&built, "try-node");
}

#[test]
fn a_new_go_project_with_a_page_is_tested_built_to_one_file_and_works_on_a_daemon() {
    const NAME: &str = "a_new_go_project_with_a_page_is_tested_built_to_one_file_and_works_on_a_daemon";
    if !has("go", "version") {
        return skip(NAME, "needs Go");
    }
    let desk = Desk::new();
    let project = desk.project("try-go", "go", &["--ui"]);
    tool(&project, &["go", "vet", "./..."]);
    tool(&project, &["go", "test", "./..."]);
    let built = desk.build(&project);
    assert!(built.is_file(), "{built:?}");
    it_works_on_a_daemon(&built, "try-go");
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
fn a_project_is_never_made_over_something_or_under_a_name_that_no_plugin_may_have() {
    let desk = Desk::new();
    let project = desk.project("once", "python", &[]);
    std::fs::write(project.join("plugin.py"), "mine").unwrap();
    let again = run(desk.temps().args(["plugin", "new", "once", "--lang", "rust", "--dir"]).arg(&project));
    assert_eq!(again.code, 8, "{again:?}");
    assert_eq!(std::fs::read_to_string(project.join("plugin.py")).unwrap(), "mine");
    for name in ["Upper", "temps", "a_b", "-a", "../a"] {
        let refused = run(desk.temps().args(["plugin", "new", "--lang", "rust", "--", name]));
        assert_eq!(refused.code, 2, "{name}: {refused:?}");
    }
    let missing =
        run(desk.temps().args(["plugin", "new", "other", "--lang", "rust", "--sdk-path", "/nowhere"]));
    assert_eq!(missing.code, 3, "{missing:?}");
    let left: Vec<_> =
        std::fs::read_dir(desk.place.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["once"]);
}

#[test]
fn a_missing_tool_is_named_with_where_it_comes_from() {
    let desk = Desk::new();
    let project = desk.project("lonely", "python", &[]);
    let ended = run(desk.temps().env("PATH", "/nowhere").args(["plugin", "build"]).arg(&project));
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("python3 is needed") && ended.stderr.contains("install Python"),
        "{ended:?}"
    );
    assert!(!project.join("dist/lonely").exists());
}

// ---- check

/// A plugin that prints a line and waits.
fn printing(directory: &Path, name: &str, line: &str, mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\necho '{line}'\nexec sleep 60\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn check_finds_each_planted_problem_and_leaves_a_good_plugin_alone() {
    let desk = Desk::new();
    let place = desk.place.path();
    let manifest = |more: &str| format!(r#"{{"type":"manifest","name":"it","version":"1.0.0"{more}}}"#);
    let good = r#","description":"d","health_path":"/h","permissions":{},"egress":[]"#;
    let cases = [
        (manifest(good), 0o755, 0, None),
        (manifest(good), 0o644, 1, Some("not_executable")),
        (manifest(good), 0o777, 1, Some("not_safe")),
        (manifest(&format!(r#"{good},"evnets":["a.b"]"#)), 0o755, 0, Some("unknown_field")),
        (manifest(&format!(r#"{good},"events":["*"]"#)), 0o755, 0, Some("events_too_wide")),
        (manifest(&format!(r#"{good},"public_paths":["/hook"]"#)), 0o755, 0, Some("needs_grants")),
        (manifest(&format!(r#"{good},"config":{{"type":5}}"#)), 0o755, 1, Some("refused")),
        (
            manifest(&format!(
                r#"{good},"nav":[{{"label":"a","icon":"b","section":"platform","path":"x","order":1}}]"#
            )),
            0o755,
            1,
            Some("refused"),
        ),
        (manifest(""), 0o755, 0, Some("egress_too_wide")),
        (manifest(good).replace(r#""it""#, r#""temps""#), 0o755, 1, Some("refused")),
        (manifest(good).replace(r#""it""#, r#""other""#), 0o755, 0, Some("name_differs")),
        ("starting up".to_owned(), 0o755, 1, Some("printed_first")),
    ];
    for (line, mode, code, finding) in cases {
        let path = printing(place, "it", &line, mode);
        let ended = run(desk.temps().args(["--json", "plugin", "check"]).arg(&path));
        assert_eq!(ended.code, code, "{line}: {ended:?}");
        let report = ended.json();
        let codes: Vec<_> =
            report["findings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
        match finding {
            Some(finding) => assert!(codes.contains(&finding), "{line}: {ended:?}"),
            None => assert!(codes.is_empty(), "{line}: {ended:?}"),
        }
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn check_looks_at_what_a_project_is_built_to() {
    let desk = Desk::new();
    let project = desk.project("tidy", "python", &[]);
    let ended = run(desk.temps().args(["--json", "plugin", "check"]).arg(&project));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["plugin"], "tidy 0.1.0");
    assert_eq!(ended.json()["findings"], serde_json::json!([]), "{ended:?}");
}

// ---- dev

pub(crate) fn dev(desk: &Desk, project: &Path, more: &[&str]) -> Following {
    let mut command = desk.temps();
    command.args(["--json", "--quiet", "plugin", "dev"]).arg(project).args(more).stdin(Stdio::piped());
    Following::start(command)
}

pub(crate) fn type_in(dev: &mut Following, line: &str) {
    use std::io::Write;
    writeln!(dev.process.stdin.as_mut().unwrap(), "{line}").unwrap();
}

#[test]
fn an_edit_shows_up_events_can_be_sent_and_nothing_stays_behind() {
    let desk = Desk::new();
    let project = desk.project("lively", "python", &[]);
    let recording = desk.place.path().join("traffic.jsonl");
    let mut dev = dev(&desk, &project, &["--record", recording.to_str().unwrap()]);
    let started: Value = serde_json::from_str(&dev.line_with("\"what\":\"started\"")).unwrap();
    let home = PathBuf::from(started["home"].as_str().unwrap());
    assert!(dev.line_with("\"what\":\"ready\"").contains("\"version\":\"0.1.0\""));

    type_in(&mut dev, "1");
    dev.line_with("deployed: My App");
    type_in(&mut dev, "g");
    let wishes: Value = serde_json::from_str(&dev.line_with("\"what\":\"wishes\"")).unwrap();
    assert_eq!(wishes["denied"], serde_json::json!([]));
    assert_eq!(wishes["unused_methods"], serde_json::json!([]));

    let source = std::fs::read_to_string(project.join("plugin.py")).unwrap();
    let edited = source.replace("0.1.0", "0.2.0").replace("get_project(", "get_environment(");
    std::fs::write(project.join("plugin.py"), edited).unwrap();
    let state: Value = serde_json::from_str(&dev.line_with("\"state\":\"running\"")).unwrap();
    let pid = state["pid"].as_u64().unwrap();
    assert!(dev.line_with("\"what\":\"ready\"").contains("\"version\":\"0.2.0\""));
    type_in(&mut dev, "1");
    assert!(dev.line_with("\"what\":\"denied\"").contains("get_environment"));

    // An edit that does not build leaves the plugin as it is, and says why.
    std::fs::rename(project.join("plugin.py"), project.join("elsewhere.py")).unwrap();
    dev.line_with("\"what\":\"build_failed\"");

    assert!(runs(pid), "the plugin runs on");
    signal_process(&dev.process, Signal::INT);
    let (code, said) = dev.end();
    assert_eq!(code, 0, "{said}");
    assert!(!home.exists(), "its home is gone");
    assert!(!runs(pid), "the plugin is gone");

    let text = std::fs::read_to_string(recording).unwrap();
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = steps.iter().map(|step| step["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["spawn", "stdout", "stdout"], "{text}");
    assert_eq!(steps[0]["args"][4], "[masked]");
    for kind in ["http_request", "http_response", "frame", "signal", "exit"] {
        assert!(kinds.contains(&kind), "{kind} is missing: {text}");
    }
    assert!(text.contains("Bearer [masked]"), "{text}");
}

#[test]
fn the_simulated_platform_is_what_its_file_says_also_after_an_edit() {
    let desk = Desk::new();
    let project = desk.project("placed", "python", &[]);
    let mut dev = dev(&desk, &project, &[]);
    let started: Value = serde_json::from_str(&dev.line_with("\"what\":\"started\"")).unwrap();
    dev.line_with("\"what\":\"ready\"");
    let world = project.join("temps-dev.toml");
    let sample = std::fs::read_to_string(&world).unwrap();
    std::fs::write(&world, sample + "\n[[project]]\nslug = \"second\"\n").unwrap();
    assert!(dev.line_with("project.created").contains("\"what\":\"published\""));
    let home = Path::new(started["home"].as_str().unwrap());
    let listed = run(temps(home).args(["--json", "project", "list"]));
    let names: Vec<Value> =
        listed.json()["items"].as_array().unwrap().iter().map(|one| one["slug"].clone()).collect();
    assert!(names.contains(&"my-app".into()) && names.contains(&"second".into()), "{names:?}");
    std::fs::write(&world, "[[project]]\nslg = 1\n").unwrap();
    assert!(dev.line_with("\"what\":\"problem\"").contains("temps-dev.toml"));
    signal_process(&dev.process, Signal::TERM);
    assert_eq!(dev.end().0, 0);
}
