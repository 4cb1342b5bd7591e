//! The way out of a plugin's network, whole: a real daemon, real plugins in Rust, Python, Node and Go, a TLS host at public addresses
//! with a certificate of an authority made for the test, names that change, and everything that a plugin must not reach.
//!
//! All of it lives in network and mount namespaces of its own, which the test enters by starting itself again. Nothing leaves the
//! machine, and names are those of a file and of a server of the test's. Every way in is tried outside of the sandbox as well, where
//! it has to succeed.

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use temps_testkit::binaries::built_executable;
use temps_testkit::daemon::{Daemon, empty_home, eventually, put_plugin, state};
use temps_testkit::skip;

use self::world::{INSIDE, Outside, Who};

/// The name of the probe in Go, among the files of the world.
const IN_GO: &str = "probe-in-go";

#[test]
fn a_plugin_reaches_the_hosts_it_was_granted_and_nothing_else() {
    test("a_plugin_reaches_the_hosts_it_was_granted_and_nothing_else", Who::AsItIs);
}

#[test]
fn a_plugin_of_an_ordinary_users_host_reaches_no_more() {
    test("a_plugin_of_an_ordinary_users_host_reaches_no_more", Who::Ordinary);
}

fn test(name: &str, who: Who) {
    if let Some(world) = std::env::var_os(INSIDE) {
        return inside(name, who, Path::new(&world));
    }
    let world = tempfile::Builder::new().prefix("temps-egress-").tempdir_in("/tmp").unwrap();
    let _ = (built_executable("temps-cli", "temps"), built_executable("slack-notifier", "slack-notifier"));
    build_in_go(world.path());
    world::enter(name, who, world.path());
}

#[expect(clippy::print_stdout, reason = "the table is what a reader of the test wants to see")]
fn inside(test: &str, who: Who, world: &Path) {
    if who == Who::Ordinary {
        assert_eq!(rustix::process::geteuid().as_raw(), world::ORDINARY);
    }
    let _outside = [Outside::hosts(world), Outside::names(world)];
    let home = empty_home();
    put_plugin(home.path(), "slack-notifier", &built_executable("slack-notifier", "slack-notifier"));
    let daemon = Daemon::start_in(home, &[]);
    let places = json!({
        "port": daemon.url.trim_end_matches('/').rsplit(':').next().unwrap().parse::<u16>().unwrap(),
        "database": state(daemon.home.path(), "temps.db"),
        "socket": world.join("outside.sock"),
    });
    let mut probes = vec![
        ("python-probe", script_with(&places, "probe.py", world)),
        ("node-probe", script_with(&places, "probe.js", world)),
    ];
    let in_go = world.join(IN_GO);
    if in_go.exists() {
        let text = [&fs::read(&in_go).unwrap()[..], b"\n", places.to_string().as_bytes()].concat();
        fs::write(&in_go, text).unwrap();
        probes.push(("go-probe", in_go));
    } else {
        skip(test, "there is no Go, so its client was not tried");
    }
    for (name, program) in &probes {
        let control = world.join(format!("{name}.json"));
        let ran = Command::new(program).arg("--control").arg(&control).status().unwrap();
        assert!(ran.success());
        put_plugin(daemon.home.path(), name, program);
        let found = compare(&daemon, name, &read(&control));
        println!("{found}");
    }
    the_slack_plugin_posts_there_and_nowhere_else(&daemon, world);
    names_were_asked_for_once_and_the_checked_address_was_connected(&daemon, world);
    a_revocation_ends_what_is_open(&daemon, world);
    if probes.iter().any(|(name, _)| *name == "go-probe") {
        the_end_of_a_plugin_ends_what_is_open(&daemon, world);
    }
    every_connection_is_in_the_audit_trail(&daemon);
}

