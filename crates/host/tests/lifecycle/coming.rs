//! How plugins come: dropped into the directory, inspected, started, stopped with the host, there again with the next one.

use temps_host::plugin::PluginState;
use temps_testkit::Behaviour;

use crate::rig::{Rig, is_alive, trail, until, until_state};

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_dropped_into_the_directory_runs_and_leaves_nothing_behind() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    let running = until_state(&host, "hello", PluginState::Running).await;
    assert_eq!(running.manifest.as_ref().unwrap().name, "hello");
    assert_eq!(running.reason, None);
    let pid = running.pid.unwrap();
    assert!(is_alive(pid));
    until(&host, "hello", |snapshot| snapshot.health == Some("ok")).await;
    host.shutdown().await;
    assert!(!is_alive(pid));
    assert_eq!(host.plugin("hello").unwrap().state, PluginState::Stopped);
    let trail = trail(&host, "hello").await;
    for kind in ["plugin.inspected", "grant.added", "plugin.started", "plugin.ready", "plugin.stopped"] {
        assert!(trail.contains(&kind.to_owned()), "{kind} is not in {trail:?}");
    }
    assert!(!trail.contains(&"plugin.crashed".to_owned()), "{trail:?}");
}
