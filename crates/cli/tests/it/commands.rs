//! Every command, once for people and once for programs.

use serde_json::Value;
use temps_testkit::daemon::{Daemon, Following, temps};

/// Runs a command as text and as JSON, and returns the JSON.
pub(crate) fn both(daemon: &Daemon, arguments: &[&str], text: &str) -> Value {
    let ended = daemon.run(arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    assert!(ended.stdout.contains(text), "{arguments:?} does not show {text:?}: {ended:?}");
    daemon.json(arguments)
}

#[test]
fn projects_and_environments_live_and_end() {
    let daemon = Daemon::start();
    let project = daemon.json(&["project", "create", "My Shop", "--repo", "acme/shop"]);
    assert_eq!((&project["slug"], &project["repo_owner"]), (&"my-shop".into(), &"acme".into()));
    both(&daemon, &["project", "list"], "my-shop");
    both(&daemon, &["project", "show", "my-shop"], "acme/shop");
    let environment = daemon.json(&["environment", "create", "my-shop", "staging", "--branch", "next"]);
    let id = environment["id"].to_string();
    both(&daemon, &["environment", "list", "--project", "my-shop"], "staging");
    both(&daemon, &["environment", "show", &id], "next");
    assert_eq!(daemon.json(&["environment", "delete", &id, "--yes"])["deleted"], environment["id"]);
    let gone = daemon.run(&["project", "delete", "my-shop", "--yes"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (0, "deleted my-shop\n"));
    assert_eq!(daemon.run(&["project", "show", "my-shop"]).code, 3);
}

#[test]
fn a_deployment_is_reported_and_moves_on() {
    let daemon = Daemon::start();
    let report =
        ["deployment", "report", "--project", "shop", "--external-id", "ci-7", "--commit", "a1b2c3d"];
    let first = daemon.json(&report);
    assert_eq!(first["state"], "pending");
    assert_eq!(daemon.json(&report)["id"], first["id"], "the same report again is the same deployment");
    let id = first["id"].to_string();
    both(&daemon, &["deployment", "show", &id], "a1b2c3d");
    both(&daemon, &["deployment", "list", "--project", "shop", "--state", "pending"], "production");
    let moved = daemon.json(&["deployment", "update", &id, "--state", "failed", "--error", "no disk"]);
    assert_eq!((&moved["state"], &moved["error_message"]), (&"failed".into(), &"no disk".into()));
    let waited = daemon.run(&["deployment", "report", "--project", "shop", "--state", "succeeded", "--wait"]);
    assert_eq!(waited.code, 0, "{waited:?}");
    let failed = daemon.run(&["deployment", "report", "--project", "shop", "--state", "failed", "--wait"]);
    assert_eq!(failed.code, 1, "a deployment that failed makes --wait fail: {failed:?}");
}

#[test]
fn events_are_published_listed_and_watched() {
    let daemon = Daemon::start();
    let mut tail = Following::start(
        daemon.command(&["--json", "event", "tail", "--type", "shop.*", "--after", "0", "-n", "2"]),
    );
    let published =
        daemon.json(&["event", "publish", "shop.opened", "--id", "one", "--data", "{\"till\": 3}"]);
    assert_eq!(published["duplicate"], false);
    assert_eq!(daemon.json(&["event", "publish", "shop.opened", "--id", "one"])["duplicate"], true);
    let seen: Value = serde_json::from_str(&tail.line_with("shop.opened")).unwrap();
    assert_eq!((&seen["id"], &seen["data"]["till"]), (&"one".into(), &3.into()));
    both(&daemon, &["event", "show", "one"], "shop.opened");
    assert_eq!(
        both(&daemon, &["event", "list", "-t", "shop.*"], "shop.opened")["items"].as_array().unwrap().len(),
        1
    );
    daemon.json(&["event", "publish", "shop.closed"]);
    tail.line_with("shop.closed");
    assert_eq!(tail.end().0, 0, "-n ends the watch");
}

#[test]
fn tokens_links_audit_and_versions_are_shown() {
    let daemon = Daemon::start();
    let created = daemon.json(&["token", "create", "ci", "--role", "viewer", "--days", "30"]);
    let secret = created["secret"].as_str().unwrap();
    let as_viewer = daemon.run(&["--token", secret, "project", "list"]);
    assert_eq!(as_viewer.code, 0, "{as_viewer:?}");
    let list = both(&daemon, &["token", "list"], "viewer");
    assert!(!list.to_string().contains(secret), "the list shows no secret");
    let id = created["token"]["id"].to_string();
    assert_eq!(daemon.json(&["token", "revoke", &id])["revoked"], created["token"]["id"]);
    assert_eq!(daemon.run(&["--token", secret, "project", "list"]).code, 4);
    both(&daemon, &["login-link"], "/login?code=");
    both(&daemon, &["audit", "--limit", "5"], "KIND");
    both(&daemon, &["version"], env!("CARGO_PKG_VERSION"));
    both(&daemon, &["doctor"], "is ready");
}

#[test]
fn completions_and_help_exist_for_every_shell_and_command() {
    let daemon_free = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = temps(daemon_free.path()).args(["completions", shell]).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{shell}");
    }
    for command in [
        "serve",
        "plugin",
        "project",
        "environment",
        "deployment",
        "event",
        "delivery",
        "token",
        "audit",
        "login-link",
        "doctor",
        "version",
        "completions",
    ] {
        let output = temps(daemon_free.path()).args(["help", command]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Usage: temps"), "{command}: {text}");
    }
}
