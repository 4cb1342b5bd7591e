//! What every engine behind the host's door promises. Nothing in here knows which engine it is.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use temps_protocol::PluginEvent;
use temps_store::{
    AttemptFilter, AuditFilter, AuditRecord, CursorMove, DeliveryFilter, DeliveryNews, DeliveryState,
    GrantRecord, HostStore, MAX_PAGE_BYTES, OpenChange, PluginRecord, Retention, Seq,
};

pub(crate) use crate::chain::{
    another_key_and_heads_of_another_chain_are_found,
    delivery_attempts_are_in_the_chain_and_retention_cuts_them_alone,
    every_commit_of_the_trail_has_a_link_and_the_chain_verifies,
    many_writers_at_the_same_time_make_one_chain, retention_cuts_whole_links_and_what_is_left_verifies,
    retention_during_a_verification_does_not_look_like_a_stranger,
    what_was_there_before_the_chain_is_said_to_be_outside_of_it,
};
pub(crate) use crate::key_value::{
    a_configuration_comes_back_and_of_two_changes_to_one_revision_one_wins,
    a_list_is_paged_by_prefix_and_bounded_in_bytes, a_plugin_sees_and_clears_only_its_own_entries,
    an_entry_comes_back_as_it_was_written_and_its_revision_grows,
    of_many_writers_that_expect_the_same_revision_exactly_one_wins, the_quota_holds_while_many_write,
    what_has_ended_is_not_there_and_is_swept_in_small_commits,
    whatever_a_plugin_does_its_storage_is_as_the_model_says,
};
mod deliveries;

pub(crate) use deliveries::*;

type Store = Arc<dyn HostStore>;

/// A time that survives a database, which keeps microseconds.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).unwrap()
}

pub(crate) fn event(id: &str) -> PluginEvent {
    PluginEvent {
        id: id.into(),
        event_type: "deployment.succeeded".into(),
        timestamp: now(),
        project_id: Some(42),
        data: json!({"url": "https://myapp.example.com", "text": "naïve \u{1F980} \"quoted\""}),
    }
}

async fn publish(store: &Store, id: &str) -> Seq {
    store.publish(vec![event(id)]).await.unwrap()[0].seq
}

async fn all_ids(store: &Store) -> Vec<String> {
    let mut ids = Vec::new();
    let mut place = 0;
    loop {
        let page = store.events_after(place, 100).await.unwrap();
        let Some(last) = page.last() else { return ids };
        place = last.seq;
        ids.extend(page.into_iter().map(|entry| entry.event.id));
    }
}

pub(crate) async fn publishing_twice_with_one_id_is_publishing_once(store: Store) {
    let first = store.publish(vec![event("a")]).await.unwrap()[0];
    let changed = PluginEvent { data: json!({"other": true}), ..event("a") };
    let outcome = store.publish(vec![changed, event("b"), event("b")]).await.unwrap();
    assert!(!first.duplicate);
    assert_eq!((outcome[0].seq, outcome[0].duplicate), (first.seq, true));
    assert!(!outcome[1].duplicate);
    assert_eq!((outcome[2].seq, outcome[2].duplicate), (outcome[1].seq, true));
    assert_eq!(all_ids(&store).await, ["a", "b"]);
    assert_eq!(store.event("a").await.unwrap().unwrap().event.data, event("a").data);
}

pub(crate) async fn places_grow_and_the_order_is_kept_whatever_is_published(store: Store) {
    let batches = prop::collection::vec(prop::collection::vec(0_u8..30, 0..8), 1..8);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let rounds = std::cell::Cell::new(0);
        let mut runner =
            TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&batches, |batches| {
            rounds.set(rounds.get() + 1);
            runtime.block_on(publish_batches(&store, rounds.get(), batches));
            Ok(())
        });
        outcome.unwrap();
    });
}

async fn publish_batches(store: &Store, round: u32, batches: Vec<Vec<u8>>) {
    let begin = *store.head().borrow();
    let mut expected: Vec<String> = Vec::new();
    let mut last = begin;
    for batch in batches {
        let ids: Vec<_> = batch.iter().map(|id| format!("{round}-{id}")).collect();
        let outcome = store.publish(ids.iter().map(|id| event(id)).collect()).await.unwrap();
        for (id, published) in ids.into_iter().zip(outcome) {
            assert_eq!(published.duplicate, expected.contains(&id));
            if !published.duplicate {
                assert!(published.seq > last);
                last = published.seq;
                expected.push(id);
            }
        }
        assert_eq!(*store.head().borrow(), last);
    }
    let entries = store.events_after(begin, 1_000).await.unwrap();
    let found: Vec<_> = entries.iter().map(|entry| entry.event.id.clone()).collect();
    assert_eq!(found, expected);
}

