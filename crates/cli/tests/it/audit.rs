//! The audit trail at the command line: each question is one command, and what was changed is found.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use temps_testkit::daemon::{Daemon, Ended, Following, eventually, home_with_hello, state, temps};

use crate::commands::both;

/// A daemon that measures what plugins use each second.
fn measuring() -> Daemon {
    let home = home_with_hello();
    std::fs::write(home.path().join("temps.toml"), "[usage]\nevery = \"1s\"\n").unwrap();
    Daemon::start_in(home, &[])
}

fn kill(plugin: &Value) {
    let pid = plugin["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32)).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// Ends a daemon in order, and gives its home.
fn ended(mut daemon: Daemon) -> tempfile::TempDir {
    daemon.signal(Signal::TERM);
    daemon.process.wait().unwrap();
    std::mem::replace(&mut daemon.home, tempfile::tempdir().unwrap())
}

fn offline(home: &Path) -> Ended {
    temps(home).args(["--json", "audit", "verify", "--offline"]).output().unwrap().into()
}

fn items(page: &Value) -> &Vec<Value> {
    page["items"].as_array().unwrap()
}

#[test]
fn why_did_it_restart_is_one_command() {
    let daemon = Daemon::start();
    kill(&daemon.wait_for("hello", "running"));
    let crashed = ["audit", "list", "--plugin", "hello", "--kind", "plugin.crashed"];
    eventually("the crash is recorded", || (!items(&daemon.json(&crashed)).is_empty()).then_some(()));
    let page = both(&daemon, &crashed, "killed by signal 9 while it was running");
    let detail = &items(&page)[0]["detail"];
    assert_eq!((&detail["signal"], &detail["state"]), (&9.into(), &"running".into()));
    assert!(detail["last_lines"].is_array() && detail["cause"].is_string(), "{detail}");
    let said = daemon.run(&crashed).stdout;
    assert!(said.contains("last lines: ") || said.contains("it wrote nothing"), "{said}");
    let life = daemon.json(&["audit", "--plugin", "hello", "--kind", "plugin.*"]);
    let kinds: Vec<_> = items(&life).iter().filter_map(|entry| entry["kind"].as_str()).collect();
    for kind in ["plugin.inspected", "plugin.started", "plugin.ready", "plugin.crashed"] {
        assert!(kinds.contains(&kind), "{kind} is missing in {kinds:?}");
    }
}

#[test]
fn what_did_it_use_is_one_command() {
    let daemon = measuring();
    daemon.wait_for("hello", "running");
    let used = eventually("it was measured twice", || {
        let used = daemon.json(&["plugin", "usage", "hello", "--since", "1h"]);
        (items(&used).len() >= 2).then_some(used)
    });
    let one = &items(&used)[0];
    assert!(one["memory_bytes"].as_u64().unwrap() > 100_000, "{one}");
    assert!(one["tasks"].as_u64().unwrap() >= 1 && one["descriptors"].as_u64().unwrap() >= 3, "{one}");
    assert!(used["summary"]["memory_peak_bytes"].as_u64() >= one["memory_bytes"].as_u64());
    both(&daemon, &["plugin", "usage", "hello"], "memory at most");
    let info = both(&daemon, &["plugin", "info", "hello"], "MiB");
    assert!(info["usage"]["memory_bytes"].as_u64().unwrap() > 100_000, "{info}");
    both(&daemon, &["audit", "-p", "hello", "-k", "plugin.usage"], "descriptors");
    assert_eq!(daemon.run(&["plugin", "usage", "nobody"]).code, 3);
}

#[test]
fn what_it_received_and_answered_is_one_command_and_in_the_export_and_in_the_chain() {
    let daemon = Daemon::start();
    daemon.wait_for("hello", "running");
    daemon.json(&["deployment", "report", "--project", "shop", "--state", "succeeded"]);
    let received = ["delivery", "list", "--plugin", "hello", "--since", "1h"];
    let page = eventually("the attempt is recorded", || {
        let page = daemon.json(&received);
        (!items(&page).is_empty()).then_some(page)
    });
    let attempt = &items(&page)[0];
    assert_eq!((&attempt["plugin"], &attempt["result"]), (&"hello".into(), &"settled".into()), "{attempt}");
    assert!(attempt["answer"].is_string() && attempt["latency_ms"].is_u64(), "{attempt}");
    both(&daemon, &received, "deployment.succeeded");
    assert!(items(&daemon.json(&["delivery", "list", "--plugin", "hello", "--until", "1h"])).is_empty());
    let exported = daemon.run(&["audit", "export", "--plugin", "hello", "--kind", "delivery.attempt"]);
    let line: Value = serde_json::from_str(exported.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(line["detail"]["event_id"], attempt["event_id"], "{exported:?}");
    let check = daemon.json(&["audit", "verify"]);
    assert_eq!(check["state"], "intact");
    assert!(check["attempts"].as_u64().unwrap() >= 1, "{check}");
    let home = ended(daemon);
    let mut bytes = std::fs::read(database_of(&home)).unwrap();
    let id = attempt["event_id"].as_str().unwrap().as_bytes();
    let places: Vec<_> = bytes.windows(id.len()).enumerate().filter(|(_, window)| *window == id).collect();
    assert!(!places.is_empty());
    let places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
    for place in places {
        bytes[place] ^= 1;
    }
    std::fs::write(database_of(&home), bytes).unwrap();
    let found = offline(home.path());
    assert_eq!(found.code, 6, "{found:?}");
    assert!(found.json()["wrong"]["message"].as_str().unwrap().contains("delivery attempts"), "{found:?}");
}

#[test]
fn entries_are_found_by_who_and_by_event_watched_and_exported() {
    let daemon = Daemon::start();
    let mut tail = Following::start(daemon.command(&[
        "--json",
        "audit",
        "tail",
        "--kind",
        "project.*",
        "--after",
        "0",
        "-n",
        "2",
    ]));
    daemon.json(&["project", "create", "Shop"]);
    tail.line_with("project.created");
    daemon.json(&["project", "delete", "shop", "--yes"]);
    tail.line_with("project.deleted");
    assert_eq!(tail.end().0, 0, "-n ends the watch");

    let page = both(&daemon, &["audit", "--kind", "project.created"], "project.created");
    let actor = items(&page)[0]["actor"].as_str().unwrap().to_owned();
    let by_actor = daemon.json(&["audit", "list", "--actor", &actor]);
    assert!(items(&by_actor).iter().all(|entry| entry["actor"] == actor.as_str()));
    assert!(items(&by_actor).len() >= 2);
    assert!(items(&daemon.json(&["audit", "--until", "1h"])).is_empty());

    daemon.json(&["event", "publish", "shop.opened", "--id", "one"]);
    daemon.json(&["event", "publish", "shop.opened", "--id", "two"]);
    let about = daemon.json(&["audit", "list", "--event", "two"]);
    assert_eq!(items(&about).len(), 1, "{about}");
    assert_eq!(items(&about)[0]["kind"], "event.published");

    let exported = daemon.run(&["audit", "export", "--since", "1h"]);
    assert_eq!(exported.code, 0, "{exported:?}");
    let lines: Vec<Value> = exported.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records = lines.iter().filter(|line| line["kind"] != "delivery.attempt");
    let places: Vec<_> = records.map(|line| line["seq"].as_i64().unwrap()).collect();
    assert!(places.is_sorted() && places.len() > 5, "{places:?}");
    assert!(lines.iter().any(|line| line["kind"] == "project.created"));
    assert_eq!(
        items(&daemon.json(&["audit", "--kind", "audit.exported"])).len(),
        1,
        "who exported is recorded"
    );
}

#[test]
fn a_trail_that_nobody_touched_verifies_with_and_without_the_daemon_also_after_a_kill() {
    let mut daemon = Daemon::start();
    daemon.wait_for("hello", "running");
    let check = both(&daemon, &["audit", "verify"], "the audit trail is intact");
    assert_eq!(check["state"], "intact");
    assert!(check["records"].as_u64().unwrap() > 3 && check["links"].as_u64().unwrap() > 1, "{check}");
    assert!(check["cannot_prove"].as_array().unwrap().len() >= 3, "what it does not prove is said");
    assert_eq!(offline(daemon.home.path()).code, 0, "it works beside the daemon");
    daemon.process.kill().unwrap();
    daemon.process.wait().unwrap();
    let killed = offline(daemon.home.path());
    assert_eq!((killed.code, &killed.json()["state"]), (0, &"intact".into()), "{killed:?}");
    let home = std::mem::replace(&mut daemon.home, tempfile::tempdir().unwrap());
    drop(daemon);
    let daemon = Daemon::start_in(home, &[]);
    assert_eq!(daemon.json(&["audit", "verify"])["state"], "intact");
    let home = ended(daemon);
    let ended = offline(home.path());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.json()["heads"].as_u64().unwrap() > 0, "the head was written down at the end: {ended:?}");
    let mode = |file| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(state(home.path(), file)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("audit.key"), mode("audit.heads")), (0o600, 0o600));
}

#[test]
fn one_changed_byte_in_the_database_is_found_and_is_6() {
    let daemon = Daemon::start();
    daemon.wait_for("hello", "running");
    let home = ended(daemon);
    let database = database_of(&home);
    let mut bytes = std::fs::read(&database).unwrap();
    let place = bytes.windows(13).position(|window| window == b"\"containment\"").unwrap();
    bytes[place + 1] = b'C';
    std::fs::write(&database, bytes).unwrap();
    let found = offline(home.path());
    assert_eq!((found.code, &found.json()["state"]), (6, &"tampered".into()), "{found:?}");
    assert_eq!(found.error()["exit_code"], 6);
    let daemon = Daemon::start_in(home, &[]);
    let found = daemon.run(&["audit", "verify"]);
    assert_eq!(found.code, 6, "{found:?}");
    assert!(found.stdout.contains("audit records were changed"), "{found:?}");
}

#[test]
fn a_cut_tail_and_a_fresh_database_are_found_also_at_the_start() {
    let home = ended(Daemon::start());
    let database = database_of(&home);
    let before = std::fs::read(&database).unwrap();
    let daemon = Daemon::start_in(home, &[]);
    daemon.json(&["project", "create", "Shop"]);
    let home = ended(daemon);
    assert_eq!(offline(home.path()).code, 0);

    std::fs::write(database_of(&home), before).unwrap();
    let cut = offline(home.path());
    assert_eq!(cut.code, 6, "{cut:?}");
    assert!(cut.json()["wrong"]["message"].as_str().unwrap().contains("the end is missing"), "{cut:?}");

    std::fs::remove_file(database_of(&home)).unwrap();
    let daemon = Daemon::start_in(home, &[]);
    assert!(daemon.log().contains("the audit trail is not what it was"), "{}", daemon.log());
    assert_eq!(items(&daemon.json(&["audit", "--kind", "audit.tampered"])).len(), 1);
    assert_eq!(daemon.run(&["audit", "verify"]).code, 6);
}

/// The database; a daemon that ended in order leaves nothing beside it.
fn database_of(home: &tempfile::TempDir) -> std::path::PathBuf {
    state(home.path(), "temps.db")
}

#[test]
fn another_key_is_found() {
    let home = ended(Daemon::start());
    std::fs::remove_file(state(home.path(), "audit.key")).unwrap();
    let without = offline(home.path());
    assert_eq!(without.code, 1, "without the key nothing can be said: {without:?}");
    let daemon = Daemon::start_in(home, &[]);
    let found = daemon.run(&["audit", "verify"]);
    assert_eq!(found.code, 6, "{found:?}");
    assert!(found.stdout.contains("another key"), "{found:?}");
}
