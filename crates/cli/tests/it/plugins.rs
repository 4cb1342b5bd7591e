//! A real plugin behind a real daemon: seen, operated, fed with events, and never left behind.

use rustix::process::Signal;
use serde_json::Value;
use temps_testkit::daemon::{Daemon, Following, eventually, home_with_hello, put_plugin, runs, state};

use crate::commands::both;

#[test]
fn a_plugin_is_seen_and_operated() {
    let daemon = Daemon::start();
    let info = daemon.wait_for("hello", "running");
    assert!(info["pid"].as_u64().is_some(), "{info}");
    both(&daemon, &["plugin", "list"], "running");
    both(&daemon, &["plugin", "info", "hello"], "deployment.*");
    both(&daemon, &["plugin", "grants", "hello"], "event=deployment.*");
    assert_eq!(daemon.run(&["plugin", "stop", "hello"]).code, 0);
    daemon.wait_for("hello", "stopped");
    assert_eq!(daemon.run(&["plugin", "start", "hello"]).code, 0);
    daemon.wait_for("hello", "running");
    assert_eq!(daemon.run(&["plugin", "debug", "hello"]).code, 0);
    eventually("health checks are suspended", || {
        (daemon.json(&["plugin", "info", "hello"])["health"] == "suspended").then_some(())
    });
    assert_eq!(daemon.run(&["plugin", "debug", "hello", "--off"]).code, 0);
    assert_eq!(daemon.run(&["plugin", "restart", "hello"]).code, 0);
    daemon.wait_for("hello", "running");
    assert_eq!(daemon.run(&["plugin", "disable", "hello"]).code, 0);
    daemon.wait_for("hello", "disabled");
    assert_eq!(daemon.run(&["plugin", "enable", "hello"]).code, 0);
    daemon.wait_for("hello", "running");
}

#[test]
fn grants_are_given_and_taken_back() {
    let daemon = Daemon::start();
    daemon.wait_for("hello", "running");
    let given = daemon.json(&["plugin", "grant", "hello", "method=get_project"]);
    let has = |grants: &Value| {
        grants["given"].as_array().unwrap().iter().any(|grant| grant["value"] == "get_project")
    };
    assert!(has(&given), "{given}");
    let left = daemon.json(&["plugin", "revoke", "hello", "method=get_project"]);
    assert!(!has(&left), "{left}");
    assert_eq!(daemon.run(&["plugin", "revoke", "hello"]).code, 2, "nothing was named");
}

#[test]
fn an_event_reaches_the_plugin_and_shows_in_logs_and_deliveries() {
    let daemon = Daemon::start();
    daemon.wait_for("hello", "running");
    let mut logs = Following::start(daemon.command(&["--json", "plugin", "logs", "hello", "-f"]));
    let reported = daemon.json(&["deployment", "report", "--project", "shop", "--state", "succeeded"]);
    assert_eq!(reported["state"], "succeeded");
    logs.line_with("deployment.succeeded");
    both(&daemon, &["plugin", "logs", "hello"], "deployment.succeeded");
    let settled = eventually("the delivery is settled", || {
        let page = daemon.json(&["delivery", "list", "--plugin", "hello", "--state", "settled"]);
        (!page["items"].as_array()?.is_empty()).then_some(page)
    });
    assert_eq!(settled["items"][0]["plugin"], "hello");
    both(&daemon, &["delivery", "list", "-p", "hello"], "settled");
}

