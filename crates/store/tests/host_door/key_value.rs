//! What every engine promises of plugins' key-value storage and configuration. Nothing in here knows which engine it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use temps_store::{
    ConfigRecord, HostStore, KvDeleted, KvEntry, KvPut, KvQuery, KvQuota, KvUsage, KvWritten,
    MAX_KV_PAGE_BYTES, Revision, StoredSetting,
};

type Store = Arc<dyn HostStore>;

const ROOMY: KvQuota = KvQuota { entries: 10_000, bytes: 10 << 20 };

/// A time that survives a database, which keeps microseconds.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn put(key: &str, value: &str) -> KvPut {
    KvPut { key: key.into(), value: value.into(), expires_at: None, expected: None }
}

async fn write(store: &Store, plugin: &str, put: KvPut) -> Revision {
    match store.kv_put(plugin, put, ROOMY, at(0)).await.unwrap() {
        KvWritten::Written(revision) => revision,
        other => panic!("not written: {other:?}"),
    }
}

async fn value(store: &Store, plugin: &str, key: &str, now: DateTime<Utc>) -> Option<String> {
    store.kv_get(plugin, key, now).await.unwrap().and_then(|entry| entry.value)
}

pub(crate) async fn an_entry_comes_back_as_it_was_written_and_its_revision_grows(store: Store) {
    let ends = Some(at(60));
    let first = write(&store, "a", KvPut { expires_at: ends, ..put("k/ü", r#"{"a":[1,"\u00fc"]}"#) }).await;
    let read = store.kv_get("a", "k/ü", at(0)).await.unwrap().unwrap();
    let expected = KvEntry {
        key: "k/ü".into(),
        value: Some(r#"{"a":[1,"\u00fc"]}"#.into()),
        revision: first,
        updated_at: at(0),
        expires_at: ends,
    };
    assert_eq!(read, expected);
    let second = write(&store, "a", put("k/ü", "null")).await;
    assert!(first > 0 && second > first);
    assert_eq!(store.kv_get("a", "k/ü", at(0)).await.unwrap().unwrap().expires_at, None);
    assert_eq!(store.kv_delete("a", "k/ü", None, at(0)).await.unwrap(), KvDeleted::Deleted);
    assert_eq!(store.kv_delete("a", "k/ü", None, at(0)).await.unwrap(), KvDeleted::Absent);
    assert_eq!(store.kv_get("a", "k/ü", at(0)).await.unwrap(), None);
    let third = write(&store, "a", put("k/ü", "1")).await;
    assert!(
        third > second,
        "a revision is never given twice, so who read the old entry does not take the new for it"
    );
}

pub(crate) async fn of_many_writers_that_expect_the_same_revision_exactly_one_wins(store: Store) {
    for round in 0..5 {
        let present = store.kv_get("a", "k", at(0)).await.unwrap().map_or(0, |entry| entry.revision);
        let writers: Vec<_> = (0..16)
            .map(|n| {
                let store = store.clone();
                let attempt = KvPut { expected: Some(present), ..put("k", &format!("{round}{n}")) };
                tokio::spawn(async move { store.kv_put("a", attempt, ROOMY, at(0)).await.unwrap() })
            })
            .collect();
        let mut won = Vec::new();
        let mut lost = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                KvWritten::Written(revision) => won.push(revision),
                KvWritten::Conflict(current) => lost.push(current),
                KvWritten::QuotaExceeded(usage) => panic!("{usage:?}"),
            }
        }
        assert_eq!((won.len(), lost.len()), (1, 15));
        assert!(lost.iter().all(|current| *current == won[0]), "who lost is told the revision that won");
    }
    let stale = store.kv_delete("a", "k", Some(1), at(0)).await.unwrap();
    let current = store.kv_get("a", "k", at(0)).await.unwrap().unwrap().revision;
    assert_eq!(stale, KvDeleted::Conflict(current));
    assert_eq!(store.kv_delete("a", "k", Some(current), at(0)).await.unwrap(), KvDeleted::Deleted);
    assert_eq!(store.kv_delete("a", "k", Some(current), at(0)).await.unwrap(), KvDeleted::Conflict(0));
}

pub(crate) async fn the_quota_holds_while_many_write(store: Store) {
    let quota = KvQuota { entries: 50, bytes: 1_000 };
    let writers: Vec<_> = (0..40)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                // 2 bytes of key and 40 of value: 23 of them fit.
                let put = put(&format!("{n:02}"), &format!("\"{}\"", "x".repeat(38)));
                matches!(store.kv_put("a", put, quota, at(0)).await.unwrap(), KvWritten::Written(_))
            })
        })
        .collect();
    let mut written = 0;
    for writer in writers {
        written += u64::from(writer.await.unwrap());
    }
    assert_eq!(written, 23);
    assert_eq!(store.kv_usage("a", at(0)).await.unwrap(), KvUsage { entries: 23, bytes: 23 * 42 });
    let refused = store.kv_put("a", put("more", &"1".repeat(40)), quota, at(0)).await.unwrap();
    assert_eq!(refused, KvWritten::QuotaExceeded(KvUsage { entries: 23, bytes: 23 * 42 }));
    assert_eq!(value(&store, "a", "more", at(0)).await, None);
    let few = KvQuota { entries: 23, ..ROOMY };
    let refused = store.kv_put("a", put("one", "1"), few, at(0)).await.unwrap();
    assert!(matches!(refused, KvWritten::QuotaExceeded(_)), "entries are bounded too: {refused:?}");
    let other = store.kv_put("b", put("more", &"1".repeat(40)), quota, at(0)).await.unwrap();
    assert_eq!(other, KvWritten::Written(1), "one plugin's storage takes nothing from another's");
}

