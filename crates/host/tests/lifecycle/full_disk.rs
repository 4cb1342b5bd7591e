//! A disk that is really full: a small file system of its own for the copies of programs, in a private mount namespace.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use temps_host::plugin::PluginState;

use crate::rig::{PATIENCE, Rig, until_state};

/// Tells the child where to work.
const PLACE: &str = "TEMPS_TEST_SMALL_DISK";

#[test]
fn a_full_disk_refuses_a_plugin_in_words_and_room_heals_it() {
    let home = tempfile::tempdir().unwrap();
    if std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) != 0) {
        return temps_testkit::skip("a_full_disk_refuses_a_plugin", "mounting needs root");
    }
    let artifacts = home.path().join("state/artifacts");
    std::fs::create_dir_all(&artifacts).unwrap();
    for directory in [&artifacts, &home.path().join("state")] {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let script = r#"mount -t tmpfs -o size=2m,mode=700 tmpfs "$1" &&
        exec "$2" --exact full_disk::child_on_the_small_disk --ignored --nocapture"#;
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"])
        .arg(&artifacts)
        .arg(std::env::current_exe().unwrap())
        .env(PLACE, home.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of the test above"]
async fn child_on_the_small_disk() {
    let Some(home) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let rig = Rig::at(&home);
    let artifacts = home.join("state/artifacts");
    let ballast = home.join("state/artifacts/.ballast");
    std::fs::write(&ballast, vec![0; 3 << 19]).unwrap();
    let unused = artifacts.join("0".repeat(64));
    std::fs::create_dir(&unused).unwrap();
    let store = temps_host::store::sqlite::SqliteStore::open(&home.join("temps.db")).unwrap();
    let host = rig.host_on(store).await;
    let file = rig.plugins().join("large");
    let words =
        r#"echo '{"type":"manifest","name":"large","version":"1","public_paths":["/x"]}'; sleep 600; exit"#;
    let program = format!("#!/bin/sh\n{words}\n# {}\n", "x".repeat(1 << 20));
    std::fs::write(&file, program).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = until_state(&host, "large", PluginState::Refused).await;
    assert!(refused.reason.as_ref().unwrap().contains("no space left"), "{refused:?}");
    assert!(unused.exists(), "it is only removed once it is known what is used");
    let left: Vec<_> =
        std::fs::read_dir(&artifacts).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let incomplete = |name: &std::ffi::OsString| name.to_string_lossy().starts_with(".incomplete");
    assert!(!left.iter().any(incomplete) && left.len() == 2, "something half-written is left: {left:?}");
    std::fs::remove_file(&ballast).unwrap();
    // Nobody touches the plugin: the regular look takes it up again.
    until_state(&host, "large", PluginState::Held).await;
    let swept = async {
        while unused.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("a program that nothing uses is kept");
    host.shutdown().await;
}
