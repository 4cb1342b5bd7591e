//! Tests of the engine itself: the order of commits, groups, changes that fail, schema versions, what errors mean.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use temps_protocol::PluginEvent;
use temps_testkit::postgres::Postgres;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{Conn, Connector};
use super::{PostgresStore, journal};
use crate::host::Encoded;
use crate::{DatabaseAddress, JournalStore, PlatformStore, PlatformTx, PostgresUrl, Seq, Store, StoreError};

fn url(server: &Postgres, database: &str) -> PostgresUrl {
    match server.url(database).parse().unwrap() {
        DatabaseAddress::Postgres(url) => url,
        DatabaseAddress::Sqlite(_) => unreachable!(),
    }
}

/// A store on a database of its own, with its server and its URL; `None` on a machine without a server.
async fn open(test: &str) -> Option<(&'static Postgres, PostgresUrl, Arc<PostgresStore>)> {
    let server = Postgres::shared(test)?;
    let url = url(server, &server.fresh_database());
    let store = PostgresStore::open(&url, "one").await.unwrap();
    Some((server, url, store))
}

/// A connection beside the store, for what another host might do at the worst moment.
async fn connect(url: &PostgresUrl) -> Conn {
    let (head, _) = watch::channel(0);
    Connector::new(url, "beside", head).unwrap().connect(Instant::now()).await.unwrap()
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

async fn append(conn: &Conn, id: &str) -> Seq {
    journal::append(conn, "beside", &[&Encoded::new(&event(id)).unwrap()]).await.unwrap()[0].seq
}

/// Reads on from a place, as a host does whenever the head moves, until `count` events were read.
async fn follow(store: Arc<PostgresStore>, count: usize) -> Vec<String> {
    let mut head = store.head();
    let (mut read, mut place) = (Vec::new(), 0);
    while read.len() < count {
        head.wait_for(|head| *head > place).await.unwrap();
        for entry in store.events_after(place, 100).await.unwrap() {
            place = entry.seq;
            read.push(entry.event.id);
        }
    }
    read
}

#[tokio::test]
async fn what_commits_first_stands_first_and_a_reader_that_follows_loses_nothing() {
    let test = "what_commits_first_stands_first_and_a_reader_that_follows_loses_nothing";
    let Some((_, url, store)) = open(test).await else { return };
    let reader = tokio::spawn(follow(store.clone(), 4));
    let (first, second) = (connect(&url).await, connect(&url).await);
    // Both have begun, and have an identity that others see, before either one publishes.
    for conn in [&first, &second] {
        conn.batch("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    }
    let of_second = append(&second, "began second").await;
    second.batch("COMMIT").await.unwrap();
    let of_store = store.publish(vec![event("in between")]).await.unwrap()[0].seq;
    let of_first = append(&first, "began first").await;
    // Whoever publishes now waits for the first to commit: its place would otherwise be read, and the first's be passed.
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.publish(vec![event("came later")]).await.unwrap()[0].seq }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                 AND datname = current_database()";
    while connect(&url).await.one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*store.head().borrow(), of_store, "nothing is announced before its commit");
    first.batch("COMMIT").await.unwrap();
    let of_late = waiting.await.unwrap();
    assert!(of_second < of_store && of_store < of_first && of_first < of_late);
    assert_eq!(reader.await.unwrap(), ["began second", "in between", "began first", "came later"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_on_one_database_read_what_all_of_them_publish_in_one_order() {
    let test = "hosts_on_one_database_read_what_all_of_them_publish_in_one_order";
    let Some((_, url, one)) = open(test).await else { return };
    let two = PostgresStore::open(&url, "two").await.unwrap();
    let readers = [one.clone(), two.clone()].map(|store| tokio::spawn(follow(store, 400)));
    let publishers = (0..8).map(|publisher| {
        let store = if publisher % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move {
            for n in 0..50 {
                store.publish(vec![event(&format!("{publisher}-{n}"))]).await.unwrap();
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    let [by_one, by_two] = readers;
    let (by_one, by_two) = (by_one.await.unwrap(), by_two.await.unwrap());
    assert_eq!(by_one, by_two);
    assert_eq!(by_one.into_iter().collect::<HashSet<_>>().len(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_that_come_together_share_a_commit() {
    let Some((_, url, store)) = open("publishes_that_come_together_share_a_commit").await else { return };
    let publishers = (0..200).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.publish(vec![event(&n.to_string())]).await.unwrap() })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    let sql = "SELECT count(*), count(DISTINCT xmin::TEXT) FROM journal";
    let row = connect(&url).await.one(sql, &[]).await.unwrap();
    let (events, commits): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(events, 200);
    assert!(commits < 100, "{commits} commits for {events} events");
}

#[tokio::test]
async fn a_write_that_the_server_refuses_does_not_fail_the_others_of_its_group() {
    let test = "a_write_that_the_server_refuses_does_not_fail_the_others_of_its_group";
    let Some((_, url, store)) = open(test).await else { return };
    // While somebody else holds the journal's end, what is published forms one group behind the first.
    let holder = connect(&url).await;
    holder.batch("BEGIN; SELECT FROM journal_head FOR UPDATE").await.unwrap();
    let publish = |id: &str| store.publish(vec![event(id)]);
    let (first, good, bad, other, ()) =
        tokio::join!(publish("first"), publish("good"), publish("zero \0"), publish("other"), async {
            tokio::task::yield_now().await;
            holder.batch("COMMIT").await.unwrap();
        });
    assert!(first.is_ok() && good.is_ok() && other.is_ok(), "{first:?} {good:?} {other:?}");
    assert!(matches!(bad, Err(StoreError::Database { action: "publish an event", .. })), "{bad:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_fails_or_panics_leaves_nothing_and_does_not_fail_the_others_of_its_group() {
    let test = "a_change_that_fails_or_panics_leaves_nothing_and_does_not_fail_the_others_of_its_group";
    let Some((_, url, store)) = open(test).await else { return };
    let holder = connect(&url).await;
    holder.batch("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('temps platform', 0))").await.unwrap();
    let door: &dyn PlatformStore = &*store;
    let first = door.change(|tx| Ok(Ok::<_, ()>(tx.publish(&event("first"))?)));
    // It does not look at what a statement returned, and goes on.
    let careless = door.change(|tx| {
        tx.publish(&event("careless"))?;
        let _ = tx.insert_project(&project("taken"));
        let _ = tx.insert_project(&project("taken"));
        let after = tx.project_by_slug("taken");
        assert!(after.is_err(), "nothing is shown of a transaction that failed: {after:?}");
        Ok(Ok::<_, ()>(()))
    });
    let panics = door.change(|tx| -> Result<Result<(), ()>, _> {
        tx.insert_project(&project("panicked"))?;
        panic!("on purpose");
    });
    let good = door.change(|tx| {
        tx.publish(&event("good"))?;
        Ok(Ok::<_, ()>(tx.insert_project(&project("good"))?))
    });
    let (first, careless, panics, good, ()) = tokio::join!(first, careless, panics, good, async {
        tokio::task::yield_now().await;
        holder.batch("COMMIT").await.unwrap();
    });
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(careless, Err(StoreError::Database { .. })), "{careless:?}");
    assert!(panics.is_err());
    assert_eq!(store.project_by_slug("good").await.unwrap(), Some(good.unwrap().unwrap()));
    assert_eq!(store.project_by_slug("taken").await.unwrap(), None);
    assert_eq!(store.project_by_slug("panicked").await.unwrap(), None);
    assert_eq!(follow(store.clone(), 2).await, ["first", "good"]);
}

fn project(slug: &str) -> crate::NewProjectRecord {
    crate::NewProjectRecord {
        name: slug.into(),
        slug: slug.into(),
        repo_owner: String::new(),
        repo_name: String::new(),
        main_branch: "main".into(),
        preset: String::new(),
        created_at: chrono::Utc::now(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_changes_that_read_before_they_write_one_sees_what_the_other_wrote() {
    let test = "of_two_changes_that_read_before_they_write_one_sees_what_the_other_wrote";
    let Some((_, url, one)) = open(test).await else { return };
    let two = PostgresStore::open(&url, "two").await.unwrap();
    let makes = |store: Arc<PostgresStore>, slug: String| async move {
        let door: &dyn PlatformStore = &*store;
        let change = move |tx: &dyn PlatformTx| match tx.project_by_slug(&slug)? {
            Some(_) => Ok(Err(())),
            None => Ok(Ok(tx.insert_project(&project(&slug))?)),
        };
        door.change(change).await.unwrap().is_ok()
    };
    for n in 0..20 {
        let (a, b) = (makes(one.clone(), n.to_string()), makes(two.clone(), n.to_string()));
        let (a, b) = tokio::join!(a, b);
        assert!(a != b, "exactly one of them made it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_start_at_once_on_an_empty_database_take_each_step_once() {
    let test = "hosts_that_start_at_once_on_an_empty_database_take_each_step_once";
    let Some(server) = Postgres::shared(test) else { return };
    let url = url(server, &server.fresh_database());
    let opened = (0..5).map(|n| {
        let url = url.clone();
        tokio::spawn(async move { PostgresStore::open(&url, &format!("host-{n}")).await })
    });
    for store in opened.collect::<Vec<_>>() {
        store.await.unwrap().unwrap().publish(vec![event("once")]).await.unwrap();
    }
}

#[tokio::test]
async fn a_schema_of_a_later_version_is_refused() {
    let Some((_, url, store)) = open("a_schema_of_a_later_version_is_refused").await else { return };
    store.close().await;
    let beside = connect(&url).await;
    beside.batch("UPDATE schema_versions SET version = 99 WHERE door = 'host'").await.unwrap();
    let refused = PostgresStore::open(&url, "one").await.unwrap_err();
    assert!(matches!(refused, StoreError::TooNew { found: 99, .. }), "{refused:?}");
}

#[tokio::test]
async fn two_hosts_with_one_name_are_refused_and_the_name_is_free_when_its_host_ends() {
    let test = "two_hosts_with_one_name_are_refused_and_the_name_is_free_when_its_host_ends";
    let Some((_, url, store)) = open(test).await else { return };
    let refused = PostgresStore::open(&url, "one").await.unwrap_err();
    assert_eq!(refused, StoreError::NodeTaken { node: "one".into() });
    assert!(refused.to_string().contains("`node`"), "{refused}");
    store.close().await;
    assert_eq!(store.publish(vec![event("late")]).await, Err(StoreError::Closed));
    assert_eq!(store.events_after(0, 1).await.unwrap_err(), StoreError::Closed);
    let again = PostgresStore::open(&url, "one").await.unwrap();
    drop(again);
    PostgresStore::open(&url, "one").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_reached_or_used_is_said_without_the_password() {
    let test = "what_cannot_be_reached_or_used_is_said_without_the_password";
    let Some(server) = Postgres::shared(test) else { return };
    let password = server.password();
    let refused = async |text: String| {
        let DatabaseAddress::Postgres(url) = text.parse().unwrap() else { unreachable!() };
        let error = PostgresStore::open(&url, "one").await.unwrap_err();
        assert!(!format!("{error} {error:?} {url:?}").contains(password), "{error}");
        error
    };
    let nobody = refused(format!("postgres://temps:{password}@127.0.0.1:1/temps")).await;
    assert!(matches!(nobody, StoreError::Unreachable { .. }), "{nobody:?}");
    let wrong = refused(server.url("postgres").replace(password, "wrong")).await;
    assert!(wrong.to_string().contains("authentication"), "{wrong}");
    let missing = refused(server.url("no_such_database")).await;
    assert!(missing.to_string().contains("does not exist"), "{missing}");
    let mode = refused(format!("{}?sslmode=maybe", server.url("postgres"))).await;
    assert!(mode.to_string().contains("verify-full"), "{mode}");
    let plain = refused(format!("{}?sslmode=require", server.url("postgres"))).await;
    assert!(plain.to_string().contains("TLS"), "the server offers no encryption: {plain}");
}

#[tokio::test]
async fn what_only_stood_in_the_way_is_said_as_a_database_that_is_away_and_a_wrong_statement_is_not() {
    let Some((_, url, _store)) = open("what_only_stood_in_the_way_is_said_as_that").await else { return };
    let conn = connect(&url).await;
    let raised = async |code: &str| {
        let sql = format!("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$");
        conn.batch(&sql).await.unwrap_err()
    };
    // A lock, a statement's time, a deadlock, an order that cannot be kept, a server that just became a standby.
    for code in ["55P03", "57014", "40P01", "40001", "25006"] {
        let said = raised(code).await;
        assert!(matches!(said, StoreError::Unreachable { .. }), "{code}: {said:?}");
    }
    for code in ["57P01", "57P03", "53300", "08006"] {
        let said = raised(code).await;
        assert!(matches!(said, StoreError::Lost { .. }), "{code}: {said:?}");
    }
    assert_eq!(raised("53100").await, StoreError::Full);
    let said = raised("42601").await;
    assert!(matches!(&said, StoreError::Database { reason, .. } if reason.contains("42601")), "{said:?}");
}