pub(crate) async fn what_has_ended_is_not_there_and_is_swept_in_small_commits(store: Store) {
    let ending = |key: &str, end: i64| KvPut { expires_at: Some(at(end)), ..put(key, "1") };
    write(&store, "a", ending("short", 10)).await;
    write(&store, "a", put("stays", "2")).await;
    assert_eq!(value(&store, "a", "short", at(9)).await.as_deref(), Some("1"));
    assert_eq!(value(&store, "a", "short", at(10)).await, None, "gone at this very moment, swept or not");
    let query = KvQuery { limit: 10, ..KvQuery::default() };
    assert_eq!(store.kv_list("a", query, at(10)).await.unwrap().entries.len(), 1);
    assert_eq!(store.kv_usage("a", at(10)).await.unwrap(), KvUsage { entries: 1, bytes: 6 });
    assert_eq!(store.kv_delete("a", "short", None, at(10)).await.unwrap(), KvDeleted::Absent);
    let must_not_exist = KvPut { expected: Some(0), ..put("short", "3") };
    let again = store.kv_put("a", must_not_exist, ROOMY, at(10)).await.unwrap();
    assert!(matches!(again, KvWritten::Written(3)), "{again:?}");

    for n in 0..1_200 {
        write(&store, if n % 2 == 0 { "b" } else { "c" }, ending(&format!("{n:04}"), 20)).await;
    }
    let tight = KvQuota { entries: 600, ..ROOMY };
    assert!(matches!(
        store.kv_put("c", put("x", "1"), tight, at(19)).await.unwrap(),
        KvWritten::QuotaExceeded(_)
    ));
    assert!(matches!(store.kv_put("c", put("x", "1"), tight, at(20)).await.unwrap(), KvWritten::Written(_)));
    let mut commits = Vec::new();
    loop {
        match store.kv_sweep(at(20)).await.unwrap() {
            0 => break,
            removed => commits.push(removed),
        }
    }
    assert_eq!(commits.iter().sum::<u64>(), 600, "those of c went when it needed the room");
    assert!(commits.iter().all(|removed| *removed <= 500), "{commits:?}");
    assert_eq!(store.kv_usage("b", at(0)).await.unwrap(), KvUsage::default());
    assert_eq!(value(&store, "a", "stays", at(20)).await.as_deref(), Some("2"));
}

