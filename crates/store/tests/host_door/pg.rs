//! What only a server can suffer: it is killed, it ends sessions, its disk is full.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use temps_protocol::PluginEvent;
use temps_store::postgres::PostgresStore;
use temps_store::{
    AuditStore, DatabaseAddress, DeliveryStore, JournalStore, NewProjectRecord, PlatformStore, Store,
    StoreError,
};
use temps_testkit::postgres::Postgres;
use tokio::task::JoinHandle;

use crate::chain::record;
use crate::seal::{seal, verify};
use crate::suite::event;

/// Opens a store on a database of a server.
pub(crate) async fn open(
    server: &Postgres,
    database: &str,
    node: &str,
) -> Result<Arc<PostgresStore>, StoreError> {
    match server.url(database).parse().unwrap() {
        DatabaseAddress::Postgres(url) => PostgresStore::open(&url, node).await,
        DatabaseAddress::Sqlite(_) => unreachable!(),
    }
}

/// Everything that a host does at once, until it is told to stop: publishes, changes, records. What was confirmed is told.
struct Busy {
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<Vec<String>>>,
    recorder: JoinHandle<u64>,
}

impl Busy {
    fn begin(store: &Arc<PostgresStore>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let publishers =
            (0..4).map(|publisher| tokio::spawn(publish(store.clone(), stop.clone(), publisher)));
        let publishers = publishers.collect();
        let recorder = tokio::spawn(keep_records(store.clone(), stop.clone()));
        Self { stop, publishers, recorder }
    }

    /// Ends it. Returns the ids that were confirmed, and how many audit records.
    async fn end(self) -> (Vec<String>, u64) {
        self.stop.store(true, Ordering::Release);
        let mut confirmed = Vec::new();
        for publisher in self.publishers {
            confirmed.extend(publisher.await.unwrap());
        }
        (confirmed, self.recorder.await.unwrap())
    }
}

/// Publishes one event after the other, every other one together with a change; one whose fate is not known is published
/// again under its id.
async fn publish(store: Arc<PostgresStore>, stop: Arc<AtomicBool>, publisher: usize) -> Vec<String> {
    let mut confirmed = Vec::new();
    for n in 0.. {
        let id = format!("{publisher}-{n}");
        while !publish_one(&store, &id, n % 2 == 0).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        confirmed.push(id);
        if stop.load(Ordering::Acquire) {
            return confirmed;
        }
    }
    confirmed
}

async fn publish_one(store: &Arc<PostgresStore>, id: &str, with_change: bool) -> bool {
    let outcome = if with_change {
        let door: &dyn PlatformStore = &**store;
        let id = id.to_owned();
        let change = door.change(move |tx| {
            if tx.project_by_slug(&id)?.is_none() {
                tx.insert_project(&project(&id))?;
                tx.publish(&event(&id))?;
            }
            Ok(Ok::<_, ()>(()))
        });
        change.await.map(|_| ())
    } else {
        store.publish(vec![event(id)]).await.map(|_| ())
    };
    assert!(
        matches!(outcome, Ok(()) | Err(StoreError::Lost { .. } | StoreError::Unreachable { .. })),
        "a lost connection is said as that: {outcome:?}"
    );
    outcome.is_ok()
}

fn project(slug: &str) -> NewProjectRecord {
    NewProjectRecord {
        name: slug.into(),
        slug: slug.into(),
        repo_owner: String::new(),
        repo_name: String::new(),
        main_branch: "main".into(),
        preset: String::new(),
        created_at: chrono::Utc::now(),
    }
}

