//! A real daemon for one test: the `temps` program in a home of its own, and the way to run commands against it.
//!
//! It knows `temps` as a program only, never as a crate. Everything here panics with what was seen when something
//! fails, because only tests use it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::binaries::built_executable;

/// How long anything may take before a test gives up on it. Generous: machines that run tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks at something that no event tells of.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A running daemon. It is ended when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    /// Its settings, state and plugins.
    pub home: tempfile::TempDir,
    /// Where it listens.
    pub url: String,
    /// The link that signs one browser in.
    pub login_url: String,
    /// Its process.
    pub process: Child,
    /// Who it and the commands against it run as; `None` for the test's own user.
    user: Option<u32>,
    // Kept open, so that the daemon never writes into a closed pipe.
    _stdout: BufReader<ChildStdout>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ended {
    /// The one JSON document on stdout.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON document ({error}): {self:?}"))
    }

    /// The failure on stderr, as `--json` gives it.
    #[must_use]
    pub fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        let value: Value =
            serde_json::from_str(last).unwrap_or_else(|_| panic!("stderr is not JSON: {self:?}"));
        value["error"].clone()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }
}

/// An empty home directory.
#[must_use]
pub fn empty_home() -> tempfile::TempDir {
    // In /tmp by name, because a socket's path has at most 107 bytes and TMPDIR may be long.
    tempfile::Builder::new().prefix("temps-").tempdir_in("/tmp").expect("a directory can be made")
}

/// A home directory with the plugin `hello`.
#[must_use]
pub fn home_with_hello() -> tempfile::TempDir {
    let home = empty_home();
    put_plugin(home.path(), "hello", &built_executable("hello", "hello"));
    home
}

/// Puts an executable into a home's plugins directory, whole or not at all.
pub fn put_plugin(home: &Path, name: &str, program: &Path) {
    let directory = home.join("plugins");
    std::fs::create_dir_all(&directory).expect("the plugins directory can be made");
    let hidden = directory.join(format!(".{name}"));
    std::fs::copy(program, &hidden).expect("the plugin can be copied");
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    std::fs::rename(hidden, directory.join(name)).expect("it can be put in place");
}

/// The path of a file in a home's state.
#[must_use]
pub fn state(home: &Path, file: &str) -> PathBuf {
    home.join("state").join(file)
}

/// The `temps` command, with nothing of this process's environment that could steer it.
#[must_use]
pub fn temps(home: &Path) -> Command {
    temps_as(home, None)
}

fn temps_as(home: &Path, user: Option<u32>) -> Command {
    let mut command = match user {
        None => Command::new(built_executable("temps-cli", "temps")),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]);
            command.arg(home.join("temps"));
            command
        }
    };
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", home).env("TEMPS_HOME", home);
    command.stdin(Stdio::null());
    command
}

/// Makes a user the owner of a directory and everything in it.
fn give(directory: &Path, user: u32) {
    for entry in std::fs::read_dir(directory).expect("the home can be read").flatten() {
        if entry.path().is_dir() {
            give(&entry.path(), user);
        } else {
            std::os::unix::fs::chown(entry.path(), Some(user), Some(user)).expect("files can be given away");
        }
    }
    std::os::unix::fs::chown(directory, Some(user), Some(user)).expect("directories can be given away");
}

impl Daemon {
    /// Starts a daemon with `hello`, and waits until it answers.
    #[must_use]
    pub fn start() -> Self {
        Self::start_in(home_with_hello(), &[])
    }

    /// Starts a daemon in a home, with further arguments, and waits until it answers.
    #[must_use]
    pub fn start_in(home: tempfile::TempDir, arguments: &[&str]) -> Self {
        Self::launch(home, None, arguments)
    }

    /// Starts a daemon as another user, for a test that is root. The home and what is in it is given to that user.
    #[must_use]
    pub fn start_as(user: u32, home: tempfile::TempDir, arguments: &[&str]) -> Self {
        let program = home.path().join("temps");
        std::fs::copy(built_executable("temps-cli", "temps"), &program).expect("temps can be copied");
        give(home.path(), user);
        Self::launch(home, Some(user), arguments)
    }

