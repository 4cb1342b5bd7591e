//! `temps plugin new|build|check|dev`: what an author does, from nothing to a plugin that runs on a real daemon.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use temps_testkit::daemon::{Ended, Following, signal_process, temps};

mod building;
mod checking;
mod debugging;
mod developing;
mod platform;
mod terminal;

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

// ---- dev

/// `temps plugin dev` in a project, and what it said first.
pub(crate) struct Dev {
    lines: Following,
    home: PathBuf,
    url: String,
}

impl Dev {
    /// Starts it, and waits until its platform is there.
    pub(crate) fn start(desk: &Desk, project: &Path, more: &[&str]) -> Self {
        let mut command = desk.temps();
        command.args(["--json", "--quiet", "plugin", "dev"]).arg(project).args(more).stdin(Stdio::piped());
        let mut lines = Following::start(command);
        let started: Value = serde_json::from_str(&lines.line_with("\"what\":\"started\"")).unwrap();
        let text = |key: &str| started[key].as_str().unwrap().to_owned();
        Self { lines, home: text("home").into(), url: text("url") }
    }

    /// The next line of this kind.
    pub(crate) fn next(&mut self, what: &str) -> Value {
        serde_json::from_str(&self.lines.line_with(&format!("\"what\":\"{what}\""))).unwrap()
    }

    /// The next line that holds a text.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        self.lines.line_with(text)
    }

    /// Waits until this version of the plugin runs; returns its process.
    fn runs(&mut self, version: &str) -> u64 {
        let state: Value = serde_json::from_str(&self.line_with("\"state\":\"running\"")).unwrap();
        let ready = self.next("ready");
        assert_eq!(ready["version"], version, "{ready}");
        state["pid"].as_u64().unwrap()
    }

    pub(crate) fn type_in(&mut self, line: &str) {
        use std::io::Write;
        writeln!(self.lines.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// A command against its platform, as its first lines say.
    fn command(&self, arguments: &[&str]) -> Ended {
        run(temps(&self.home).arg("--json").args(arguments))
    }

    /// Asks a route of the platform.
    pub(crate) fn asked(&self, path: &str) -> String {
        asked(&self.home, &self.url, path)
    }

    /// Ends it as Ctrl-C does; nothing may stay behind.
    pub(crate) fn end(self) {
        signal_process(&self.lines.process, Signal::INT);
        let (code, said) = self.lines.end();
        assert_eq!(code, 0, "{said}");
        assert!(!self.home.exists(), "its home is gone");
    }
}

/// Asks a route of a daemon with the token of its home.
pub(crate) fn asked(home: &Path, url: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let token = std::fs::read_to_string(home.join("state/admin-token")).unwrap();
    let address = url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let token = token.trim();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Changes a file of a project; what is replaced has to be there.
fn edit(file: &Path, changes: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(file).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{} has no {from:?}", file.display());
        text = text.replace(from, to);
    }
    std::fs::write(file, text).unwrap();
}