pub(crate) async fn a_list_is_paged_by_prefix_and_bounded_in_bytes(store: Store) {
    for key in ["b", "a/1", "a/2", "a/10", "a/\u{10ffff}z", "a0", "ä"] {
        write(&store, "a", put(key, "true")).await;
    }
    let page = async |prefix: &str, after: Option<String>, limit| {
        let query = KvQuery { prefix: prefix.into(), after, limit, values: true };
        store.kv_list("a", query, at(0)).await.unwrap()
    };
    let keys = |entries: &[KvEntry]| entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
    let first = page("a/", None, 2).await;
    assert_eq!((keys(&first.entries), first.more), (vec!["a/1".to_owned(), "a/10".into()], true));
    assert_eq!(first.entries[0].value.as_deref(), Some("true"));
    let second = page("a/", first.entries.last().map(|entry| entry.key.clone()), 2).await;
    assert_eq!((keys(&second.entries), second.more), (vec!["a/2".to_owned(), "a/\u{10ffff}z".into()], false));
    assert_eq!(page("", None, 100).await.entries.len(), 7);
    assert_eq!(keys(&page("", None, 100).await.entries)[6], "ä", "by the bytes of the keys");
    let bare = KvQuery { limit: 1, ..KvQuery::default() };
    assert_eq!(store.kv_list("a", bare, at(0)).await.unwrap().entries[0].value, None);

    let large = format!("\"{}\"", "x".repeat(60_000));
    for n in 0..20 {
        write(&store, "large", put(&n.to_string(), &large)).await;
    }
    let query = KvQuery { limit: 100, values: true, ..KvQuery::default() };
    let page = store.kv_list("large", query, at(0)).await.unwrap();
    let bytes: usize = page.entries.iter().filter_map(|entry| entry.value.as_ref()).map(String::len).sum();
    assert!(page.more && bytes <= MAX_KV_PAGE_BYTES && page.entries.len() > 5, "{}", page.entries.len());
}

pub(crate) async fn a_plugin_sees_and_clears_only_its_own_entries(store: Store) {
    write(&store, "a", put("k", "1")).await;
    write(&store, "b", put("k", "2")).await;
    assert_eq!(value(&store, "b", "k", at(0)).await.as_deref(), Some("2"));
    assert_eq!(store.kv_delete("c", "k", None, at(0)).await.unwrap(), KvDeleted::Absent);
    assert_eq!(store.kv_clear("a").await.unwrap(), 1);
    assert_eq!(value(&store, "a", "k", at(0)).await, None);
    assert_eq!(store.kv_usage("a", at(0)).await.unwrap(), KvUsage::default());
    assert_eq!(value(&store, "b", "k", at(0)).await.as_deref(), Some("2"));
    assert_eq!(write(&store, "a", put("k", "3")).await, 2, "clearing does not begin the count anew");
}

/// One thing that a plugin does to its storage.
#[derive(Debug, Clone)]
enum Act {
    Put { key: u8, bytes: usize, ends: Option<i64>, expected: Option<Revision> },
    Delete { key: u8, expected: Option<Revision> },
    Wait(i64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let revision = prop::option::weighted(0.4, 0_i64..8);
    let ends = prop::option::weighted(0.4, 1_i64..20);
    prop::collection::vec(
        prop_oneof![
            4 => (0_u8..6, 1_usize..60, ends, revision.clone())
                .prop_map(|(key, bytes, ends, expected)| Act::Put { key, bytes, ends, expected }),
            2 => (0_u8..6, revision).prop_map(|(key, expected)| Act::Delete { key, expected }),
            1 => (1_i64..10).prop_map(Act::Wait),
        ],
        1..40,
    )
}

/// What a storage must be, as plain as it can be said.
#[derive(Default)]
struct Model {
    entries: BTreeMap<String, (String, Revision, Option<i64>)>,
    writes: Revision,
    now: i64,
}

impl Model {
    fn revision(&self, key: &str) -> Revision {
        self.entries.get(key).map_or(0, |(_, revision, _)| *revision)
    }

    fn usage(&self) -> KvUsage {
        let bytes = self.entries.iter().map(|(key, (value, ..))| (key.len() + value.len()) as u64).sum();
        KvUsage { entries: self.entries.len() as u64, bytes }
    }

    fn wait(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now;
        self.entries.retain(|_, (_, _, ends)| ends.is_none_or(|ends| ends > now));
    }

    fn put(&mut self, put: &KvPut, ends: Option<i64>, quota: KvQuota) -> KvWritten {
        let present = self.revision(&put.key);
        if put.expected.is_some_and(|expected| expected != present) {
            return KvWritten::Conflict(present);
        }
        let before = (self.entries.clone(), self.usage());
        self.entries.insert(put.key.clone(), (put.value.clone(), self.writes + 1, ends));
        let after = self.usage();
        if after.entries > quota.entries || after.bytes > quota.bytes {
            self.entries = before.0;
            return KvWritten::QuotaExceeded(before.1);
        }
        self.writes += 1;
        KvWritten::Written(self.writes)
    }

