//! A publisher that is killed in the middle: every event that was confirmed is there afterwards.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use temps_store::sqlite::SqliteStore;
use temps_store::{AuditStore, JournalStore};

use crate::chain::record;
use crate::seal::{seal, verify};
use crate::suite::event;

/// Names the database to the child.
const DATABASE: &str = "TEMPS_TEST_CRASH_DATABASE";

#[test]
fn every_confirmed_event_survives_a_kill_in_the_middle_of_publishing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("temps.db");
    let mut confirmed = Vec::new();
    for round in 0..3 {
        let said = publish_and_kill(&path, 200 + round * 150);
        confirmed.extend(said);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = SqliteStore::open(&path).unwrap();
            for id in &confirmed {
                assert!(store.event(id).await.unwrap().is_some(), "{id} was confirmed and is lost");
            }
            store.publish(vec![event(&format!("after-{round}"))]).await.unwrap();
            let verdict = verify(&*store, vec![]).await;
            assert_eq!(verdict.wrong, None, "the audit chain is whole after a kill");
            assert!(verdict.rows.records > 0);
        });
    }
    assert!(confirmed.len() >= 1_000);
}

/// Lets a child publish until it has confirmed `count` events, and kills it. Returns all that it confirmed.
fn publish_and_kill(path: &Path, count: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_publishes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(DATABASE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut confirmed = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(id) = line.unwrap().strip_prefix("confirmed ") {
            confirmed.push(id.to_owned());
        }
        if confirmed.len() == count {
            child.kill().unwrap(); // SIGKILL; what it had still said is read below
        }
    }
    child.wait().unwrap();
    confirmed
}

#[test]
#[ignore = "the child of the test above"]
fn child_that_publishes_until_it_is_killed() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(Path::new(&path)).unwrap();
        let begin = *store.head().borrow();
        store.seal_audit(seal()).await.unwrap();
        let publishers: Vec<_> = (0..16)
            .map(|publisher| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in 0.. {
                        let id = format!("{begin}-{publisher}-{n}");
                        store.publish(vec![event(&id)]).await.unwrap();
                        store.append_audit(vec![record(n); 3]).await.unwrap();
                        let line = format!("confirmed {id}\n");
                        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.await.unwrap();
        }
    });
}
