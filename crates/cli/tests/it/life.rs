//! One life of the minimal example of the SDK for Rust, step by step as in `sdks/README.md`. The SDKs of other languages have the
//! same in their own tests.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use temps_testkit::binaries::built_binary;
use temps_testkit::daemon::{Daemon, empty_home, eventually, put_plugin, runs, temps};

const NAME: &str = "minimal-rust";

fn pid_of(info: &Value) -> u64 {
    info["pid"].as_u64().unwrap_or_else(|| panic!("it has no process: {info}"))
}

/// Waits until the plugin runs in a version, as another process than `before`.
fn until_running(daemon: &Daemon, version: &str, before: Option<u64>) -> u64 {
    eventually("it runs", || {
        let info = daemon.json(&["plugin", "info", NAME]);
        let right = info["state"] == "running" && info["version"] == version;
        (right && info["pid"].as_u64() != before).then(|| pid_of(&info))
    })
}

#[test]
fn one_life_of_the_minimal_example() {
    // Step: It passes the conformance kit.
    let home = empty_home();
    let program = built_binary(NAME);
    let kit = temps(home.path()).args(["--json", "plugin", "test"]).arg(&program).output().unwrap();
    let report: Value = serde_json::from_slice(&kit.stdout).unwrap();
    assert_eq!(report["conformant"], true, "{report}");

    // Step: It is dropped into the plugins directory, and runs in its sandbox.
    let mut daemon = Daemon::start_in(home, &[]);
    put_plugin(daemon.home.path(), NAME, &program);
    eventually("it is seen", || (daemon.run(&["plugin", "info", NAME]).code == 0).then_some(()));
    let first = until_running(&daemon, "0.1.0", None);
    let layers = daemon.json(&["plugin", "explain", NAME])["layers"].clone();
    let layers = layers.as_array().unwrap();
    assert!(layers.iter().all(|layer| layer["state"] != "not_in_force"), "{layers:?}");
    assert!(
        layers.iter().any(|layer| layer["layer"] == "privileges" && layer["state"] == "in_force"),
        "{layers:?}"
    );

    // Step: An event comes in, the platform is asked, and its own route answers from its storage.
    let last = || daemon.get_as_admin("/api/x/minimal-rust/last");
    let answers = |text: &str| {
        let wanted = json!({"text": text, "url": "https://shop.example.com"});
        eventually(text, || (last().1 == wanted).then_some(()));
    };
    let site = ["--site", "https://shop.example.com"];
    daemon
        .json(&[&["deployment", "report", "--project", "shop", "--state", "succeeded"], &site[..]].concat());
    answers("last deployed: shop");
    eventually("the event is confirmed", || {
        let page = daemon.json(&["delivery", "list", "--plugin", NAME, "--state", "settled"]);
        page["items"].as_array().is_some_and(|items| !items.is_empty()).then_some(())
    });

    // Step: The operator changes its settings, and it is told.
    assert_eq!(daemon.run(&["plugin", "config", "set", NAME, "greeting=newest"]).code, 0);
    answers("newest: shop");
    let logs = || daemon.run(&["plugin", "logs", NAME]).stdout;
    eventually("the hook has run", || logs().contains("the greeting is now newest").then_some(()));

    // Step: It is killed, comes back, and still knows.
    let pid = Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let second = until_running(&daemon, "0.1.0", Some(first));
    answers("newest: shop");

    // Step: It is updated, and still knows.
    put_plugin(daemon.home.path(), NAME, &built_binary("minimal-rust-newer"));
    let third = until_running(&daemon, "0.2.0", Some(second));
    answers("newest: shop");

    // Step: It is stopped in order, and answers no more.
    assert_eq!(daemon.run(&["plugin", "stop", NAME]).code, 0);
    daemon.wait_for(NAME, "stopped");
    assert!(logs().contains("ending: SIGTERM"), "{}", logs());
    assert_eq!(last().0, 503);

    // Step: It is started again, its host is killed, and nothing of it is left.
    assert_eq!(daemon.run(&["plugin", "start", NAME]).code, 0);
    let fourth = until_running(&daemon, "0.2.0", Some(third));
    daemon.process.kill().unwrap();
    daemon.process.wait().unwrap();
    eventually("it has ended with its host", || (!runs(fourth)).then_some(()));
}
