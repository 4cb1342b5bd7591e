//! Tests of the engine itself: groups, savepoints, a full database, snapshots, schema versions, the file's mode.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use serde_json::json;
use temps_protocol::PluginEvent;

use super::{SqliteStore, journal};
use crate::{JournalStore, StoreError};

fn open() -> (tempfile::TempDir, Arc<SqliteStore>) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("temps.db")).unwrap();
    (dir, store)
}

fn event(id: &str) -> PluginEvent {
    PluginEvent {
        id: id.into(),
        event_type: "deployment.ready".into(),
        timestamp: chrono::Utc::now(),
        project_id: Some(1),
        data: json!({}),
    }
}

async fn count(store: &SqliteStore) -> i64 {
    let sql = "SELECT count(*) FROM journal";
    store.read("count", move |conn| Ok(conn.query_row(sql, [], |row| row.get(0))?)).await.unwrap()
}

/// Keeps the writer busy until the returned sender is dropped, so that what is written meanwhile forms one group.
async fn hold_writer(store: &Arc<SqliteStore>) -> std::sync::mpsc::Sender<()> {
    let (release, held) = std::sync::mpsc::channel();
    let (began, begin) = tokio::sync::oneshot::channel();
    let store = store.clone();
    tokio::spawn(async move {
        store
            .write("hold", move |_| {
                let _ = began.send(());
                let _ = held.recv();
                Ok(())
            })
            .await
    });
    begin.await.unwrap();
    release
}

#[tokio::test]
async fn a_failing_write_does_not_fail_the_others_of_its_group() {
    let (_dir, store) = open();
    let release = hold_writer(&store).await;
    let bad = store.write("fail", |tx| {
        journal::insert(tx, &event("half-way"))?;
        tx.execute("INSERT INTO nowhere VALUES (1)", [])?;
        Ok(())
    });
    let undone = store.write("refuse", |tx| {
        journal::insert(tx, &event("refused"))?;
        tx.roll_back();
        Ok("refused")
    });
    let panics = store.write("panic", |tx| -> Result<(), _> {
        journal::insert(tx, &event("panicked"))?;
        panic!("on purpose");
    });
    let good = store.publish(vec![event("good")]);
    let (bad, undone, panics, good, ()) = tokio::join!(bad, undone, panics, good, async { drop(release) });
    assert!(matches!(bad, Err(StoreError::Database { action: "fail", .. })), "{bad:?}");
    assert_eq!(undone, Ok("refused"));
    assert!(panics.is_err());
    let seq = good.unwrap()[0].seq;
    assert_eq!(count(&store).await, 1);
    assert_eq!(*store.head().borrow(), seq, "the head is what was kept");
    store.publish(vec![event("later")]).await.unwrap();
}

#[tokio::test]
async fn a_change_and_its_event_are_one_transaction() {
    let (_dir, store) = open();
    let mut head = store.head();
    let seq = store
        .write("change", |tx| {
            tx.execute("CREATE TABLE platform (x INTEGER)", [])?;
            Ok(journal::insert(tx, &event("with-change"))?.seq)
        })
        .await
        .unwrap();
    assert_eq!(*head.wait_for(|head| *head > 0).await.unwrap(), seq);
    assert_eq!(store.events_after(0, 10).await.unwrap()[0].event.id, "with-change");
}

#[tokio::test]
async fn a_full_database_refuses_writes_whole_and_recovers_by_itself() {
    let (_dir, store) = open();
    let limit =
        |pages: i64| store.write("limit", move |tx| Ok(tx.pragma_update(None, "max_page_count", pages)?));
    store.publish(vec![event("before")]).await.unwrap();
    limit(1).await.unwrap(); // SQLite takes the present size as the smallest limit.
    let mut full = None;
    for batch in 0..1000 {
        let events = (0..10).map(|n| PluginEvent {
            data: json!({"padding": "x".repeat(2000)}),
            ..event(&format!("{batch}-{n}"))
        });
        let before = count(&store).await;
        if let Err(error) = store.publish(events.collect()).await {
            assert_eq!(count(&store).await, before, "nothing is half-written");
            full = Some((error, before, batch));
            break;
        }
    }
    let (error, before, batch) = full.unwrap();
    assert_eq!(error, StoreError::Full);
    assert_eq!(*store.head().borrow(), before);
    limit(1_000_000).await.unwrap();
    store.publish(vec![event(&format!("{batch}-0"))]).await.unwrap();
    assert_eq!(count(&store).await, before + 1);
}

#[tokio::test]
async fn a_reader_sees_one_snapshot_and_does_not_hold_up_the_writer() {
    let (_dir, store) = open();
    let (began, begin) = tokio::sync::oneshot::channel();
    let (go_on, waiting) = std::sync::mpsc::channel::<()>();
    let reading = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .read("count twice", move |conn| {
                    let count =
                        || conn.query_row("SELECT count(*) FROM journal", [], |row| row.get::<_, i64>(0));
                    let first = count()?;
                    let _ = began.send(());
                    let _ = waiting.recv();
                    Ok((first, count()?))
                })
                .await
        }
    });
    begin.await.unwrap();
    store.publish(vec![event("meanwhile")]).await.unwrap();
    assert_eq!(count(&store).await, 1);
    drop(go_on);
    assert_eq!(reading.await.unwrap().unwrap(), (0, 0));
}

