//! What `temps plugin explain` and `temps doctor` say of the sandbox, held against what the kernel says: as root and as an
//! ordinary user, with layers that settings turn off and with one that is taken away from the running plugin.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use temps_testkit::daemon::{Daemon, home_with_hello};
use temps_testkit::skip;

use crate::commands::both;

/// An ordinary user.
const ORDINARY: u32 = 65_534;

/// Layers that are namespaces, as the kernel calls them.
const NAMESPACES: [(&str, &str); 6] = [
    ("processes", "pid"),
    ("files", "mnt"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("hostname", "uts"),
    ("group_view", "cgroup"),
];

/// A daemon with these settings: one as root and one as an ordinary user where the tests run as root, otherwise one as
/// whoever runs them.
fn daemons(settings: &str) -> Vec<Daemon> {
    let home = || {
        let home = home_with_hello();
        std::fs::write(home.path().join("temps.toml"), settings).unwrap();
        home
    };
    let mut daemons = vec![Daemon::start_in(home(), &[])];
    if rustix::process::geteuid().is_root() {
        daemons.push(Daemon::start_as(ORDINARY, home(), &[]));
    }
    daemons
}

/// The layers by their names.
fn layers(explained: &Value) -> BTreeMap<String, Value> {
    let all = explained["layers"].as_array().unwrap();
    all.iter().map(|layer| (layer["layer"].as_str().unwrap().to_owned(), layer.clone())).collect()
}

fn namespace(process: &str, kind: &str) -> String {
    let link = std::fs::read_link(Path::new("/proc").join(process).join("ns").join(kind)).unwrap();
    link.display().to_string()
}

fn status(pid: &str, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The line of a table that begins with this word.
fn line<'a>(text: &'a str, word: &str) -> &'a str {
    let found = text.lines().find(|line| line.split_whitespace().next() == Some(word));
    found.unwrap_or_else(|| panic!("no line {word}: {text}"))
}

/// The table of layers in the answer of `explain`.
fn table(text: &str) -> &str {
    &text[text.find("LAYER ").unwrap()..]
}

#[test]
fn explain_says_of_each_layer_what_the_kernel_says() {
    for daemon in
        daemons("[sandbox.layers]\nipc = \"off\"\n\n[sandbox.plugins.hello.layers]\nhostname = \"off\"\n")
    {
        daemon.wait_for("hello", "running");
        let explained = daemon.json(&["plugin", "explain", "hello"]);
        let pid = explained["pid"].to_string();
        let layers = layers(&explained);
        assert_eq!((layers.len(), explained["running"].as_bool()), (16, Some(true)), "{explained}");
        for (layer, kind) in NAMESPACES {
            let (said, own) = (&layers[layer], namespace(&pid, kind) != namespace("self", kind));
            let off = ["ipc", "hostname"].contains(&layer);
            assert!(!(off && own), "{layer} is off, and its own");
            match said["state"].as_str().unwrap() {
                "in_force" => {
                    assert!(
                        own && said["evidence"].as_str().unwrap().contains(&namespace(&pid, kind)),
                        "{said}"
                    );
                }
                "off" => assert!(
                    off && said["evidence"].as_str().unwrap().contains("off in the settings"),
                    "{said}"
                ),
                _ => assert!(!own && said["remedy"].is_string(), "{said}"),
            }
        }
        for (layer, field, means) in [("privileges", "NoNewPrivs", "1"), ("system_calls", "Seccomp", "2")] {
            let said = &layers[layer];
            assert_eq!(said["state"] == "in_force", status(&pid, field) == means, "{said}");
            assert!(
                said["evidence"].as_str().unwrap().contains(&format!("{field}: {}", status(&pid, field))),
                "{said}"
            );
        }
        let own_user = explained["user"].as_u64();
        assert_eq!(layers["user"]["state"] == "in_force", own_user.is_some(), "{explained}");
        assert_eq!(
            own_user.is_some_and(|user| status(&pid, "Uid").starts_with(&user.to_string())),
            own_user.is_some()
        );

        let text = daemon.run(&["plugin", "explain", "hello"]).stdout;
        for (name, layer) in &layers {
            let words = match layer["state"].as_str().unwrap() {
                "in_force" => "in force",
                "not_in_force" => "NOT in force",
                other => other,
            };
            let shown = line(table(&text), name);
            assert!(shown.contains(&format!("  {words}  ")), "{shown}");
            assert!(shown.contains(layer["policy"].as_str().unwrap()), "{shown}");
        }
        assert!(line(&text, "layers").contains("2 off"), "{text}");
    }
}