pub(crate) async fn publishers_at_the_same_time_lose_nothing(store: Store) {
    let publishers = (0..20).map(|publisher| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut last = 0;
            for n in 0..25 {
                let seq = publish(&store, &format!("{publisher}-{n}")).await;
                assert!(seq > last, "a publisher's own order is kept");
                last = seq;
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    let ids = all_ids(&store).await;
    assert_eq!(ids.len(), 500);
    assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), 500);
}

pub(crate) async fn the_head_is_announced_after_the_commit(store: Store) {
    let mut head = store.head();
    assert_eq!(*head.borrow_and_update(), 0);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move {
            head.changed().await.unwrap();
            let seq = *head.borrow();
            store.events_after(seq - 1, 1).await.unwrap()
        }
    });
    let seq = publish(&store, "a").await;
    assert_eq!(waiting.await.unwrap()[0].seq, seq, "what was announced can be read");
}

pub(crate) async fn events_are_read_in_both_directions_and_by_id(store: Store) {
    let before = now();
    let sent: Vec<_> = (0..10).map(|n| event(&n.to_string())).collect();
    let published = store.publish(sent.clone()).await.unwrap();
    let forward = store.events_after(published[2].seq, 3).await.unwrap();
    assert_eq!(forward.iter().map(|entry| &*entry.event.id).collect::<Vec<_>>(), ["3", "4", "5"]);
    let back = store.events_before(published[2].seq, 5).await.unwrap();
    assert_eq!(back.iter().map(|entry| &*entry.event.id).collect::<Vec<_>>(), ["1", "0"]);
    let one = store.event("7").await.unwrap().unwrap();
    assert_eq!(one.event, sent[7]);
    assert_eq!(serde_json::from_str::<PluginEvent>(&one.json).unwrap(), sent[7]);
    assert!(one.published_at >= before && one.published_at <= Utc::now());
    assert_eq!(store.event("unknown").await.unwrap(), None);
    assert!(store.events_after(published[9].seq, 10).await.unwrap().is_empty());
}

pub(crate) async fn a_page_is_bounded_in_bytes_and_one_event_always_fits(store: Store) {
    let large =
        |n: usize| PluginEvent { data: json!({"x": "x".repeat(250 * 1024)}), ..event(&n.to_string()) };
    for n in 0..20 {
        store.publish(vec![large(n)]).await.unwrap();
    }
    let page = store.events_after(0, 1_000).await.unwrap();
    let bytes: usize = page.iter().map(|entry| entry.json.len()).sum();
    assert!(bytes <= MAX_PAGE_BYTES && page.len() > 10, "{bytes} in {}", page.len());
    assert_eq!(all_ids(&store).await.len(), 20);
}

fn plugin(name: &str) -> PluginRecord {
    PluginRecord {
        name: name.into(),
        file: format!("{name}.bin"),
        hash: Some("abc".into()),
        manifest: Some(json!({"name": name, "events": ["*"]})),
        enabled: true,
        first_seen_at: now(),
        subscribed_from: 5,
    }
}

pub(crate) async fn a_plugin_record_comes_back_as_it_was_written(store: Store) {
    let bare = PluginRecord { hash: None, manifest: None, enabled: false, ..plugin("b") };
    store.put_plugin(bare.clone()).await.unwrap();
    store.put_plugin(plugin("a")).await.unwrap();
    let changed = PluginRecord { file: "other".into(), enabled: false, ..plugin("a") };
    store.put_plugin(changed.clone()).await.unwrap();
    assert_eq!(store.plugins().await.unwrap(), [changed, bare]);
}

pub(crate) async fn grants_are_given_once_and_taken_back(store: Store) {
    let grant = |value: &str, by: &str| GrantRecord {
        plugin: "a".into(),
        kind: "event".into(),
        value: value.into(),
        granted_by: by.into(),
        granted_at: now(),
    };
    let first = [grant("deployment.*", "default"), grant("project.created", "default")];
    store.add_grants(first.to_vec()).await.unwrap();
    store.add_grants(vec![grant("deployment.*", "alice")]).await.unwrap();
    assert_eq!(store.grants("a").await.unwrap(), first, "what is there stays as it is");
    assert!(store.revoke_grant("a", "event", "deployment.*").await.unwrap());
    assert!(!store.revoke_grant("a", "event", "deployment.*").await.unwrap());
    assert_eq!(store.grants("a").await.unwrap(), first[1..]);
    assert!(store.grants("b").await.unwrap().is_empty());
}