/// A probe that knows where things are.
fn script_with(places: &Value, script: &str, at: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/egress").join(script);
    let text = fs::read_to_string(source).unwrap().replace("@PLACES@", &places.to_string());
    let program = at.join(script);
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// The probe in Go, built without C as most are. There is none where there is no Go.
fn build_in_go(at: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/egress/probe.go");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(at.join(IN_GO)).arg(source).env("CGO_ENABLED", "0");
    if let Ok(output) = build.output() {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What a plugin reached, beside what the same program reached outside of the sandbox, as a table.
fn compare(daemon: &Daemon, name: &str, control: &Value) -> String {
    let result = state(daemon.home.path(), "data").join(name).join("result.json");
    daemon.wait_for(name, "running");
    let found: Value = eventually("the plugin has tried everything", || {
        fs::read(&result).ok().map(|text| serde_json::from_slice(&text).unwrap())
    });
    let info = daemon.json(&["plugin", "info", name]);
    assert_eq!(info["egress"]["way"], "granted", "{info}");
    let mut table = format!("{name}\n");
    for (way, tried) in found.as_object().unwrap() {
        let (reached, outside) = (&tried["reached"], &control[way]["reached"]);
        let allowed = way.starts_with("allowed");
        assert_eq!(*reached, json!(allowed), "{name}: {way}: {tried}");
        // An attempt that fails everywhere shows nothing.
        let verdict = match (allowed, outside == &json!(true)) {
            (true, _) => "reached",
            (false, true) => "held (control reached it)",
            (false, false) => "not testable here",
        };
        assert!(
            outside == &json!(true) || way == "host_port_by_mptcp",
            "{way} without a sandbox: {}",
            control[way]
        );
        if way.starts_with("allowed_") && way != "allowed_by_default" {
            let said = tried["said"].as_str().unwrap_or_default();
            assert_eq!(said, "the outside at 45.90.28.10", "{name}: {way}");
        }
        if way == "beyond_the_bound" {
            let said = tried["said"].as_str().unwrap();
            assert!(said.contains("32 are open") && said.contains("403"), "{name}: {tried}");
            assert!(said.contains("too many connections are open"), "{name}: {tried}");
        }
        table.push_str(&format!("  {way:30} {verdict:26} {}\n", tried["said"]));
    }
    table
}

fn the_slack_plugin_posts_there_and_nowhere_else(daemon: &Daemon, world: &Path) {
    daemon.wait_for("slack-notifier", "running");
    set_webhook(daemon, "https://hooks.slack.com/services/T/B/x");
    assert_eq!(daemon.run(&["project", "create", "shop"]).code, 0);
    let report = [
        "deployment",
        "report",
        "--project",
        "shop",
        "--state",
        "succeeded",
        "--site",
        "https://shop.example.com",
    ];
    assert_eq!(daemon.run(&report).code, 0);
    let messages = eventually("the message arrives", || {
        fs::read_to_string(world.join("messages")).ok().filter(|text| text.ends_with('\n'))
    });
    assert!(messages.contains("shop"), "{messages}");

    for elsewhere in
        ["https://other.example.com/hook", "https://45.90.28.10/hook", "https://inside.example.com/hook"]
    {
        set_webhook(daemon, elsewhere);
        assert_eq!(daemon.run(&report).code, 0);
        let host = elsewhere.split('/').nth(2).unwrap();
        eventually("the refusal is in the audit trail", || {
            let refused = records(daemon, "egress.refused", "slack-notifier");
            refused
                .iter()
                .any(|r| r["detail"]["target"].as_str().unwrap_or_default().starts_with(host))
                .then_some(())
        });
    }
    assert_eq!(fs::read_to_string(world.join("messages")).unwrap(), messages, "nothing more has arrived");
}

fn set_webhook(daemon: &Daemon, url: &str) {
    let token = fs::read_to_string(state(daemon.home.path(), "admin-token")).unwrap();
    let done = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--output",
            "/dev/null",
            "--request",
            "PATCH",
        ])
        .args(["--header", &format!("Authorization: Bearer {}", token.trim())])
        .args(["--header", "Content-Type: application/json"])
        .args(["--data", &json!({"webhook_url": url, "allow_custom_host": true}).to_string()])
        .arg(format!("{}/api/x/slack-notifier/settings", daemon.url.trim_end_matches('/')))
        .status()
        .unwrap();
    assert!(done.success(), "{url}");
}

/// The last refusal or connection whose target begins so.
fn recorded(daemon: &Daemon, kind: &str, plugin: &str, target: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("a record of {plugin}: {kind} {target}"), || {
        records(daemon, kind, plugin).into_iter().map(|record| record["detail"].clone()).find(|detail| {
            detail["target"].as_str().is_some_and(|found| found.starts_with(target)) && fits(detail)
        })
    })
}