    fn launch(home: tempfile::TempDir, user: Option<u32>, arguments: &[&str]) -> Self {
        let log = std::fs::File::create(home.path().join("daemon.log")).expect("the log can be made");
        let mut command = temps_as(home.path(), user);
        command.args(["--json", "serve", "--log-format", "json"]);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut process =
            command.args(arguments).stdout(Stdio::piped()).stderr(log).spawn().expect("temps can be started");
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("stdout can be read");
        let Ok(started) = serde_json::from_str::<Value>(&line) else {
            let log = std::fs::read_to_string(home.path().join("daemon.log")).unwrap_or_default();
            panic!("the daemon did not start: {line:?}\n{log}");
        };
        let text = |key: &str| started[key].as_str().expect("the daemon says where it is").to_owned();
        let (url, login_url) = (text("url"), text("login_url"));
        Self { home, url, login_url, process, user, _stdout: stdout }
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("daemon.log")).expect("the daemon has a log")
    }

    /// A command against this daemon, not yet run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = temps_as(self.home.path(), self.user);
        command.env("TEMPS_URL", &self.url).args(arguments);
        command
    }

    /// Runs a command against this daemon.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().expect("temps can be started").into()
    }

    /// Runs a command that must succeed, and returns what it gave as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[&["--json"], arguments].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.json()
    }

    /// What it answers to `GET path` of the admin: the status, and the body where that is JSON.
    #[must_use]
    pub fn get_as_admin(&self, path: &str) -> (u16, Value) {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let token =
            std::fs::read_to_string(state(self.home.path(), "admin-token")).expect("there is a token");
        let mut stream = std::net::TcpStream::connect(address).expect("the daemon listens");
        let token = token.trim();
        // Version 1.0, so that the answer is one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n")
            .expect("the daemon reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the daemon answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Waits until a plugin is in a state, and returns what the daemon says of it then.
    pub fn wait_for(&self, plugin: &str, state: &str) -> Value {
        let mut last = String::new();
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let ended = self.run(&["--json", "plugin", "info", plugin]);
            if ended.code == 0 && ended.json()["state"] == state {
                return ended.json();
            }
            last = ended.stdout + &ended.stderr;
            std::thread::sleep(LOOK_INTERVAL);
        }
        panic!("{plugin} did not become {state} in {PATIENCE:?}: {last}\n{}", self.log());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal_process(&self.process, signal);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            signal_process(&self.process, Signal::TERM);
            let _ = self.process.wait();
        }
    }
}

/// Sends a signal to a child that was not waited for yet.
pub fn signal_process(process: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_child(process);
    rustix::process::kill_process(pid, signal).expect("the process can be signalled");
}

/// Asks again and again until there is an answer. For what no event tells of.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "not true after {PATIENCE:?}: {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Whether a process still runs. A zombie does not.
#[must_use]
pub fn runs(pid: u64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which stands in parentheses and may hold anything.
    status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// A command that runs until it is ended, with its lines. It is killed when it is dropped.
#[derive(Debug)]
pub struct Following {
    /// Its process.
    pub process: Child,
    lines: BufReader<ChildStdout>,
}

impl Following {
    /// Starts the command.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("temps can be started");
        let lines = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Self { process, lines }
    }

    /// The next line that holds `text`.
    pub fn line_with(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let read = self.lines.read_line(&mut line).expect("the output can be read");
            assert!(read > 0, "the output ended before a line with {text:?}");
        }
        line
    }

    /// Waits for the end, and returns the exit code (-1 for a signal) and what was said on stderr.
    pub fn end(mut self) -> (i32, String) {
        let status = self.process.wait().expect("the process ends");
        let mut said = String::new();
        if let Some(mut stderr) = self.process.stderr.take() {
            stderr.read_to_string(&mut said).expect("stderr can be read");
        }
        (status.code().unwrap_or(-1), said)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
