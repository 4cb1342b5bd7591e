//! What every engine promises of the audit chain. Nothing in here knows which engine it is.

use std::sync::Arc;

use chrono::{Duration, Utc};
use serde_json::json;
use temps_store::{AuditRecord, DeliveryNews, HostStore, Retention, Wrongness};

use crate::seal::{TestSeal, head, seal, verify, verify_with};
use crate::suite::settled_attempt;

type Store = Arc<dyn HostStore>;

pub(crate) fn record(n: usize) -> AuditRecord {
    AuditRecord {
        seq: 0,
        at: Utc::now(),
        kind: "plugin.started".into(),
        plugin: n.is_multiple_of(2).then(|| "hello".to_owned()),
        actor: "host".into(),
        detail: json!({"n": n, "text": "grün"}),
    }
}

/// Writes `commits` commits of one, two, three, one, ... records. Returns how many.
pub(crate) async fn write(store: &dyn HostStore, commits: usize) -> usize {
    let mut written = 0;
    for commit in 0..commits {
        let records: Vec<_> = (0..=commit % 3).map(record).collect();
        written += records.len();
        store.append_audit(records).await.unwrap();
    }
    written
}

/// Writes `commits` commits of one, two, three, one, ... attempts. Returns how many.
pub(crate) async fn attempt(store: &dyn HostStore, commits: usize) -> usize {
    let mut written = 0;
    for commit in 0..commits {
        let attempts: Vec<_> = (0..=commit % 3).map(|n| settled_attempt("hello", n as i64)).collect();
        written += attempts.len();
        let news = DeliveryNews { attempts, ..DeliveryNews::default() };
        store.record_deliveries("hello", news).await.unwrap();
    }
    written
}

pub(crate) async fn every_commit_of_the_trail_has_a_link_and_the_chain_verifies(store: Store) {
    store.seal_audit(seal()).await.unwrap();
    let written = write(&*store, 10).await;
    let newest = store.audit_link(None).await.unwrap().unwrap();
    assert_eq!(newest.number, 10, "link 0 begins the chain");
    assert_eq!(store.audit_link(Some(10)).await.unwrap().as_ref(), Some(&newest));
    let verdict = verify(&*store, vec![head(&newest)]).await;
    assert_eq!(verdict.wrong, None);
    assert_eq!((verdict.links, verdict.rows.records, verdict.outside.records), (11, written as u64, 0));
    assert_eq!((verdict.heads, verdict.last_link), (1, Some(10)));
}

pub(crate) async fn delivery_attempts_are_in_the_chain_and_retention_cuts_them_alone(store: Store) {
    let before = attempt(&*store, 2).await;
    store.seal_audit(seal()).await.unwrap();
    let mut attempts = attempt(&*store, 6).await;
    let records = write(&*store, 4).await;
    attempts += attempt(&*store, 6).await;
    let verdict = verify(&*store, vec![]).await;
    assert_eq!(verdict.wrong, None);
    assert_eq!((verdict.rows.records, verdict.rows.attempts), (records as u64, attempts as u64));
    assert_eq!(verdict.outside.attempts, before as u64);
    let few = Retention { attempts: 5, ..Retention::standard(Utc::now()) };
    let pruned = store.prune(few).await.unwrap();
    assert!(pruned.attempts > before as u64, "{pruned:?}");
    let verdict = verify(&*store, vec![]).await;
    assert_eq!(verdict.wrong, None);
    assert_eq!((verdict.removed.attempts, verdict.outside.attempts), (pruned.attempts, 0));
    assert_eq!((verdict.rows.records, verdict.removed.records), (records as u64, 0), "records stay");
}

pub(crate) async fn many_writers_at_the_same_time_make_one_chain(store: Store) {
    store.seal_audit(seal()).await.unwrap();
    let writers = (0..20).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                store.append_audit(vec![record(n)]).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let verdict = verify(&*store, vec![]).await;
    assert_eq!((verdict.wrong, verdict.rows.records), (None, 200));
}