    fn delete(&mut self, key: &str, expected: Option<Revision>) -> KvDeleted {
        match (self.revision(key), expected) {
            (0, None | Some(0)) => KvDeleted::Absent,
            (present, Some(expected)) if present != expected => KvDeleted::Conflict(present),
            _ => {
                self.entries.remove(key);
                KvDeleted::Deleted
            }
        }
    }
}

pub(crate) async fn whatever_a_plugin_does_its_storage_is_as_the_model_says(store: Store) {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let rounds = std::cell::Cell::new(0);
        let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(config).run(&acts(), |acts| {
            rounds.set(rounds.get() + 1);
            runtime.block_on(follow(&store, &format!("model-{}", rounds.get()), acts))
        });
        outcome.unwrap();
    });
}

async fn follow(store: &Store, plugin: &str, acts: Vec<Act>) -> Result<(), TestCaseError> {
    let quota = KvQuota { entries: 4, bytes: 120 };
    let mut model = Model::default();
    for act in acts {
        let now = at(model.now);
        match act {
            Act::Wait(seconds) => model.wait(seconds),
            Act::Put { key, bytes, ends, expected } => {
                let ends = ends.map(|ends| model.now + ends);
                let put = KvPut {
                    key: format!("k{key}"),
                    value: "1".repeat(bytes),
                    expires_at: ends.map(at),
                    expected,
                };
                let expected = model.put(&put, ends, quota);
                prop_assert_eq!(store.kv_put(plugin, put, quota, now).await.unwrap(), expected);
            }
            Act::Delete { key, expected } => {
                let key = format!("k{key}");
                let wanted = model.delete(&key, expected);
                prop_assert_eq!(store.kv_delete(plugin, &key, expected, now).await.unwrap(), wanted);
            }
        }
        prop_assert_eq!(store.kv_usage(plugin, at(model.now)).await.unwrap(), model.usage());
        let query = KvQuery { limit: 100, values: true, ..KvQuery::default() };
        let listed = store.kv_list(plugin, query, at(model.now)).await.unwrap().entries;
        let listed: BTreeMap<_, _> = listed
            .into_iter()
            .map(|entry| (entry.key, (entry.value.unwrap_or_default(), entry.revision)))
            .collect();
        let wanted: BTreeMap<_, _> = model
            .entries
            .iter()
            .map(|(key, (value, revision, _))| (key.clone(), (value.clone(), *revision)))
            .collect();
        prop_assert_eq!(listed, wanted);
    }
    Ok(())
}

pub(crate) async fn a_configuration_comes_back_and_of_two_changes_to_one_revision_one_wins(store: Store) {
    assert_eq!(store.config("a").await.unwrap(), None);
    let record = |revision, by: &str| ConfigRecord {
        settings: BTreeMap::from([
            ("channel".to_owned(), StoredSetting::Plain(json!({"name": "#ops", "n": 1.5}))),
            ("webhook_url".to_owned(), StoredSetting::Sealed("AAEC".into())),
        ]),
        revision,
        updated_at: at(revision),
        updated_by: by.into(),
    };
    assert!(!store.put_config("a", record(2, "early")).await.unwrap(), "the first revision is 1");
    assert!(store.put_config("a", record(1, "alice")).await.unwrap());
    assert_eq!(store.config("a").await.unwrap(), Some(record(1, "alice")));
    let writers: Vec<_> = ["bob", "carol", "dave"]
        .map(|by| {
            let (store, record) = (store.clone(), record(2, by));
            tokio::spawn(async move { store.put_config("a", record).await.unwrap().then_some(by) })
        })
        .into_iter()
        .collect();
    let mut won = Vec::new();
    for writer in writers {
        won.extend(writer.await.unwrap());
    }
    assert_eq!(won.len(), 1, "{won:?}");
    assert_eq!(store.config("a").await.unwrap(), Some(record(2, won[0])));
    assert_eq!(store.config("b").await.unwrap(), None);
    assert!(!store.node().is_empty());
}