pub(crate) async fn inspections_are_remembered_by_hash(store: Store) {
    assert_eq!(store.inspection("h").await.unwrap(), None);
    store.put_inspection("h", json!({"name": "a"})).await.unwrap();
    store.put_inspection("h", json!({"name": "b"})).await.unwrap();
    assert_eq!(store.inspection("h").await.unwrap(), Some(json!({"name": "b"})));
}

fn audit_record(kind: &str, plugin: Option<&str>, at: DateTime<Utc>, detail: Value) -> AuditRecord {
    let plugin = plugin.map(str::to_owned);
    AuditRecord { seq: 0, at, kind: kind.into(), plugin, actor: "host".into(), detail }
}

pub(crate) async fn the_audit_trail_is_narrowed_and_paged(store: Store) {
    let begin = now();
    let at = |minutes| begin + Duration::minutes(minutes);
    let records = vec![
        audit_record("plugin.started", Some("a"), at(0), json!({"pid": 1})),
        audit_record("plugin.crashed", Some("a"), at(1), json!({})),
        audit_record("plugin.started", Some("b"), at(2), json!({})),
        audit_record("plugins.listed", None, at(3), json!({})),
        AuditRecord {
            actor: "alice".into(),
            ..audit_record("grant.added", Some("a"), at(4), json!({"event_id": "e-1"}))
        },
    ];
    store.append_audit(records.clone()).await.unwrap();
    let find = async |filter: AuditFilter| {
        let found = store.audit(AuditFilter { limit: filter.limit.max(1), ..filter }).await.unwrap();
        found.iter().map(|record| record.seq).collect::<Vec<_>>()
    };
    let all = AuditFilter { limit: 100, ..AuditFilter::default() };
    let seqs = find(all.clone()).await;
    assert_eq!(seqs.len(), 5);
    let found = store.audit(all.clone()).await.unwrap();
    let without_place: Vec<_> = found.into_iter().map(|record| AuditRecord { seq: 0, ..record }).collect();
    assert_eq!(without_place, records);
    let pick = |places: &[usize]| places.iter().map(|place| seqs[*place]).collect::<Vec<_>>();
    assert_eq!(find(AuditFilter { plugin: Some("a".into()), ..all.clone() }).await, pick(&[0, 1, 4]));
    assert_eq!(find(AuditFilter { kind: Some("plugin.*".into()), ..all.clone() }).await, pick(&[0, 1, 2]));
    assert_eq!(find(AuditFilter { kind: Some("plugin.crashed".into()), ..all.clone() }).await, pick(&[1]));
    assert_eq!(find(AuditFilter { actor: Some("alice".into()), ..all.clone() }).await, pick(&[4]));
    assert_eq!(find(AuditFilter { event_id: Some("e-1".into()), ..all.clone() }).await, pick(&[4]));
    let span = AuditFilter { since: Some(at(1)), until: Some(at(4)), ..all.clone() };
    assert_eq!(find(span).await, pick(&[1, 2, 3]));
    let newest = AuditFilter { newest_first: true, limit: 2, ..all.clone() };
    assert_eq!(find(newest.clone()).await, pick(&[4, 3]));
    assert_eq!(find(AuditFilter { before_seq: Some(seqs[3]), ..newest }).await, pick(&[2, 1]));
    assert_eq!(find(AuditFilter { after_seq: Some(seqs[2]), ..all }).await, pick(&[3, 4]));
}

pub(crate) async fn wire_ids_are_made_once_and_lead_back(store: Store) {
    let made: Vec<_> = (0..8)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                store.wire_id("project", if n % 2 == 0 { "x" } else { "y" }).await.unwrap()
            })
        })
        .collect();
    let mut ids = Vec::new();
    for id in made {
        ids.push(id.await.unwrap());
    }
    assert!(ids.iter().step_by(2).all(|id| *id == ids[0]), "{ids:?}");
    assert!(ids.iter().skip(1).step_by(2).all(|id| *id == ids[1]), "{ids:?}");
    assert!(ids[0] != ids[1] && ids[0] > 0);
    assert_eq!(store.external_id("project", ids[0]).await.unwrap().as_deref(), Some("x"));
    assert_eq!(store.external_id("environment", ids[0]).await.unwrap(), None);
    assert_eq!(store.wire_id("environment", "x").await.unwrap(), 1, "each kind counts for itself");
}