#[test]
fn a_layer_that_is_taken_from_the_running_plugin_is_said_to_be_not_in_force() {
    let test = "a_layer_that_is_taken_from_the_running_plugin_is_said_to_be_not_in_force";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only root can change the mounts of a running plugin");
    }
    for daemon in daemons("") {
        daemon.wait_for("hello", "running");
        let explained = daemon.json(&["plugin", "explain", "hello"]);
        if layers(&explained)["files"]["state"] != "in_force" {
            skip(test, "a root of its own is not to be had here");
            continue;
        }
        let data = daemon.home.path().join("state/data/hello");
        // What the plugin writes could be executed from now on.
        let changed = Command::new("nsenter")
            .args(["--target", &explained["pid"].to_string(), "--mount", "--pid"])
            .args(["mount", "-o", "remount,bind,rw,exec"])
            .arg(&data)
            .status();
        assert!(changed.unwrap().success());
        let after = daemon.json(&["plugin", "explain", "hello"]);
        let files = &layers(&after)["files"];
        assert_eq!(files["state"], "not_in_force", "{files}");
        let evidence = files["evidence"].as_str().unwrap();
        assert!(evidence.contains(&format!("{} is mounted rw,", data.display())), "{files}");
        assert!(files["remedy"].as_str().unwrap().contains("restart the plugin"), "{files}");
        let text = daemon.run(&["plugin", "explain", "hello"]).stdout;
        assert!(line(table(&text), "files").contains("NOT in force"), "{text}");
        assert!(line(&text, "layers").contains("NOT in force"), "{text}");
    }
}

#[test]
fn explain_verifies_nothing_of_a_plugin_that_does_not_run() {
    for daemon in daemons("[sandbox.layers]\nlandlock = \"off\"\n") {
        daemon.wait_for("hello", "running");
        assert_eq!(daemon.run(&["plugin", "stop", "hello"]).code, 0);
        daemon.wait_for("hello", "stopped");
        let explained = daemon.json(&["plugin", "explain", "hello"]);
        assert!(
            explained["running"] == false
                && explained["pid"].is_null()
                && explained["used"]["memory"].is_null()
        );
        for (name, layer) in layers(&explained) {
            let expected = if name == "landlock" { "off" } else { "unknown" };
            assert_eq!(layer["state"], expected, "{layer}");
        }
        let text = daemon.run(&["plugin", "explain", "hello"]).stdout;
        assert!(line(&text, "verified").contains("nothing"), "{text}");
    }
}

#[test]
fn doctor_finds_what_explain_finds_and_says_what_the_settings_take_away() {
    for daemon in
        daemons("[sandbox.layers]\nlandlock = \"off\"\n\n[sandbox.plugins.hello.layers]\nipc = \"off\"\n")
    {
        daemon.wait_for("hello", "running");
        let explained = daemon.json(&["plugin", "explain", "hello"]);
        let found = daemon.run(&["--json", "doctor"]);
        let checks = found.json()["checks"].as_array().unwrap().clone();
        let check = |name: &str| {
            checks
                .iter()
                .find(|check| check["name"] == name)
                .unwrap_or_else(|| panic!("no {name}: {found:?}"))
        };
        let mut in_force = 0;
        for (name, layer) in layers(&explained) {
            let tried = check(&format!("sandbox layer {name}"));
            let words = tried["found"].as_str().unwrap();
            in_force += u64::from(tried["status"] == "ok");
            match layer["state"].as_str().unwrap() {
                // It was turned off, and doctor tried what the machine can do.
                "off" => assert!(["ok", "warning"].contains(&tried["status"].as_str().unwrap()), "{tried}"),
                "in_force" => assert!(tried["status"] == "ok" && words.starts_with("in force: "), "{tried}"),
                "partial" => {
                    assert!(tried["status"] == "warning" && words.starts_with("partial: "), "{tried}")
                }
                _ => assert!(tried["status"] == "warning" && words.starts_with("NOT in force: "), "{tried}"),
            }
            assert_eq!(tried["status"] == "ok", tried["hint"].is_null(), "{tried}");
        }
        let summary = check("sandbox")["found"].as_str().unwrap();
        assert!(summary.contains(&format!("{in_force} of 16 layers")), "{summary}");
        let root = status(&daemon.process.id().to_string(), "Uid").starts_with("0 ");
        assert!(summary.starts_with(if root { "as root" } else { "as an ordinary user" }), "{summary}");
        assert!(check("sandbox setting landlock")["found"].as_str().unwrap().contains("off for all plugins"));
        assert!(check("sandbox setting ipc")["found"].as_str().unwrap().contains("off for hello"));
        let text = daemon.run(&["doctor"]).stdout;
        assert!(text.lines().any(|line| line.starts_with("warning  sandbox setting landlock")), "{text}");
    }
}

#[test]
fn what_is_required_in_vain_is_refused_and_both_say_so() {
    for daemon in daemons("[sandbox.plugins.hello.layers]\nfiles = \"off\"\nuser = \"require\"\n") {
        daemon.wait_for("hello", "refused");
        let explained = daemon.json(&["plugin", "explain", "hello"]);
        let refused = explained["refused"].as_str().unwrap();
        assert!(
            refused.contains("`user` is required") && refused.contains("run the host as root"),
            "{refused}"
        );
        let layers = layers(&explained);
        assert_eq!((layers.len(), &layers["user"]["state"]), (16, &Value::from("unknown")), "{explained}");
        assert!(layers["user"]["evidence"].as_str().unwrap().contains("cannot do it"), "{explained}");
        both(&daemon, &["plugin", "list"], "refused");
        let doctor = daemon.run(&["doctor"]);
        assert!(doctor.stdout.contains("off for hello"), "{doctor:?}");
        assert!(doctor.stdout.contains("required for hello") && doctor.code == 1, "{doctor:?}");
    }
}