#[test]
fn deliveries_are_shown_repaired_paused_and_replayed() {
    let daemon = Daemon::start();
    daemon.wait_for("hello", "running");
    let since = chrono::Utc::now().to_rfc3339();
    let published = daemon.json(&["event", "publish", "deployment.ready", "--data", "{}"]);
    let (id, seq) = (published["id"].as_str().unwrap(), published["seq"].to_string());
    let settled = |times: usize| {
        eventually("the delivery is settled", || {
            let shown = daemon.run(&["--json", "delivery", "show", &seq, "--plugin", "hello"]);
            let shown: serde_json::Value = serde_json::from_str(&shown.stdout).ok()?;
            let attempts = shown["attempts"].as_array()?.len();
            (attempts == times && shown["delivery"]["state"] == "settled").then_some(shown)
        })
    };
    assert_eq!(settled(1)["delivery"]["event_id"], id);
    both(&daemon, &["delivery", "show", id], "settled");

    // What did it receive and answer between two times?
    let until = (chrono::Utc::now() + chrono::Duration::seconds(1)).to_rfc3339();
    let asked = ["delivery", "list", "--plugin", "hello", "--since", &since, "--until", &until];
    let attempts = daemon.json(&asked);
    assert_eq!(attempts["items"][0]["event_id"], id);
    assert!(attempts["items"][0]["answer"].is_string(), "{attempts}");
    both(&daemon, &asked, id);

    let again = daemon.json(&["delivery", "redeliver", "hello", id]);
    assert_eq!(again["attempts"].as_array().unwrap().len(), 1);
    settled(2);

    let paused = daemon.json(&["delivery", "pause", "hello", "--reason", "to look at it"]);
    assert_eq!(paused["deliveries"]["paused"]["reason"], "to look at it");
    both(&daemon, &["plugin", "info", "hello"], "to look at it");
    both(&daemon, &["plugin", "list"], "to look at it");
    let replayed = daemon.json(&["event", "replay", "--plugin", "hello", "--from-seq", &seq]);
    assert!(replayed["changed"].as_u64().unwrap() >= 1, "{replayed}");
    let resumed = daemon.json(&["delivery", "resume", "hello"]);
    assert!(resumed["deliveries"]["paused"].is_null(), "{resumed}");
    settled(3);

    let not_paused = daemon.run(&["delivery", "resume", "hello"]);
    assert!(not_paused.code != 0 && not_paused.stderr.contains("are not paused"), "{}", not_paused.stderr);
    let nothing = daemon.run(&["delivery", "discard", "hello", id]);
    assert!(nothing.code != 0 && nothing.stderr.contains("nothing to discard"), "{}", nothing.stderr);
    assert_eq!(daemon.json(&["delivery", "redeliver", "hello", "--all-dead"])["changed"], 0);
    assert_eq!(daemon.json(&["delivery", "discard", "hello", "--all-dead"])["changed"], 0);
    assert_eq!(daemon.run(&["delivery", "redeliver", "hello"]).code, 2, "nothing was named");
    assert_eq!(daemon.run(&["event", "replay", "--plugin", "hello"]).code, 2, "no beginning was named");
    let unknown = daemon.run(&["delivery", "pause", "nobody"]);
    assert!(unknown.stderr.contains("there is no plugin named"), "{}", unknown.stderr);
    let kinds = daemon.json(&["audit", "--plugin", "hello", "--kind", "deliveries.*"]);
    let kinds: Vec<_> =
        kinds["items"].as_array().unwrap().iter().map(|entry| entry["kind"].clone()).collect();
    let expected = ["redelivered", "resumed", "replayed", "paused", "redelivered"]
        .map(|kind| format!("deliveries.{kind}"));
    assert!(kinds.len() >= 4, "{kinds:?} instead of {expected:?}");
}

#[test]
fn the_program_launches_plugins_and_takes_them_with_it_when_it_is_killed() {
    let mut daemon = Daemon::start();
    let pid = daemon.wait_for("hello", "running")["pid"].as_u64().unwrap();
    assert!(runs(pid), "the plugin runs as process {pid}");
    daemon.process.kill().unwrap();
    daemon.process.wait().unwrap();
    eventually("the plugin ends with the host", || (!runs(pid)).then_some(()));
}

#[test]
fn sigterm_stops_plugins_first_and_ends_well() {
    let mut daemon = Daemon::start();
    let pid = daemon.wait_for("hello", "running")["pid"].as_u64().unwrap();
    daemon.signal(Signal::TERM);
    let status = daemon.process.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert!(!runs(pid), "nothing of the plugin is left when the daemon has ended");
}

#[test]
fn the_log_is_one_json_object_a_line_and_holds_no_secret() {
    let mut daemon = Daemon::start();
    daemon.wait_for("hello", "running");
    let token = std::fs::read_to_string(state(daemon.home.path(), "admin-token")).unwrap();
    daemon.signal(Signal::TERM);
    daemon.process.wait().unwrap();
    let log = daemon.log();
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not JSON: {line}");
    }
    assert!(!log.is_empty() && !log.contains(token.trim()), "the log holds the admin token");
}

/// An operator who reads nothing but the daemon's log.
#[test]
fn the_daemons_log_says_which_file_was_refused_and_why() {
    let home = home_with_hello();
    std::fs::write(home.path().join("no-plugin"), "#!/bin/sh\necho hi\n").unwrap();
    put_plugin(home.path(), "no-plugin", &home.path().join("no-plugin"));
    let daemon = Daemon::start_in(home, &[]);
    daemon.wait_for("no-plugin", "refused");
    daemon.wait_for("hello", "running");
    // A new file of a plugin that runs.
    put_plugin(daemon.home.path(), "hello", &daemon.home.path().join("no-plugin"));
    let said = |file: &str| {
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains("a file was refused") && line.contains(file));
        line.map(str::to_owned)
    };
    for file in ["plugins/no-plugin", "plugins/hello"] {
        let line = eventually("the log says it", || said(file));
        assert!(line.contains("WARN") && line.contains("expected the manifest line"), "{line}");
    }
    assert_eq!(daemon.json(&["plugin", "info", "hello"])["state"], "running");
}
