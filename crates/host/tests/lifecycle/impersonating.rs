//! One plugin that wants to be taken for another, where no layer of the sandbox keeps their files apart.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use temps_host::sandbox::{Layer, PluginSandbox, Policies, Policy};
use temps_host::{PluginHost, PluginState};

use crate::rig::{PATIENCE, Rig, until, until_state};

const PLAIN: &str = include_str!("../../../../examples/plain-python/minimal.py");

/// The name of the plugin of the guide, whose place is taken.
const VICTIM: &str = "plain-python";

/// Once it is told of a socket it puts one of its own in its place, and writes down what callers say.
const STEALS: &str = r#"
import socket, threading, time
def write(name, what):
    with open(args["--data-dir"] + "/" + name + ".part", "wb") as file: file.write(what)
    os.rename(args["--data-dir"] + "/" + name + ".part", args["--data-dir"] + "/" + name)
def steal():
    while not os.path.exists(args["--data-dir"] + "/steal"): time.sleep(0.02)
    path = open(args["--data-dir"] + "/steal").read()
    os.unlink(path)
    own = socket.socket(socket.AF_UNIX)
    own.bind(path)
    own.listen(8)
    got = b""
    while True:
        caller, _ = own.accept()
        caller.settimeout(1)
        try:
            while chunk := caller.recv(65536): got += chunk
        except OSError: pass
        write("loot", b"they came and said: " + got)
threading.Thread(target=steal, daemon=True).start()
"#;

fn put(rig: &Rig, file: &str, script: &str) {
    let path = rig.plugins().join(file);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

async fn written(path: &std::path::Path) -> String {
    let look = async {
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) => return text,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{path:?} was never written"))
}

async fn start() -> (Rig, PluginHost) {
    let mut rig = Rig::new();
    let policies = Policies::unset()
        .with(Layer::Files, Policy::Off)
        .with(Layer::Landlock, Policy::Off)
        .with(Layer::User, Policy::Off);
    for name in [VICTIM, "thief"] {
        let own = PluginSandbox { policies: policies.clone(), read_only_paths: Vec::new() };
        rig.config.sandbox.plugins.insert(name.to_owned(), own);
    }
    rig.config.health.interval = Duration::from_millis(100);
    let host = rig.host().await;
    let ready = "print('{\"type\":\"ready\"";
    let thief = PLAIN.replace(VICTIM, "thief").replace(ready, &format!("{STEALS}{ready}"));
    put(&rig, "thief", &thief);
    put(&rig, "victim", PLAIN);
    until_state(&host, "thief", PluginState::Running).await;
    until_state(&host, VICTIM, PluginState::Running).await;
    (rig, host)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_takes_the_place_of_anothers_socket_is_told_nothing() {
    let (rig, host) = start().await;
    let thief = rig.config.state_dir.join("data/thief");
    let socket = rig.config.run_dir.join(VICTIM).join("plugin.sock");
    assert!(socket.exists(), "the thief would take the wrong place");
    let pid = host.plugin(VICTIM).unwrap().pid;
    std::fs::write(thief.join("steal.part"), socket.display().to_string()).unwrap();
    std::fs::rename(thief.join("steal.part"), thief.join("steal")).unwrap();
    // The one whose socket was taken is started again, with a socket and a secret of its own.
    let again = until(&host, VICTIM, |seen| seen.state == PluginState::Running && seen.pid != pid).await;
    let cause = &again.last_crash.as_ref().unwrap().cause;
    assert!(cause.contains("not a process of this plugin"), "{cause}");
    // The host came, asked the kernel who is there, and left without a word, each time.
    assert_eq!(written(&thief.join("loot")).await, "they came and said: ");
    host.shutdown().await;
}
