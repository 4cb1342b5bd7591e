//! `temps host test` against the daemon, which keeps every clause that can be checked of a host.

use std::process::Stdio;

use temps_testkit::binaries::built_executable;
use temps_testkit::daemon::{Daemon, Ended, empty_home, state};

/// Longest time for all of it, in milliseconds. Half of it is the wait for a plugin that never says ready.
const MOST_MS: u64 = 300_000;

#[test]
fn the_daemon_passes_the_kit_for_hosts() {
    let daemon = Daemon::start_in(empty_home(), &[]);
    let deploy = || daemon.json(&["deployment", "report", "--project", "my-app", "--state", "succeeded"]);
    deploy();
    let program = built_executable("temps-conformance", "temps-scripted-plugin");
    let junit = state(daemon.home.path(), "junit.xml");
    let mut command = daemon.command(&["--json", "host", "test", "--program"]);
    command.arg(program).arg("--junit").arg(&junit);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Something happens to a deployment while a plugin that wants to know it is there.
    daemon.wait_for("kit-acks", "running");
    deploy();
    let ended: Ended = running.wait_with_output().unwrap().into();
    let report = ended.json();
    let entries = report["entries"].as_array().unwrap();
    let not_passed: Vec<_> = entries.iter().filter(|entry| entry["result"] != "passed").collect();
    assert!(ended.code == 0 && not_passed.is_empty(), "{not_passed:#?}\n{}", daemon.log());
    assert!(report["took_ms"].as_u64().unwrap() < MOST_MS, "{report}");
    assert!(std::fs::read_to_string(junit).unwrap().contains("C-10 channel.always_answers"));
    // What was put there is taken away.
    let plugins = daemon.home.path().join("plugins");
    assert_eq!(std::fs::read_dir(plugins).unwrap().count(), 0);
}

#[test]
fn a_host_that_is_driven_by_commands_is_checked_as_well() {
    let daemon = Daemon::start_in(empty_home(), &[]);
    let program = built_executable("temps-conformance", "temps-scripted-plugin");
    let temps = built_executable("temps-cli", "temps");
    let token = std::fs::read_to_string(state(daemon.home.path(), "admin-token")).unwrap();
    let mut command = daemon.command(&["--json", "host", "test", "--quick", "--clause", "E-7", "--publish"]);
    // The event as one argument of the command that publishes it.
    let publish = "python3 -c 'import json, os, subprocess; e = json.loads(os.environ[\"KIT_EVENT\"]); \
         subprocess.run([os.environ[\"TEMPS\"], \"event\", \"publish\", e[\"event_type\"], \"--data\", json.dumps(e[\"data\"])], check=True)'";
    command.arg(publish).arg("--program").arg(program);
    command.env("TEMPS", temps).env("TEMPS_TOKEN", token.trim());
    let ended: Ended = command.output().unwrap().into();
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = ended.json();
    assert_eq!(report["counts"]["passed"], 3, "{report}");
}
