//! The way out of a plugin's network, whole: a real daemon, real plugins in Rust, Python and Node, a TLS host at public addresses with
//! a certificate of an authority made for the test, and everything that a plugin must not reach.
//!
//! All of it lives in network and mount namespaces of its own, which the test enters by starting itself again. Nothing leaves the
//! machine, and names are those of a file. Every way in is tried outside of the sandbox as well, where it has to succeed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use temps_testkit::binaries::built_executable;
use temps_testkit::daemon::{Daemon, empty_home, eventually, put_plugin};
use temps_testkit::skip;

const NAME: &str = "a_plugin_reaches_the_hosts_it_was_granted_and_nothing_else";

/// Set in the process that runs inside of the namespaces.
const INSIDE: &str = "TEMPS_TEST_EGRESS_INSIDE";

/// What names stand for. One leads back into the machine, one to both.
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n45.90.28.10 hooks.slack.com other.example.com both.example.com\n\
                     127.0.0.1 inside.example.com both.example.com\n";

/// Everything that takes the test into its own world. It runs as the root of new namespaces.
const ENTER: &str = r#"
set -e
cd "$1"
ip link set lo up
ip addr add 45.90.28.10/32 dev lo
ip -6 addr add 2a0b:9000::10/128 dev lo
mount --bind hosts /etc/hosts
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj "/CN=An authority for tests" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout host.key -out host.csr -subj "/CN=hooks.slack.com" 2>/dev/null
printf 'subjectAltName=DNS:hooks.slack.com,DNS:other.example.com\nbasicConstraints=CA:FALSE\n' >extensions
openssl x509 -req -in host.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out host.crt -days 2 -extfile extensions 2>/dev/null
cp -a /etc/ssl/certs certs
cat ca.crt >>certs/ca-certificates.crt
cp ca.crt "certs/$(openssl x509 -hash -noout -in ca.crt).0"
mount --bind certs /etc/ssl/certs
"#;

#[test]
fn a_plugin_reaches_the_hosts_it_was_granted_and_nothing_else() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    for program in ["unshare", "ip", "openssl", "curl", "/usr/bin/python3", "/usr/bin/node"] {
        if Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return skip(NAME, &format!("{program} is not installed"));
        }
    }
    let user: &[&str] =
        if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let flags = ["--net", "--mount", "--propagation", "private"];
    let possible = Command::new("unshare").args(user).args(flags).arg("true").stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        return skip(NAME, "network and mount namespaces cannot be made here");
    }
    let test = format!("egress::{NAME}");
    let mut again = Command::new("unshare");
    again.args(user).args(flags).arg(std::env::current_exe().unwrap());
    let status = again.args([test.as_str(), "--exact", "--nocapture"]).env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "what happened stands above");
}

/// The world outside. It ends when its input does.
struct Outside {
    process: Child,
}

impl Outside {
    fn start(at: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/egress/outside.py");
        let files = ["host.crt", "host.key", "outside.sock", "messages"].map(|name| at.join(name));
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).args(files).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self { process }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[expect(clippy::print_stdout, reason = "the table is what a reader of the test wants to see")]
fn inside() {
    let world = tempfile::Builder::new().prefix("temps-egress-").tempdir_in("/tmp").unwrap();
    fs::write(world.path().join("hosts"), HOSTS).unwrap();
    let entered = Command::new("sh").args(["-c", ENTER, "sh"]).arg(world.path()).status().unwrap();
    assert!(entered.success(), "the world cannot be made");
    let _outside = Outside::start(world.path());

    let home = empty_home();
    put_plugin(home.path(), "slack-notifier", &built_executable("slack-notifier", "slack-notifier"));
    let daemon = Daemon::start_in(home, &[]);
    let places = json!({
        "port": daemon.url.trim_end_matches('/').rsplit(':').next().unwrap().parse::<u16>().unwrap(),
        "database": temps_testkit::daemon::state(daemon.home.path(), "temps.db"),
        "socket": world.path().join("outside.sock"),
    });
    for (name, script) in [("python-probe", "probe.py"), ("node-probe", "probe.js")] {
        let program = script_with(&places, script, world.path());
        let control = world.path().join(format!("{name}.json"));
        let ran = Command::new(&program).arg("--control").arg(&control).status().unwrap();
        assert!(ran.success());
        put_plugin(daemon.home.path(), name, &program);
        let found = compare(&daemon, name, &read(&control));
        println!("{found}");
    }
    the_slack_plugin_posts_there_and_nowhere_else(&daemon, world.path());
    every_connection_is_in_the_audit_trail(&daemon);
}

/// A probe that knows where things are.
fn script_with(places: &Value, script: &str, at: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/egress").join(script);
    let text = fs::read_to_string(source).unwrap().replace("@PLACES@", &places.to_string());
    let program = at.join(script);
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    program
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What a plugin reached, beside what the same program reached outside of the sandbox, as a table.
fn compare(daemon: &Daemon, name: &str, control: &Value) -> String {
    let result = temps_testkit::daemon::state(daemon.home.path(), "data").join(name).join("result.json");
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
        table.push_str(&format!("  {way:28} {verdict:26} {}\n", tried["said"]));
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
    let token = fs::read_to_string(temps_testkit::daemon::state(daemon.home.path(), "admin-token")).unwrap();
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

fn records(daemon: &Daemon, kind: &str, plugin: &str) -> Vec<Value> {
    let all = daemon.json(&["audit", "list", "--kind", kind, "--plugin", plugin]);
    all.as_array().or_else(|| all["items"].as_array()).cloned().unwrap_or_default()
}

fn every_connection_is_in_the_audit_trail(daemon: &Daemon) {
    for plugin in ["python-probe", "node-probe", "slack-notifier"] {
        let made = eventually("the connection has ended and is recorded", || {
            records(daemon, "egress.connection", plugin).into_iter().next()
        });
        assert_eq!(made["detail"]["target"], "hooks.slack.com:443", "{made}");
        assert_eq!(made["detail"]["address"], "45.90.28.10:443", "{made}");
        assert!(made["detail"]["received_bytes"].as_u64().unwrap() > 0, "{made}");
    }
}