pub(crate) async fn what_was_there_before_the_chain_is_said_to_be_outside_of_it(store: Store) {
    let before = write(&*store, 5).await;
    store.seal_audit(seal()).await.unwrap();
    let written = write(&*store, 5).await;
    let verdict = verify(&*store, vec![]).await;
    assert_eq!(verdict.wrong, None);
    assert_eq!((verdict.outside.records, verdict.rows.records), (before as u64, written as u64));
}

pub(crate) async fn retention_cuts_whole_links_and_what_is_left_verifies(store: Store) {
    let before = write(&*store, 5).await;
    store.seal_audit(seal()).await.unwrap();
    let written = write(&*store, 30).await;
    let first = store.audit_link(Some(2)).await.unwrap().unwrap();
    let some = Retention { audit_bytes: 300, ..Retention::standard(Utc::now()) };
    let pruned = store.prune(some).await.unwrap();
    assert!(pruned.audit > before as u64 && pruned.audit < (before + written) as u64, "{pruned:?}");
    let verdict = verify(&*store, vec![head(&first)]).await;
    assert_eq!(verdict.wrong, None);
    assert_eq!(verdict.outside.records, 0);
    assert_eq!(verdict.removed.records, pruned.audit);
    assert_eq!(verdict.rows.records + verdict.removed.records, (before + written) as u64);

    let in_a_month = Retention::standard(Utc::now() + Duration::days(31));
    store.prune(in_a_month).await.unwrap();
    let verdict = verify(&*store, vec![head(&first)]).await;
    assert_eq!((verdict.wrong, verdict.rows.records), (None, 0));
    let written = write(&*store, 4).await;
    let verdict = verify(&*store, vec![]).await;
    assert_eq!(
        (verdict.wrong, verdict.rows.records),
        (None, written as u64),
        "the chain goes on behind the cut"
    );
}

pub(crate) async fn retention_during_a_verification_does_not_look_like_a_stranger(store: Store) {
    store.seal_audit(seal()).await.unwrap();
    write(&*store, 40).await;
    let heads: temps_store::Heads = Box::new(std::iter::empty());
    let mut verifier = temps_store::Verifier::new(seal(), store.audit_node(), heads);
    for bytes in [600, 300, 100] {
        let page = store.audit_chain(seal(), verifier.place(), 2).await.unwrap();
        assert!(!verifier.take(&page), "{:?}", verifier.verdict());
        store.prune(Retention { audit_bytes: bytes, ..Retention::standard(Utc::now()) }).await.unwrap();
    }
    while !verifier.take(&store.audit_chain(seal(), verifier.place(), 2).await.unwrap()) {}
    assert_eq!(verifier.verdict().wrong, None);
}

pub(crate) async fn another_key_and_heads_of_another_chain_are_found(store: Store) {
    store.seal_audit(seal()).await.unwrap();
    write(&*store, 5).await;
    let other = Arc::new(TestSeal("other"));
    let wrong = verify_with(other, &*store, vec![]).await.wrong.unwrap();
    assert_eq!(wrong.what, Wrongness::OtherKey { sealed_with: "test".into() });
    let newest = store.audit_link(None).await.unwrap().unwrap();
    let mut later = head(&newest);
    later.number += 20;
    let wrong = verify(&*store, vec![head(&newest), later.clone()]).await.wrong.unwrap();
    assert!(matches!(wrong.what, Wrongness::TailMissing { head: 25, .. }), "{wrong}");
    let mut changed = head(&newest);
    changed.mac.0[7] ^= 1;
    let wrong = verify(&*store, vec![changed]).await.wrong.unwrap();
    assert!(matches!(wrong.what, Wrongness::NotTheHead { .. }), "{wrong}");
    let wrong = verify(&*store, vec![later, head(&newest)]).await.wrong.unwrap();
    assert!(matches!(wrong.what, Wrongness::TailMissing { .. } | Wrongness::HeadsGoBack { .. }), "{wrong}");
}