pub(crate) async fn retention_drops_what_is_old_and_says_what_was_not_settled(store: Store) {
    let last = publish_many(&store, 1_200).await;
    store.put_plugin(PluginRecord { subscribed_from: 0, ..plugin("slow") }).await.unwrap();
    store.put_plugin(PluginRecord { enabled: false, subscribed_from: 0, ..plugin("off") }).await.unwrap();
    let settled = last - 1_000;
    let news = DeliveryNews {
        attempts: (1..=settled).map(|seq| settled_attempt("slow", seq)).collect(),
        open: vec![OpenChange::Put(Box::new(open_delivery("slow", settled, DeliveryState::Retrying)))],
        cursor: Some(CursorMove::On(settled)),
    };
    store.record_deliveries("slow", news).await.unwrap();
    store.append_audit(vec![audit_record("plugin.started", None, now(), json!({}))]).await.unwrap();

    let kept = store.prune(Retention::standard(Utc::now())).await.unwrap();
    assert_eq!((kept.events, kept.unsettled, kept.audit), (0, 0, 0));
    let in_a_week = Utc::now() + Duration::days(8);
    let dropped = store.prune(Retention::standard(in_a_week)).await.unwrap();
    assert_eq!((dropped.events, dropped.unsettled, dropped.audit), (1_200, 1_001, 0));
    assert!(all_ids(&store).await.is_empty());
    let retrying =
        DeliveryFilter { state: Some(DeliveryState::Retrying), limit: 10, ..DeliveryFilter::default() };
    assert!(store.deliveries(retrying).await.unwrap().is_empty(), "its event is gone");
    let all = AttemptFilter { limit: 10_000, ..AttemptFilter::default() };
    assert_eq!(store.attempts(all.clone()).await.unwrap().len(), settled as usize, "the record is kept");
    let in_a_month = Utc::now() + Duration::days(31);
    let dropped = store.prune(Retention::standard(in_a_month)).await.unwrap();
    assert_eq!((dropped.audit, dropped.attempts), (1, settled as u64));
    assert!(store.attempts(all).await.unwrap().is_empty());
}

async fn publish_many(store: &Store, count: usize) -> Seq {
    let events = (0..count).map(|n| event(&format!("many-{n}"))).collect();
    store.publish(events).await.unwrap().last().unwrap().seq
}

pub(crate) async fn retention_drops_what_is_too_much_and_places_are_never_given_again(store: Store) {
    let last = publish_many(&store, 100).await;
    let one = store.event("many-50").await.unwrap().unwrap().json.len() as u64;
    let keep = Retention { journal_bytes: one * 10, audit_bytes: 100, ..Retention::standard(Utc::now()) };
    let detail = json!({"text": "x".repeat(38)});
    let record = audit_record("plugin.started", None, now(), detail);
    store.append_audit(vec![record; 10]).await.unwrap();
    let pruned = store.prune(keep).await.unwrap();
    assert_eq!((pruned.events, pruned.unsettled, pruned.audit), (90, 0, 8));
    assert_eq!(all_ids(&store).await.first().map(String::as_str), Some("many-90"));
    store.prune(Retention { journal_bytes: 0, ..keep }).await.unwrap();
    assert!(all_ids(&store).await.is_empty());
    assert_eq!(
        publish(&store, "many-0").await,
        last + 1,
        "the place is new; so old an id may be published again"
    );
}

pub(crate) async fn retention_keeps_what_is_being_retried_up_to_twice_the_size_and_drops_attempts_from_their_old_end(
    store: Store,
) {
    publish_many(&store, 100).await;
    let one = store.event("many-50").await.unwrap().unwrap().json.len() as u64;
    let news = DeliveryNews {
        attempts: (1..=10).map(|seq| settled_attempt("a", seq)).collect(),
        open: vec![OpenChange::Put(Box::new(open_delivery("a", 85, DeliveryState::Retrying)))],
        cursor: Some(CursorMove::On(100)),
    };
    store.record_deliveries("a", news).await.unwrap();
    let keep = Retention { journal_bytes: one * 14, attempts: 4, ..Retention::standard(Utc::now()) };
    let pruned = store.prune(keep).await.unwrap();
    assert_eq!((pruned.events, pruned.unsettled, pruned.attempts), (85, 0, 6));
    assert_eq!(all_ids(&store).await.len(), 15);
    assert!(store.event("many-84").await.unwrap().is_some(), "the 85th is being retried");
    let kept = store.attempts(AttemptFilter { limit: 10, ..AttemptFilter::default() }).await.unwrap();
    assert_eq!(kept.iter().map(|attempt| attempt.seq).collect::<Vec<_>>(), [7, 8, 9, 10]);
    let pruned = store.prune(Retention { journal_bytes: one * 6, ..keep }).await.unwrap();
    assert_eq!((pruned.events, pruned.unsettled), (9, 1), "the 85th is much too old");
    assert_eq!(store.open_counts("a").await.unwrap().retrying, 0);
}
