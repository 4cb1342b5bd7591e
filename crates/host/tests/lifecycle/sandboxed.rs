//! The sandbox under a real host: what a plugin sees in it, what it is ended for, and what refuses it.
#![expect(clippy::unwrap_used, reason = "the helpers of tests panic like the tests themselves")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::Value;
use temps_host::sandbox::{Explanation, Layer, PluginSandbox, Policies, Policy, State};
use temps_host::{PluginHost, PluginState};

use crate::rig::{Rig, until, until_state};

pub(crate) const NAME: &str = "plain-python";

/// The plugin of the guide, which at its start looks around, writes down what it sees, and does what a file asks for.
const LOOKS: &str = r#"
import threading, time
data = args["--data-dir"]
def there(path):
    try:
        with open(path, "rb") as file: file.read(1)
        return True
    except IsADirectoryError: return True
    except OSError: return False
def look():
    seen = {"uid": os.getuid(), "tmp": os.environ["TMPDIR"], "processes": sum(name.isdigit() for name in os.listdir("/proc"))}
    seen["reads"] = [path for path in ["HOME/temps.db", "HOME/state/audit.key", "HOME/state/data/other", "/etc/shadow"] if there(path)]
    try: open("HOME/marker", "w").close()
    except OSError: pass
    with open(data + "/seen.part", "w") as file: json.dump(seen, file)
    os.rename(data + "/seen.part", data + "/seen")
def obey():
    eaten = []
    while not os.path.exists(data + "/eat"): time.sleep(0.02)
    while True: eaten.append(bytearray(os.urandom(1 << 20)))
look()
threading.Thread(target=obey, daemon=True).start()
"#;

pub(crate) fn put(rig: &Rig) {
    let plain = include_str!("../../../../examples/plain-python/minimal.py");
    let home = rig.home.path().display().to_string();
    let ready = "print('{\"type\":\"ready\"";
    let script = plain.replace(ready, &format!("{}{ready}", LOOKS.replace("HOME", &home)));
    assert_ne!(script, plain);
    let file = rig.plugins().join("boxed");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

pub(crate) fn state(explained: &Explanation, layer: Layer) -> State {
    explained.layers.iter().find(|report| report.layer == layer).unwrap().state
}

fn seen(data: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(data.join("seen")).unwrap()).unwrap()
}

pub(crate) async fn explain(host: &PluginHost) -> Explanation {
    host.explain(NAME).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_in_its_sandbox_sees_nothing_of_the_host_and_is_ended_when_it_takes_too_much() {
    let test = "a_plugin_in_its_sandbox_sees_nothing_of_the_host_and_is_ended_when_it_takes_too_much";
    let mut rig = Rig::new();
    rig.config.limits.all.memory_max = Some(64 << 20);
    let host = rig.host().await;
    std::fs::create_dir_all(rig.config.state_dir.join("data/other")).unwrap();
    put(&rig);
    let running = until_state(&host, NAME, PluginState::Running).await;
    let data = rig.config.state_dir.join("data").join(NAME);
    let (explained, seen) = (explain(&host).await, seen(&data));
    assert!(explained.running && explained.pid == running.pid && !explained.steps.is_empty());
    if state(&explained, Layer::Files) != State::InForce {
        return temps_testkit::skip(test, "a root of its own is not to be had here");
    }
    assert_eq!(seen["reads"], serde_json::json!([]), "{seen}");
    assert_eq!(seen["tmp"], "/tmp");
    if state(&explained, Layer::ProcessView) == State::InForce {
        assert!(seen["processes"].as_u64().unwrap() <= 2, "{seen}");
    }
    let owner = std::fs::metadata(&data).unwrap().uid();
    assert_eq!(seen["uid"], owner);
    let own_user = state(&explained, Layer::User) == State::InForce;
    assert_eq!(own_user, owner != rustix::process::geteuid().as_raw());
    assert_eq!(explained.limits.memory_max, 64 << 20);

    if state(&explained, Layer::Memory) != State::InForce {
        host.shutdown().await;
        return temps_testkit::skip(test, "no control group watches over memory here");
    }
    std::fs::write(data.join("eat"), "").unwrap();
    let crashed = until(&host, NAME, |snapshot| snapshot.last_crash.is_some()).await;
    let report = crashed.last_crash.as_ref().unwrap();
    assert_eq!(report.out_of_memory, Some(true), "{report:?}");
    assert!(report.cause.contains("memory_max"), "{report:?}");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_layer_that_is_missing_refuses_the_plugin_with_the_layer_and_the_remedy() {
    let mut rig = Rig::new();
    // Without a root of its own no plugin runs as another user, so this cannot be had on any machine.
    let policies = Policies::unset()
        .with(Layer::Files, Policy::Off)
        .with(Layer::Landlock, Policy::Off)
        .with(Layer::User, Policy::Require);
    let own = PluginSandbox { policies, read_only_paths: Vec::new() };
    rig.config.sandbox.plugins.insert(NAME.to_owned(), own);
    let host = rig.host().await;
    put(&rig);
    let refused = until_state(&host, NAME, PluginState::Refused).await;
    let reason = refused.reason.as_ref().unwrap();
    assert!(reason.contains("`user`") && reason.contains("run the host as root"), "{reason}");
    assert!(refused.last_crash.is_none() && refused.pid.is_none());
    assert!(!rig.home.path().join("marker").exists(), "it was executed");
    let explained = explain(&host).await;
    assert!(!explained.running && explained.refused.unwrap().contains("`user`"));

    // What was set wrong is set right, and an operator starts it.
    let mut config = rig.config.clone();
    config.sandbox.plugins.clear();
    host.reload(config).await.unwrap();
    host.start_plugin(NAME, "ada").await.unwrap();
    until_state(&host, NAME, PluginState::Running).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_whose_directory_outgrows_its_limit_is_ended_and_the_reason_says_so() {
    let mut rig = Rig::new();
    rig.config.limits.all.disk_max = Some(8 << 20);
    let host = rig.host().await;
    put(&rig);
    until_state(&host, NAME, PluginState::Running).await;
    let data = rig.config.state_dir.join("data").join(NAME);
    for number in 0..3 {
        std::fs::write(data.join(format!("file-{number}")), vec![1; 4 << 20]).unwrap();
    }
    let crashed = until(&host, NAME, |snapshot| snapshot.last_crash.is_some()).await;
    let cause = &crashed.last_crash.as_ref().unwrap().cause;
    let words = |number: &u32| cause.contains(&format!("has {number} MiB and may have 8 MiB (disk_max)"));
    assert!((9..=13).any(|number| words(&number)), "{cause}");
    host.shutdown().await;
}
