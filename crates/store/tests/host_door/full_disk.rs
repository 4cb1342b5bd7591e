//! A disk that is really full: a small file system of its own, in a private mount namespace.

use std::path::Path;
use std::process::Command;

use temps_protocol::PluginEvent;
use temps_store::sqlite::SqliteStore;
use temps_store::{JournalStore, StoreError};

use crate::suite::event;

/// Tells the child where to mount.
const PLACE: &str = "TEMPS_TEST_FULL_DISK_PLACE";

#[test]
fn a_full_disk_refuses_publishes_whole_and_room_heals_it() {
    let dir = tempfile::tempdir().unwrap();
    // As root this works everywhere; an ordinary user needs a user namespace.
    let Some(namespace) =
        [&[][..], &["--user", "--map-root-user"][..]].into_iter().find(|flags| can_mount(flags))
    else {
        return temps_testkit::skip::skip("a_full_disk", "no private mount namespace for this user");
    };
    let script = r#"mount -t tmpfs -o size=2m tmpfs "$1" &&
        exec "$2" --exact full_disk::child_on_the_small_disk --ignored --nocapture"#;
    let status = unshare(namespace)
        .args(["sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .env(PLACE, dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn unshare(flags: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(flags).args(["--mount", "--propagation", "private", "--"]);
    command
}

fn can_mount(flags: &[&str]) -> bool {
    let tried = unshare(flags).args(["mount", "-t", "tmpfs", "tmpfs", "/tmp"]).output();
    tried.is_ok_and(|output| output.status.success())
}

#[tokio::test]
#[ignore = "the child of the test above"]
async fn child_on_the_small_disk() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let place = Path::new(&place);
    let ballast = place.join("ballast");
    std::fs::write(&ballast, vec![0; 512 * 1024]).unwrap();
    let store = SqliteStore::open(&place.join("temps.db")).unwrap();
    let (mut confirmed, error) = publish_until_it_fails(&store, "full").await;
    assert_eq!(error, StoreError::Full);
    assert_eq!(*store.head().borrow(), confirmed);
    assert_eq!(count(&store).await, confirmed, "nothing is half-written");

    std::fs::remove_file(&ballast).unwrap();
    store.publish(vec![event("room-again")]).await.unwrap();
    confirmed += 1;
    assert_eq!(count(&store).await, confirmed);
    store.close().await;
    let again = SqliteStore::open(&place.join("temps.db")).unwrap();
    assert_eq!(count(&again).await, confirmed);
}

/// Publishes three events at a time. Returns how many were confirmed, and why it ended.
async fn publish_until_it_fails(store: &SqliteStore, prefix: &str) -> (i64, StoreError) {
    let mut confirmed = 0;
    loop {
        let events = (0..3).map(|n| PluginEvent {
            data: serde_json::json!({"x": "x".repeat(5_000)}),
            ..event(&format!("{prefix}-{confirmed}-{n}"))
        });
        match store.publish(events.collect()).await {
            Ok(_) => confirmed += 3,
            Err(error) => return (confirmed, error),
        }
    }
}

async fn count(store: &SqliteStore) -> i64 {
    let mut place = 0;
    let mut count = 0;
    loop {
        let page = store.events_after(place, 1_000).await.unwrap();
        let Some(last) = page.last() else { return count };
        (place, count) = (last.seq, count + page.len() as i64);
    }
}
