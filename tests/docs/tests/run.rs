//! `make run` as a newcomer meets it: two plugins, a demonstration, a message in Slack's place, and an end that leaves
//! nothing.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal};
use temps_testkit::binaries::{built_executable, stand_in_for_cargo};
use temps_testkit::daemon::{Ended, empty_home, eventually, runs, temps};

struct Run {
    home: tempfile::TempDir,
    url: String,
    slack: String,
    process: Child,
    // Kept open: it ends when nobody reads what it says.
    _stdout: BufReader<ChildStdout>,
}

impl Run {
    /// Starts it, and waits until it says what to look at.
    fn start() -> Self {
        let home = empty_home();
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let listen = port.expect("a port can be had").to_string();
        let path =
            format!("{}{}", stand_in_for_cargo(home.path()), std::env::var("PATH").unwrap_or_default());
        let mut process = Command::new("bash")
            .arg("scripts/run.sh")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .env("TEMPS_HOME", home.path())
            .env("TEMPS_LISTEN", &listen)
            .env("PATH", path)
            .env_remove("TEMPS_URL")
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash can be started");
        let mut slack = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        for line in stdout.by_ref().lines().map_while(Result::ok) {
            if line.contains("Slack stand-in") {
                slack = line.split_whitespace().next().unwrap_or_default().to_owned();
            }
            if line.starts_with("Events as they come") {
                break;
            }
        }
        let run = Self { home, url: format!("http://{listen}"), slack, process, _stdout: stdout };
        assert!(!run.slack.is_empty(), "it ended before it said what to look at:\n{}", run.logs());
        run
    }

    fn logs(&self) -> String {
        let log = |name: &str| {
            std::fs::read_to_string(self.home.path().join("logs").join(name)).unwrap_or_default()
        };
        format!("{}\n{}", log("daemon.log"), log("slack-standin.log"))
    }

    fn temps(&self, arguments: &[&str]) -> Ended {
        let mut command = temps(self.home.path());
        command.env("TEMPS_URL", &self.url).args(arguments).output().expect("temps can be started").into()
    }

    fn get(&self, url: &str) -> String {
        let token =
            std::fs::read_to_string(self.home.path().join("state/admin-token")).expect("there is a token");
        let output = Command::new("curl")
            .args(["--silent", "--fail", "--header", &format!("Authorization: Bearer {}", token.trim()), url])
            .output()
            .expect("curl can be started");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn pid_of(&self, plugin: &str) -> u64 {
        self.temps(&["--json", "plugin", "info", plugin]).json()["pid"].as_u64().expect("the plugin runs")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.process), Signal::TERM);
            let _ = self.process.wait();
        }
    }
}

#[test]
fn a_deployment_reaches_slack_and_the_page_and_ctrl_c_leaves_nothing() {
    for (package, name) in [("temps-cli", "temps"), ("temps-testkit", "slack-standin")] {
        let _: PathBuf = built_executable(package, name);
    }
    let mut run = Run::start();
    let list = run.temps(&["plugin", "list"]).stdout;
    assert_eq!(list.matches(" running ").count(), 2, "{list}");
    let report = [
        "deployment",
        "report",
        "--project",
        "bakery",
        "--state",
        "succeeded",
        "--site",
        "http://bread.example",
    ];
    assert_eq!(run.temps(&report).code, 0);
    eventually("Slack's place has the message", || run.get(&run.slack).contains("bakery").then_some(()));
    eventually("hello has the event", || {
        run.get(&format!("{}/api/x/hello/events", run.url)).contains("bread.example").then_some(())
    });
    assert!(run.get(&format!("{}/api/x/hello/ui/", run.url)).contains("<html"), "hello has a page");
    eventually("the demonstration deploys", || {
        let page = run.temps(&["--json", "deployment", "list", "--project", "demo-shop"]);
        (page.code == 0 && !page.json()["items"].as_array()?.is_empty()).then_some(())
    });

    let daemon =
        std::fs::read_to_string(run.home.path().join("logs/daemon.out")).expect("the daemon said something");
    let daemon: serde_json::Value = serde_json::from_str(&daemon).expect("and it was JSON");
    let pids =
        [daemon["pid"].as_u64().expect("its process id"), run.pid_of("hello"), run.pid_of("slack-notifier")];
    rustix::process::kill_process_group(Pid::from_child(&run.process), Signal::INT)
        .expect("it can be interrupted");
    let status = run.process.wait().expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", run.logs());
    for pid in pids {
        assert!(!runs(pid), "process {pid} is left");
    }
    assert!(run.get(&run.slack).is_empty(), "the stand-in is left");
}
