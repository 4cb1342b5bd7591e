//! A real debugger, attached from outside of the sandbox to the process that is shown. It holds a plugin for longer than any
//! deadline, and the plugin goes on as the same process.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use temps_testkit::binaries::built_executable;
use temps_testkit::daemon::{Daemon, empty_home, eventually, put_plugin, runs};
use temps_testkit::skip;

use super::{Desk, Dev, asked, checkout, has};

/// A debugger that holds a process until it is told to let go.
struct Debugger {
    gdb: Child,
    pid: u64,
}

impl Debugger {
    /// Attaches, and waits until the process stands still.
    fn attach(pid: u64) -> Self {
        let mut command = Command::new("gdb");
        command.args(["-nx", "-q", "-p", &pid.to_string()]).env("DEBUGINFOD_URLS", "");
        let gdb = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let debugger = Self { gdb, pid };
        eventually("the debugger holds the process", || (state(pid) == 't').then_some(()));
        debugger
    }

    /// Lets the process go on by itself.
    fn let_go(mut self) {
        let stdin = self.gdb.stdin.as_mut().unwrap();
        write!(stdin, "detach\nquit\n").unwrap();
        assert!(self.gdb.wait().unwrap().success());
        assert_ne!(state(self.pid), 't');
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        let _ = self.gdb.kill();
        let _ = self.gdb.wait();
    }
}

/// The letter of a process's state.
fn state(pid: u64) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('-')
}

fn may_trace() -> bool {
    has("gdb", "--version") && rustix::process::geteuid().is_root()
}

#[test]
fn a_debugger_holds_a_plugin_of_a_daemon_beyond_its_deadlines_without_anybody_being_told() {
    const NAME: &str =
        "a_debugger_holds_a_plugin_of_a_daemon_beyond_its_deadlines_without_anybody_being_told";
    if !may_trace() {
        return skip(NAME, "needs gdb, and root to attach it");
    }
    let home = empty_home();
    let settings = "[health]\ninterval = \"100ms\"\ntimeout = \"500ms\"\nfailures = 2\n";
    std::fs::write(home.path().join("temps.toml"), settings).unwrap();
    put_plugin(home.path(), "hello", &built_executable("hello", "hello"));
    put_plugin(home.path(), "plain-python", &checkout().join("examples/plain-python/minimal.py"));
    let daemon = Daemon::start_in(home, &[]);
    let pid_of = |name: &str| daemon.wait_for(name, "running")["pid"].as_u64().unwrap();
    let (held, stopped) = (pid_of("hello"), pid_of("plain-python"));

    let debugger = Debugger::attach(held);
    // The other one stands still as well, without a debugger. That it was ended for it is the measure of the time.
    kill_process(Pid::from_raw(i32::try_from(stopped).unwrap()).unwrap(), Signal::STOP).unwrap();
    eventually("a plugin that stands still is replaced", || {
        let info = daemon.json(&["plugin", "info", "plain-python"]);
        (info["state"] == "running" && info["pid"] != stopped).then_some(())
    });
    eventually("nobody judges the health of the one that is held", || {
        (daemon.json(&["plugin", "info", "hello"])["health"] == "suspended").then_some(())
    });
    assert_eq!(state(held), 't');
    let info = daemon.json(&["plugin", "info", "hello"]);
    assert_eq!((info["state"].as_str(), info["pid"].as_u64()), (Some("running"), Some(held)), "{info}");

    debugger.let_go();
    eventually("its health is asked for again", || {
        (daemon.json(&["plugin", "info", "hello"])["health"] == "ok").then_some(())
    });
    assert_eq!(pid_of("hello"), held);
    let answer = asked(daemon.home.path(), &daemon.url, "/api/x/hello/events");
    assert!(answer.contains(" 200 "), "{answer}");
}

#[test]
fn with_debug_wait_a_held_plugin_is_asked_nothing_and_handles_its_event_when_it_goes_on() {
    const NAME: &str = "with_debug_wait_a_held_plugin_is_asked_nothing_and_handles_its_event_when_it_goes_on";
    if !may_trace() {
        return skip(NAME, "needs gdb, and root to attach it");
    }
    let desk = Desk::new();
    let project = desk.project("held", "python", &[]);
    let mut dev = Dev::start(&desk, &project, &["--debug-wait", "--all"]);
    let pid = dev.runs("0.1.0");
    let health = |dev: &Dev| dev.command(&["plugin", "info", "held"]).json()["health"].clone();
    eventually("its health is not asked for", || (health(&dev) == "suspended").then_some(()));

    let debugger = Debugger::attach(pid);
    dev.type_in("1");
    assert!(dev.line_with("\"type\\\":\\\"event\\\"").contains("deployment.succeeded"));
    assert_eq!(health(&dev), "suspended");
    assert_eq!(state(pid), 't', "the event waits with the plugin");
    debugger.let_go();
    dev.line_with("deployed: My App");
    assert_eq!(dev.command(&["plugin", "info", "held"]).json()["pid"], pid);
    let answer = dev.asked("/api/x/held/last");
    assert!(answer.contains("My App"), "{answer}");
    dev.end();
    assert!(!runs(pid));
}