fn names_were_asked_for_once_and_the_checked_address_was_connected(daemon: &Daemon, world: &Path) {
    // Three connections; what the name leads to was public for the first of them only.
    let questions = fs::read_to_string(world.join("questions")).unwrap();
    let asked = questions.lines().filter(|name| *name == "python-probe.turns.example.com").count();
    assert_eq!(asked, 3, "{questions}");
    let turned = "python-probe.turns.example.com:443";
    let made = recorded(daemon, "egress.connection", "python-probe", turned, |_| true);
    assert_eq!(made["address"], "45.90.28.10:443", "{made}");
    for (target, leads_to) in [
        (turned, "127.0.0.1"),
        ("alias-of-loopback.turns.example.com:443", "127.0.0.1"),
        ("mixed.turns.example.com:443", "127.0.0.1"),
        ("both.example.com:443", "127.0.0.1"),
    ] {
        let why = format!("its name leads to {leads_to}, which is not public");
        recorded(daemon, "egress.refused", "python-probe", target, |detail| {
            detail["reason"].as_str().is_some_and(|reason| reason.starts_with(&why))
        });
    }
    recorded(daemon, "egress.refused", "python-probe", "hooks.slack.com:443", |detail| {
        detail["reason"] == "too many connections are open"
    });
}

fn is_held(world: &Path, line: &str) {
    eventually(line, || {
        fs::read_to_string(world.join("holds")).ok()?.lines().any(|held| held == line).then_some(())
    });
}

fn a_revocation_ends_what_is_open(daemon: &Daemon, world: &Path) {
    is_held(world, "python-probe began");
    let revoked = daemon.run(&["plugin", "revoke", "python-probe", "egress=hooks.slack.com:443"]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    is_held(world, "python-probe ended");
    recorded(daemon, "egress.connection", "python-probe", "hooks.slack.com:443", |detail| {
        detail["outcome"] == "revoked"
    });
    let result = state(daemon.home.path(), "data").join("python-probe/held.json");
    let said =
        eventually("the plugin has seen its connection end", || result.exists().then(|| read(&result)));
    assert!(said["again"].as_str().unwrap().contains("Error"), "it cannot be opened again: {said}");
    let proxy = |target: &str| said["proxy"][target].as_str().unwrap_or_default().to_owned();
    for (target, why) in [
        ("hooks.slack.com:443", "it was not granted"),
        ("hooks.slack.com:22", "it was not granted"),
        ("45.90.28.10:443", "addresses cannot be reached, only names"),
        ("[::1]:443", "addresses cannot be reached, only names"),
        ("user@hooks.slack.com:443", "it is no name of a public host"),
    ] {
        let answer = proxy(target);
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden") && answer.contains(why), "{target}: {said}");
    }
}

fn the_end_of_a_plugin_ends_what_is_open(daemon: &Daemon, world: &Path) {
    is_held(world, "go-probe began");
    assert_eq!(daemon.run(&["plugin", "stop", "go-probe"]).code, 0);
    is_held(world, "go-probe ended");
    // Who is first to see the end, the plugin's side or the host's, is for the kernel to say.
    recorded(daemon, "egress.connection", "go-probe", "hooks.slack.com:443", |detail| {
        ["plugin_ended", "closed", "broken"].contains(&detail["outcome"].as_str().unwrap_or_default())
            && detail["received_bytes"].as_u64().is_some_and(|bytes| bytes > 0)
    });
}

fn records(daemon: &Daemon, kind: &str, plugin: &str) -> Vec<Value> {
    let all = daemon.json(&["audit", "list", "--limit", "1000", "--kind", kind, "--plugin", plugin]);
    all.as_array().or_else(|| all["items"].as_array()).cloned().unwrap_or_default()
}

fn every_connection_is_in_the_audit_trail(daemon: &Daemon) {
    for plugin in ["python-probe", "node-probe", "slack-notifier"] {
        let made = eventually("the connection has ended and is recorded", || {
            let made = records(daemon, "egress.connection", plugin);
            made.into_iter().find(|record| record["detail"]["target"] == "hooks.slack.com:443")
        });
        assert_eq!(made["detail"]["address"], "45.90.28.10:443", "{made}");
        assert!(made["detail"]["received_bytes"].as_u64().unwrap() > 0, "{made}");
    }
}
