//! A plugin's settings and storage through the whole of it: command line, daemon, database, plugin. And a secret is nowhere.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use temps_testkit::binaries::built_example;
use temps_testkit::daemon::{Daemon, Following, empty_home, eventually, put_plugin};

use crate::commands::both;

const SECRET: &str = "https://hooks.example.com/T0/hunter2-s3cret";

fn daemon_with_keeper() -> Daemon {
    let home = empty_home();
    put_plugin(home.path(), "keeper", &built_example("temps-plugin-sdk", "keeper"));
    // Everything that any library says, so that a secret in a log is found.
    Daemon::start_in(home, &["--log", "trace"])
}

/// Runs a command with something on its standard input; the answer is its exit code and all that it said.
pub(crate) fn fed(daemon: &Daemon, arguments: &[&str], input: &str) -> (i32, String) {
    let mut command = daemon.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

/// What a route of the plugin answers.
fn plugin_get(daemon: &Daemon, path: &str) -> serde_json::Value {
    daemon.get_as_admin(&format!("/api/x/keeper/{path}")).1
}

/// Every file below a directory that has these bytes.
fn files_with(directory: &Path, bytes: &[u8], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with(&entry.path(), bytes, found);
        } else if kind.is_file()
            && std::fs::read(entry.path()).unwrap().windows(bytes.len()).any(|part| part == bytes)
        {
            found.push(entry.path().display().to_string());
        }
    }
}

#[test]
fn a_secret_goes_to_its_plugin_and_nowhere_else() {
    let daemon = daemon_with_keeper();
    let held = daemon.wait_for("keeper", "held");
    assert!(held["reason"].as_str().unwrap().contains("it needs a setting: webhook_url"), "{held}");
    both(&daemon, &["plugin", "config", "get", "keeper"], "webhook_url");
    let mut logs = Following::start(daemon.command(&["--json", "plugin", "logs", "keeper", "-f"]));

    let (code, said) =
        fed(&daemon, &["plugin", "config", "set", "keeper", "webhook_url"], "ftp://hunter2-s3cret\n");
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("webhook_url") && said.contains("^https://") && !said.contains("hunter2"),
        "{said}"
    );
    let (code, said) =
        fed(&daemon, &["plugin", "config", "set", "keeper", "webhook_url"], &format!("{SECRET}\n"));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("(secret)") && !said.contains("hunter2"), "{said}");
    daemon.wait_for("keeper", "running");
    logs.line_with("settings are there at the start");

    // The plugin has it, to the last byte, and hears of a change without a restart.
    let settings = || plugin_get(&daemon, "settings");
    let starts = daemon.json(&["plugin", "info", "keeper"])["starts"].clone();
    assert_eq!(settings(), serde_json::json!({"channel": "#ops", "length": SECRET.len()}));
    assert_eq!(daemon.run(&["plugin", "config", "set", "keeper", "channel=#releases"]).code, 0);
    eventually("the change arrives", || (settings()["channel"] == "#releases").then_some(()));
    assert_eq!(daemon.json(&["plugin", "info", "keeper"])["starts"], starts, "without a restart");
    eventually("the hook ran", || plugin_get(&daemon, "count")["changes"].as_u64());

    let refused = daemon.run(&["plugin", "config", "unset", "keeper", "webhook_url"]);
    assert_eq!(refused.code, 8, "what it cannot run without");
    let wrong = daemon.run(&["plugin", "config", "set", "keeper", "chanel=x"]);
    assert_eq!(wrong.code, 2);
    let one = daemon.json(&["plugin", "config", "get", "keeper", "webhook_url"]);
    assert!(one["set"] == true && one["secret"] == true && one.get("value").is_none(), "{one}");
    let config = daemon.json(&["plugin", "config", "get", "keeper"]);
    let trail = daemon.json(&["audit", "list", "--plugin", "keeper", "--limit", "500"]);
    let changed = trail["items"].as_array().unwrap().iter().find(|entry| entry["kind"] == "config.changed");
    assert!(changed.is_some_and(|entry| entry["detail"]["set"].is_array()), "{trail}");
    for text in
        [config.to_string(), trail.to_string(), daemon.log(), daemon.json(&["plugin", "list"]).to_string()]
    {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let mut found = Vec::new();
    files_with(daemon.home.path(), b"hunter2", &mut found);
    assert!(found.is_empty(), "the secret stands in {found:?}");
    let unset = daemon.run(&["plugin", "config", "unset", "keeper", "webhook_url", "--force"]);
    assert_eq!(unset.code, 0);
    daemon.wait_for("keeper", "held");
}

#[test]
fn storage_outlives_the_plugin_and_is_seen_and_cleared() {
    let daemon = daemon_with_keeper();
    daemon.wait_for("keeper", "held");
    let (code, said) = fed(
        &daemon,
        &["plugin", "config", "set", "keeper", "--file", "-"],
        &format!("{{\"webhook_url\": \"{SECRET}\"}}"),
    );
    assert_eq!(code, 0, "{said}");
    daemon.wait_for("keeper", "running");
    for n in 0..3 {
        daemon.json(&["deployment", "report", "--project", &format!("shop-{n}"), "--state", "succeeded"]);
    }
    let count = || plugin_get(&daemon, "count")["count"].as_u64();
    let events = daemon.json(&["event", "list", "--type", "deployment.*"]);
    let published = events["items"].as_array().unwrap().len() as u64;
    let seen = eventually("every event is counted", || count().filter(|count| *count >= published));
    assert_eq!(daemon.run(&["plugin", "restart", "keeper"]).code, 0);
    daemon.wait_for("keeper", "running");
    assert_eq!(eventually("it answers again", count), seen, "what it kept is still there");
    both(&daemon, &["plugin", "kv", "list", "keeper", "--values"], "count");
    let listed = daemon.json(&["plugin", "kv", "list", "keeper"]);
    assert!(listed["entries"] == 1 && listed["items"][0]["key"] == "count", "{listed}");
    assert_eq!(daemon.json(&["plugin", "kv", "get", "keeper", "count"])["value"], seen);
    assert_eq!(daemon.run(&["plugin", "kv", "get", "keeper", "none"]).code, 3);
    assert_eq!(daemon.run(&["plugin", "kv", "clear", "keeper"]).code, 2, "it must be meant");
    assert_eq!(daemon.json(&["plugin", "kv", "clear", "keeper", "--yes"])["entries"], 1);
    assert_eq!(daemon.json(&["plugin", "kv", "list", "keeper"])["entries"], 0);
}
