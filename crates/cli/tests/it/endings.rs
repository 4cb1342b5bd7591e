//! How commands end: exit codes and what is said, each made to happen.

use std::process::Stdio;

use rustix::process::Signal;

use temps_testkit::daemon::{Daemon, Following, signal_process, state, temps};

#[test]
fn a_daemon_that_is_not_there_is_5() {
    let home = tempfile::tempdir().unwrap();
    let output = temps(home.path()).args(["--url", "http://127.0.0.1:1", "plugin", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot reach") && said.contains("temps serve"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn what_makes_no_sense_is_2() {
    let daemon = Daemon::start();
    for arguments in [
        &["plugin", "info"][..],
        &["project", "delete", "shop"],
        &["event", "publish", "a.b", "--data", "[1]"],
        &["event", "publish", "Not A Type"],
        &["plugin", "grant", "hello", "nonsense"],
        &["plugin", "info", ".."],
        &["--url", "nonsense", "plugin", "list"],
        &["serve", "--log", "a=b=c"],
    ] {
        let ended = daemon.run(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn what_is_not_there_is_3() {
    let daemon = Daemon::start();
    for arguments in [
        &["plugin", "info", "nobody"][..],
        &["plugin", "start", "nobody"],
        &["plugin", "logs", "nobody"],
        &["project", "show", "nothing"],
        &["deployment", "show", "999"],
        &["event", "show", "nothing"],
    ] {
        let ended = daemon.run(&[&["--json"], arguments].concat());
        assert_eq!(ended.code, 3, "{arguments:?}: {ended:?}");
        assert_eq!(ended.error()["exit_code"], 3, "{arguments:?}");
    }
}

#[test]
fn a_wrong_token_and_none_are_4() {
    let daemon = Daemon::start();
    assert_eq!(daemon.run(&["--token", "tmp_wrong", "plugin", "list"]).code, 4);
    std::fs::remove_file(state(daemon.home.path(), "admin-token")).unwrap();
    let ended = daemon.run(&["plugin", "list"]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("TEMPS_TOKEN"), "it says what to do: {ended:?}");
}

#[test]
fn what_a_viewer_may_not_do_is_7() {
    let daemon = Daemon::start();
    let token = daemon.json(&["token", "create", "looker"])["secret"].as_str().unwrap().to_owned();
    let ended = daemon.run(&["--json", "--token", &token, "project", "create", "Shop"]);
    assert_eq!(ended.code, 7, "{ended:?}");
    assert_eq!(ended.error()["exit_code"], 7);
}

#[test]
fn a_name_that_is_taken_is_8() {
    let daemon = Daemon::start();
    daemon.json(&["project", "create", "Shop"]);
    let ended = daemon.run(&["project", "create", "Shop"]);
    assert_eq!(ended.code, 8, "{ended:?}");
}

#[test]
fn what_takes_too_long_is_124() {
    let daemon = Daemon::start();
    let ended = daemon.run(&["--timeout", "1", "event", "tail", "--type", "never.happens"]);
    assert_eq!(ended.code, 124, "{ended:?}");
}

#[test]
fn ctrl_c_is_130() {
    let daemon = Daemon::start();
    let mut tail = Following::start(daemon.command(&["event", "tail", "--after", "0"]));
    daemon.json(&["event", "publish", "a.b"]);
    tail.line_with("a.b");
    signal_process(&tail.process, Signal::INT);
    let (code, said) = tail.end();
    assert_eq!(code, 130, "{said}");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let daemon = Daemon::start();
    daemon.json(&["event", "publish", "a.b"]);
    let mut command = daemon.command(&["event", "tail", "--after", "0"]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(process.stdout.take());
    // It notices at its next line.
    daemon.json(&["event", "publish", "a.b"]);
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
}

#[test]
fn quiet_leaves_only_the_data() {
    let daemon = Daemon::start();
    let ended = daemon.run(&["--quiet", "login-link"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 1);
}