#[tokio::test]
async fn readers_cannot_write() {
    let (_dir, store) = open();
    let refused = store.read("write", |conn| Ok(conn.execute("DELETE FROM journal", [])?)).await;
    assert!(matches!(refused, Err(StoreError::Database { .. })));
}

#[tokio::test]
async fn a_schema_of_a_later_version_is_refused() {
    let (dir, store) = open();
    store
        .write("age", |tx| Ok(tx.execute("UPDATE schema_versions SET version = 99 WHERE door = 'host'", [])?))
        .await
        .unwrap();
    store.close().await;
    let refused = SqliteStore::open(&dir.path().join("temps.db")).unwrap_err();
    assert!(matches!(refused, StoreError::TooNew { found: 99, .. }), "{refused:?}");
}

#[tokio::test]
async fn only_the_owner_may_open_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("temps.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    store.publish(vec![event("one")]).await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log and the log's index");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("temps.db");
    std::fs::write(&path, "this is a letter, not a database".repeat(100)).unwrap();
    let refused = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(refused.contains("not a database"), "{refused}");
}

#[tokio::test]
async fn after_close_everything_says_closed_and_what_was_queued_is_there() {
    let (dir, store) = open();
    let release = hold_writer(&store).await;
    let queued = tokio::spawn({
        let store = store.clone();
        async move { store.publish(vec![event("queued")]).await }
    });
    tokio::task::yield_now().await;
    drop(release);
    queued.await.unwrap().unwrap();
    store.close().await;
    assert_eq!(store.publish(vec![event("late")]).await, Err(StoreError::Closed));
    assert_eq!(store.events_after(0, 1).await.unwrap_err(), StoreError::Closed);
    let again = SqliteStore::open(&dir.path().join("temps.db")).unwrap();
    assert_eq!(count(&again).await, 1);
}

#[tokio::test]
async fn a_damaged_database_is_named_as_such_and_left_as_it_is() {
    const PAGE: usize = 4096;
    let (dir, store) = open();
    let path = dir.path().join("copy.db");
    let whole = rusqlite::Connection::open(dir.path().join("temps.db")).unwrap();
    whole.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[PAGE..].fill(0xaa);
    std::fs::write(&path, &damaged).unwrap();
    let refused = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused:?}");
    assert!(refused.to_string().contains("restore it from a backup"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap()[PAGE..], damaged[PAGE..]);
    store.close().await;
}

#[tokio::test]
async fn what_the_first_schema_held_of_deliveries_is_kept_as_attempts_and_open_deliveries() {
    use crate::{AttemptFilter, AttemptResult, DeliveryFilter, DeliveryState, DeliveryStore, Via};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("temps.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../migrations/host/0001_begin.sql")).unwrap();
    old.execute_batch(
        "CREATE TABLE schema_versions (door TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT;
         INSERT INTO schema_versions VALUES ('host', 1);
         INSERT INTO journal VALUES (1, 'a', 'x.y', 7, 1000000, 2, '{}'), (2, 'b', 'x.y', NULL, 2000000, 4, '{}'),
                                    (3, 'c', 'x.z', NULL, 3000000, 6, '{}');
         INSERT INTO deliveries VALUES ('p', 0, 'gone', 1, 1, 'http', 'answered 200', 500000, 600000, 100),
                                       ('p', 1, 'a', 1, 2, 'http', 'answered 204', 1500000, 1600000, 100),
                                       ('p', 2, 'b', 3, 3, 'channel', 'plugin_crashed', 2500000, 2600000, NULL),
                                       ('p', 3, 'c', 2, 1, 'http', 'answered 500: no', 3500000, NULL, NULL),
                                       ('q', 3, 'c', 0, 1, 'channel', 'sent, and not read yet', 3500000, NULL, NULL);
         INSERT INTO cursors VALUES ('p', 2);",
    )
    .unwrap();
    drop(old);
    let store = SqliteStore::open(&path).unwrap();
    let attempts = store.attempts(AttemptFilter { limit: 10, ..AttemptFilter::default() }).await.unwrap();
    let told: Vec<_> =
        attempts.iter().map(|a| (&*a.event_id, &*a.event_type, a.attempt, a.result, a.via)).collect();
    assert_eq!(
        told,
        [
            ("gone", "", 1, AttemptResult::Settled, Via::Http),
            ("a", "x.y", 2, AttemptResult::Settled, Via::Http),
            ("b", "x.y", 3, AttemptResult::Dead, Via::Channel),
            ("c", "x.z", 1, AttemptResult::Failed, Via::Http),
        ]
    );
    let open = DeliveryFilter { limit: 10, ..DeliveryFilter::default() };
    let open =
        store.deliveries(open).await.unwrap().into_iter().filter(|d| d.state != DeliveryState::Settled);
    let told: Vec<_> = open
        .map(|d| (d.plugin, d.event_id, d.state, d.attempts, d.crashes, d.next_attempt_at.is_some()))
        .collect();
    assert_eq!(
        told,
        [
            ("p".into(), "b".into(), DeliveryState::Dead, 3, 3, false),
            ("p".into(), "c".into(), DeliveryState::Retrying, 1, 0, true),
            ("q".into(), "c".into(), DeliveryState::Sent, 0, 0, false),
        ]
    );
    assert_eq!(store.cursor("p").await.unwrap(), Some(2));
}
