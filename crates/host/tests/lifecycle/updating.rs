//! Updates in place: a changed file is inspected first, and only a good one replaces what runs.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use temps_host::plugin::PluginState;
use temps_testkit::Behaviour;

use crate::rig::{Rig, is_alive, trail, until, until_state};

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_replaces_what_runs_without_a_crash() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    let old = until_state(&host, "hello", PluginState::Running).await;
    rig.put(&Behaviour::honest("hello").manifest_field("version", "2.0.0"));
    let new = until(&host, "hello", |s| s.state == PluginState::Running && s.pid != old.pid).await;
    assert_eq!(new.manifest.as_ref().unwrap().version, "2.0.0");
    assert_ne!(new.hash, old.hash);
    assert_eq!(new.crashes, 0);
    assert!(!is_alive(old.pid.unwrap()));
    assert!(trail(&host, "hello").await.contains(&"plugin.updated".to_owned()));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_that_cannot_be_inspected_leaves_the_old_one_running_and_says_so() {
    let rig = Rig::new();
    let host = rig.host().await;
    let file = rig.put(&Behaviour::honest("hello"));
    let old = until_state(&host, "hello", PluginState::Running).await;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "#!/bin/sh\necho no manifest\nexit 1\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let noted = until(&host, "hello", |s| s.reason.is_some()).await;
    assert_eq!((noted.state, noted.pid), (PluginState::Running, old.pid));
    let reason = noted.reason.clone().unwrap();
    assert!(reason.contains("the version before it stays") && reason.contains("no manifest"), "{reason}");
    rig.put(&Behaviour::honest("hello"));
    let mended = until(&host, "hello", |s| s.reason.is_none()).await;
    assert_eq!(mended.pid, old.pid, "the same program again is no reason to restart");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_claims_another_name_gives_up_the_one_that_it_held() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put_as("file", &Behaviour::honest("before"));
    let before = until_state(&host, "before", PluginState::Running).await;
    rig.put_as("file", &Behaviour::honest("after"));
    until_state(&host, "after", PluginState::Running).await;
    until_state(&host, "before", PluginState::Gone).await;
    assert!(!is_alive(before.pid.unwrap()));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_kept_is_neither_removed_nor_written_again_by_the_next_host() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    let first = until_state(&host, "hello", PluginState::Running).await;
    host.shutdown().await;
    let kept = rig.config.state_dir.join("artifacts").join(first.hash.clone().unwrap());
    let inode = std::fs::metadata(&kept).unwrap().ino();
    let host = rig.host().await;
    until_state(&host, "hello", PluginState::Running).await;
    assert_eq!(std::fs::metadata(&kept).unwrap().ino(), inode);
    host.shutdown().await;
}