async fn keep_records(store: Arc<PostgresStore>, stop: Arc<AtomicBool>) -> u64 {
    let mut confirmed = 0;
    while !stop.load(Ordering::Acquire) {
        match store.append_audit(vec![record(0)]).await {
            Ok(()) => confirmed += 1,
            Err(StoreError::Lost { .. } | StoreError::Unreachable { .. }) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    confirmed
}

/// Waits until the head has moved on by so much, however often the connection is lost meanwhile.
async fn moves_on(store: &PostgresStore, by: i64) {
    let mut head = store.head();
    let until = *head.borrow() + by;
    head.wait_for(|head| *head >= until).await.unwrap();
}

async fn all_ids(store: &PostgresStore) -> Vec<String> {
    let (mut ids, mut place) = (Vec::new(), 0);
    loop {
        let page = store.events_after(place, 1_000).await.unwrap();
        let Some(last) = page.last() else { return ids };
        place = last.seq;
        ids.extend(page.into_iter().map(|entry| entry.event.id));
    }
}

/// Everything that was confirmed is there once, and each change with its event.
async fn is_whole(store: &Arc<PostgresStore>, confirmed: &[String], records: u64) {
    let ids = all_ids(store).await;
    let there: HashSet<&String> = ids.iter().collect();
    assert_eq!(there.len(), ids.len(), "an event stands twice");
    for id in confirmed {
        assert!(there.contains(id), "{id} was confirmed and is lost");
    }
    for project in store.projects(0, u32::MAX).await.unwrap() {
        assert!(there.contains(&project.slug), "the change {} is there without its event", project.slug);
    }
    let verdict = verify(&**store, vec![]).await;
    assert_eq!(verdict.wrong, None);
    // One whose fate was not known and that was not tried again by the store may stand there besides.
    assert!(verdict.rows.records >= records, "{} of {records} audit records", verdict.rows.records);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_the_midst_of_publishing_loses_nothing_that_was_confirmed() {
    let test = "a_server_killed_in_the_midst_of_publishing_loses_nothing_that_was_confirmed";
    let Some(server) = Postgres::start_with(test, &["fsync=on"]) else { return };
    let store = open(&server, &server.fresh_database(), "one").await.unwrap();
    store.seal_audit(seal()).await.unwrap();
    let busy = Busy::begin(&store);
    for _ in 0..3 {
        moves_on(&store, 50).await;
        server.kill();
        server.restart();
    }
    moves_on(&store, 50).await;
    let (confirmed, records) = busy.end().await;
    assert!(confirmed.len() >= 200);
    is_whole(&store, &confirmed, records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_the_server_ends_are_opened_again_and_nothing_confirmed_is_lost() {
    let test = "sessions_that_the_server_ends_are_opened_again_and_nothing_confirmed_is_lost";
    let Some(server) = Postgres::shared(test) else { return };
    let database = server.fresh_database();
    let store = open(server, &database, "one").await.unwrap();
    let other = open(server, &database, "two").await.unwrap();
    store.seal_audit(seal()).await.unwrap();
    let busy = Busy::begin(&store);
    for _ in 0..10 {
        moves_on(&other, 20).await;
        server.run_sql(
            "postgres",
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"),
        );
    }
    // Both follow on, each over a listening connection of its own that is new.
    moves_on(&other, 50).await;
    let (confirmed, records) = busy.end().await;
    is_whole(&store, &confirmed, records).await;
    let refused = open(server, &database, "one").await.unwrap_err();
    assert_eq!(refused, StoreError::NodeTaken { node: "one".into() }, "the name was taken again too");
}

#[tokio::test]
async fn a_read_whose_connection_is_gone_is_answered_over_another_one() {
    let Some(server) = Postgres::shared("a_read_whose_connection_is_gone") else { return };
    let database = server.fresh_database();
    let store = open(server, &database, "one").await.unwrap();
    store.publish(vec![event("a")]).await.unwrap();
    for _ in 0..5 {
        server.run_sql(
            "postgres",
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"),
        );
        assert!(store.event("a").await.unwrap().is_some());
        assert_eq!(store.cursor("hello").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_said_in_time_and_found_again() {
    let Some(server) = Postgres::start("a_server_that_is_gone_is_said_in_time_and_found_again") else {
        return;
    };
    let store = open(&server, &server.fresh_database(), "one").await.unwrap();
    store.publish(vec![event("before")]).await.unwrap();
    server.stop();
    let mut said = store.publish(vec![event("meanwhile")]).await;
    if matches!(said, Err(StoreError::Lost { .. })) {
        said = store.publish(vec![event("meanwhile")]).await;
    }
    assert!(matches!(said, Err(StoreError::Unreachable { .. })), "{said:?}");
    assert!(store.event("before").await.is_err());
    server.restart();
    store.publish(vec![event("after")]).await.unwrap();
    assert_eq!(all_ids(&store).await, ["before", "after"]);
}

/// Names the directory of the small disk to the child.
const SMALL_DISK: &str = "TEMPS_TEST_SMALL_DISK";

#[test]
fn a_server_whose_disk_is_full_refuses_publishes_whole_and_room_heals_it() {
    let test = "a_server_whose_disk_is_full_refuses_publishes_whole_and_room_heals_it";
    let namespace = ["--mount", "--propagation", "private", "--"];
    let may_mount =
        Command::new("unshare").args(namespace).args(["mount", "-t", "tmpfs", "tmpfs", "/tmp"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        return temps_testkit::skip::skip(test, "no private mount namespace for this user");
    }
    if Postgres::shared(test).is_none() {
        return;
    }
    // The server that the child starts lies in /tmp, which is small. This program may lie there as well, and is hidden then.
    let script = r#"exec 9<"$1" && mount -t tmpfs -o size=160m tmpfs /tmp &&
        exec /proc/self/fd/9 --exact pg::child_on_the_small_disk --ignored --nocapture"#;
    let status = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .env(SMALL_DISK, "/tmp")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
#[ignore = "the child of the test above"]
async fn child_on_the_small_disk() {
    let Some(place) = std::env::var_os(SMALL_DISK) else { return };
    let server = Postgres::start("child_on_the_small_disk").unwrap();
    let store = open(&server, &server.fresh_database(), "one").await.unwrap();
    let large = |id: String| PluginEvent { data: serde_json::json!({ "x": noise(200_000) }), ..event(&id) };
    store.publish(vec![large("before".into())]).await.unwrap();
    let ballast = std::path::Path::new(&place).join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    let filled = std::io::copy(&mut std::io::repeat(1), &mut file);
    assert!(filled.is_err(), "the disk is full");
    let mut confirmed = 1;
    let error = loop {
        match store.publish(vec![large(format!("full-{confirmed}"))]).await {
            Ok(_) => confirmed += 1,
            Err(error) => break error,
        }
        assert!(confirmed < 1_000, "the disk is not small");
    };
    assert_eq!(error, StoreError::Full);
    assert_eq!(all_ids(&store).await.len(), confirmed, "nothing is half-written");
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    store.publish(vec![large("room again".into())]).await.unwrap();
    assert_eq!(all_ids(&store).await.len(), confirmed + 1);
    store.close().await;
}

/// Text that does not compress.
fn noise(length: usize) -> String {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + u8::try_from(state % 90).unwrap())
    };
    (0..length).map(|_| letter()).collect()
}
