//! What every engine promises of deliveries: attempts, what is open, cursors and pauses.

use chrono::Duration;
use temps_store::{
    AttemptFilter, AttemptRecord, AttemptResult, CursorMove, DeliveryFilter, DeliveryHistory, DeliveryNews,
    DeliveryRecord, DeliveryState, OpenChange, OpenDelivery, PauseRecord, Seq, Via, Which,
};

use super::{Store, now, publish, publish_many};

pub(crate) fn attempt(plugin: &str, seq: Seq, number: u32, result: AttemptResult) -> AttemptRecord {
    AttemptRecord {
        id: 0,
        plugin: plugin.into(),
        seq,
        event_id: format!("event-{seq}"),
        event_type: "deployment.succeeded".into(),
        attempt: number,
        via: Via::Channel,
        result,
        answer: Some("acked".into()),
        sent_at: now(),
        ended_at: now(),
        latency_ms: Some(7),
    }
}

pub(crate) fn settled_attempt(plugin: &str, seq: Seq) -> AttemptRecord {
    attempt(plugin, seq, 1, AttemptResult::Settled)
}

pub(crate) fn open_delivery(plugin: &str, seq: Seq, state: DeliveryState) -> DeliveryRecord {
    DeliveryRecord {
        plugin: plugin.into(),
        seq,
        event_id: format!("event-{seq}"),
        event_type: "deployment.succeeded".into(),
        project_id: Some(42),
        state,
        attempts: 2,
        failures: 2,
        crashes: 1,
        via: Some(Via::Http),
        outcome: Some("answered 500: no".into()),
        sent_at: Some(now()),
        ended_at: Some(now()),
        next_attempt_at: (state == DeliveryState::Retrying).then(now),
        latency_ms: None,
    }
}

fn put(delivery: &DeliveryRecord) -> OpenChange {
    OpenChange::Put(Box::new(delivery.clone()))
}

fn opens(deliveries: &[DeliveryRecord]) -> DeliveryNews {
    DeliveryNews { open: deliveries.iter().map(put).collect(), ..DeliveryNews::default() }
}

fn to(plugin: &str) -> DeliveryFilter {
    DeliveryFilter { plugin: Some(plugin.into()), limit: 100, ..DeliveryFilter::default() }
}

fn seqs(found: &[OpenDelivery]) -> Vec<Seq> {
    found.iter().map(|open| open.record.seq).collect()
}

pub(crate) async fn news_of_deliveries_is_written_together_and_the_cursor_goes_back_only_when_told(
    store: Store,
) {
    assert_eq!(store.cursor("a").await.unwrap(), None);
    let retrying = open_delivery("a", 4, DeliveryState::Retrying);
    let news = DeliveryNews {
        attempts: vec![attempt("a", 4, 2, AttemptResult::Failed)],
        open: vec![put(&retrying)],
        cursor: Some(CursorMove::On(4)),
    };
    store.record_deliveries("a", news).await.unwrap();
    assert_eq!(store.cursor("a").await.unwrap(), Some(4));
    assert_eq!(store.deliveries(to("a")).await.unwrap(), [retrying]);
    let moved = |cursor| DeliveryNews { cursor: Some(cursor), ..DeliveryNews::default() };
    store.record_deliveries("a", moved(CursorMove::On(2))).await.unwrap();
    store.record_deliveries("a", DeliveryNews::default()).await.unwrap();
    assert_eq!(store.cursor("a").await.unwrap(), Some(4));
    store.record_deliveries("a", moved(CursorMove::To(1))).await.unwrap();
    assert_eq!(store.cursor("a").await.unwrap(), Some(1));
    assert_eq!(store.cursor("b").await.unwrap(), None);
    store.record_deliveries("b", moved(CursorMove::To(7))).await.unwrap();
    assert_eq!(store.cursor("b").await.unwrap(), Some(7));
}

pub(crate) async fn a_delivery_that_was_settled_is_its_attempts_and_no_open_row(store: Store) {
    let retrying = open_delivery("a", 4, DeliveryState::Retrying);
    store.record_deliveries("a", opens(&[retrying])).await.unwrap();
    let news = DeliveryNews {
        attempts: vec![attempt("a", 4, 3, AttemptResult::Settled)],
        open: vec![OpenChange::Clear(4)],
        cursor: None,
    };
    store.record_deliveries("a", news).await.unwrap();
    let found = store.deliveries(to("a")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].state, found[0].attempts), (DeliveryState::Settled, 3));
    assert_eq!((found[0].latency_ms, found[0].outcome.as_deref()), (Some(7), Some("acked")));
    assert_eq!(store.open_counts("a").await.unwrap().retrying, 0);
    // What follows in one batch counts in its order.
    let again = open_delivery("a", 5, DeliveryState::Dead);
    let news = DeliveryNews {
        open: vec![put(&again), OpenChange::Clear(5), put(&again)],
        ..DeliveryNews::default()
    };
    store.record_deliveries("a", news).await.unwrap();
    assert_eq!(store.open_counts("a").await.unwrap().dead, 1);
}

pub(crate) async fn deliveries_are_found_by_plugin_by_state_and_in_pages(store: Store) {
    use DeliveryState::{Dead, Held, Retrying, Sent, Settled};
    let states = [Settled, Dead, Settled, Retrying, Sent, Dead, Held];
    for plugin in ["a", "b", "c"] {
        let mut news = DeliveryNews::default();
        for (seq, state) in (1..).zip(states) {
            match state {
                Settled => news.attempts.push(settled_attempt(plugin, seq)),
                state => news.open.push(put(&open_delivery(plugin, seq, state))),
            }
        }
        store.record_deliveries(plugin, news).await.unwrap();
    }
    let find = async |filter: DeliveryFilter| -> Vec<(String, Seq)> {
        let found = store.deliveries(filter).await.unwrap();
        found.into_iter().map(|record| (record.plugin, record.seq)).collect()
    };
    let of =
        |plugin: &str, places: &[Seq]| places.iter().map(|seq| (plugin.to_owned(), *seq)).collect::<Vec<_>>();
    assert_eq!(find(DeliveryFilter { after: 2, limit: 3, ..to("b") }).await, of("b", &[3, 4, 5]));
    for (state, places) in
        [(Dead, &[2, 6][..]), (Settled, &[1, 3]), (Retrying, &[4]), (Sent, &[5]), (Held, &[7])]
    {
        assert_eq!(find(DeliveryFilter { state: Some(state), ..to("b") }).await, of("b", places));
    }
    let of_event = DeliveryFilter { seq: Some(3), limit: 10, ..DeliveryFilter::default() };
    assert_eq!(find(of_event).await, [("a".into(), 3), ("b".into(), 3), ("c".into(), 3)]);
    let mut everything = Vec::new();
    loop {
        let after = everything.last().map_or(0, |(_, seq)| *seq);
        let page = find(DeliveryFilter { after, limit: 4, ..DeliveryFilter::default() }).await;
        assert!(page.len() <= 6, "four, and the rest of the last event's");
        if page.is_empty() {
            break;
        }
        everything.extend(page);
    }
    let expected: Vec<_> =
        (1..=7).flat_map(|seq| ["a", "b", "c"].map(|plugin| (plugin.to_owned(), seq))).collect();
    assert_eq!(everything, expected);
}

pub(crate) async fn attempts_are_found_by_time_by_event_and_in_pages_and_their_ids_grow(store: Store) {
    let begin = now();
    for round in 0..3 {
        for plugin in ["a", "b"] {
            let attempts = (1..=4).map(|seq| AttemptRecord {
                ended_at: begin + Duration::seconds(round * 10 + seq),
                ..attempt(plugin, seq, round as u32 + 1, AttemptResult::Failed)
            });
            let news = DeliveryNews { attempts: attempts.collect(), ..DeliveryNews::default() };
            store.record_deliveries(plugin, news).await.unwrap();
        }
    }
    let all = AttemptFilter { limit: 100, ..AttemptFilter::default() };
    let found = store.attempts(all.clone()).await.unwrap();
    assert_eq!(found.len(), 24);
    assert!(found.is_sorted_by_key(|attempt| (attempt.ended_at, attempt.id)));
    let mut ids: Vec<_> = found.iter().map(|attempt| attempt.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == 24 && ids[0] > 0);
    let written = AttemptRecord { id: found[0].id, ..attempt("a", 1, 1, AttemptResult::Failed) };
    assert_eq!(
        AttemptRecord { sent_at: written.sent_at, ended_at: written.ended_at, ..found[0].clone() },
        written,
        "it comes back as it was written"
    );

    let between = AttemptFilter {
        plugin: Some("b".into()),
        since: Some(begin + Duration::seconds(3)),
        until: Some(begin + Duration::seconds(13)),
        ..all.clone()
    };
    let found = store.attempts(between).await.unwrap();
    let told: Vec<_> = found.iter().map(|attempt| (&*attempt.plugin, attempt.seq, attempt.attempt)).collect();
    assert_eq!(told, [("b", 3, 1), ("b", 4, 1), ("b", 1, 2), ("b", 2, 2)]);
    let one = AttemptFilter { plugin: Some("a".into()), seq: Some(2), ..all.clone() };
    assert_eq!(store.attempts(one).await.unwrap().len(), 3);
    let settled = AttemptFilter { result: Some(AttemptResult::Settled), ..all.clone() };
    assert!(store.attempts(settled).await.unwrap().is_empty());

    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|attempt: &AttemptRecord| (attempt.ended_at, attempt.id));
        let page =
            store.attempts(AttemptFilter { after, limit: 5, ..AttemptFilter::default() }).await.unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, store.attempts(all).await.unwrap());
}

pub(crate) async fn retries_come_with_their_events_soonest_first(store: Store) {
    publish_many(&store, 5).await;
    let at = now();
    let due = |seq: Seq, seconds: i64| DeliveryRecord {
        next_attempt_at: Some(at + Duration::seconds(seconds)),
        ..open_delivery("a", seq, DeliveryState::Retrying)
    };
    let rows = [due(1, 30), due(2, 10), due(3, 10), due(9, 20), open_delivery("a", 4, DeliveryState::Dead)];
    store.record_deliveries("a", opens(&rows)).await.unwrap();
    store.record_deliveries("b", opens(&[open_delivery("b", 5, DeliveryState::Retrying)])).await.unwrap();
    let found = store.retries("a", 10).await.unwrap();
    assert_eq!(seqs(&found), [2, 3, 9, 1]);
    assert_eq!(found[0].record, rows[1]);
    assert_eq!(found[0].event.as_ref().unwrap().event.id, "many-1");
    assert_eq!(found[2].event, None, "the journal does not have it");
    assert_eq!(seqs(&store.retries("a", 2).await.unwrap()), [2, 3]);
    let counts = store.open_counts("a").await.unwrap();
    assert_eq!((counts.retrying, counts.dead, counts.held), (4, 1, 0));
    assert!(counts.oldest_published_at.is_some());
}

pub(crate) async fn held_deliveries_are_found_by_project_and_released(store: Store) {
    publish_many(&store, 6).await;
    let of = |project_id, seq, state| DeliveryRecord { project_id, ..open_delivery("a", seq, state) };
    let rows = [
        of(Some(1), 1, DeliveryState::Retrying),
        of(Some(1), 3, DeliveryState::Held),
        of(Some(1), 2, DeliveryState::Held),
        of(None, 4, DeliveryState::Held),
        of(Some(2), 5, DeliveryState::Dead),
    ];
    store.record_deliveries("a", opens(&rows)).await.unwrap();
    assert_eq!(seqs(&store.retries_of_project("a", Some(1), 10).await.unwrap()), [1, 2, 3]);
    assert_eq!(seqs(&store.retries_of_project("a", Some(1), 2).await.unwrap()), [1, 2]);
    assert_eq!(seqs(&store.retries_of_project("a", None, 10).await.unwrap()), [4]);
    assert!(store.retries_of_project("a", Some(2), 10).await.unwrap().is_empty());
    let mut projects = store.retrying_projects("a", 10).await.unwrap();
    projects.sort_unstable();
    assert_eq!(projects, [None, Some(1)]);
    assert_eq!(store.release_held("a", now()).await.unwrap(), 3);
    assert_eq!(store.retries("a", 10).await.unwrap().len(), 4);
}

pub(crate) async fn a_delivery_is_made_due_again_whatever_became_of_it_and_dead_letters_all_at_once(
    store: Store,
) {
    publish_many(&store, 4).await;
    let dead = |seq| open_delivery("a", seq, DeliveryState::Dead);
    let news = DeliveryNews {
        attempts: vec![attempt("a", 3, 5, AttemptResult::Settled)],
        ..opens(&[dead(1), dead(2), dead(77)])
    };
    store.record_deliveries("a", news).await.unwrap();
    let at = now();
    assert_eq!(store.redeliver("a", Which::Event(1), at).await.unwrap(), 1);
    assert_eq!(store.redeliver("a", Which::Event(3), at).await.unwrap(), 1, "also what was settled");
    assert_eq!(store.redeliver("a", Which::Event(99), at).await.unwrap(), 0, "there is no such event");
    let due = store.retries("a", 10).await.unwrap();
    assert_eq!(seqs(&due), [1, 3]);
    let told = |index: usize| {
        let record = &due[index].record;
        (record.attempts, record.failures, record.crashes, record.next_attempt_at)
    };
    assert_eq!(told(0), (2, 0, 0, Some(at)), "it counts on, and its waits begin anew");
    assert_eq!(told(1), (5, 0, 0, Some(at)));
    assert_eq!(
        store.redeliver("a", Which::AllDead, at).await.unwrap(),
        1,
        "the event of the other one is gone"
    );
    assert_eq!(seqs(&store.retries("a", 10).await.unwrap()), [1, 2, 3]);
    assert_eq!(store.redeliver("b", Which::AllDead, at).await.unwrap(), 0);
}

pub(crate) async fn a_delivery_is_discarded_and_its_attempts_stay(store: Store) {
    let states = [DeliveryState::Dead, DeliveryState::Dead, DeliveryState::Retrying, DeliveryState::Dead];
    let rows: Vec<_> = (1..).zip(states).map(|(seq, state)| open_delivery("a", seq, state)).collect();
    let news = DeliveryNews { attempts: vec![attempt("a", 1, 1, AttemptResult::Dead)], ..opens(&rows) };
    store.record_deliveries("a", news).await.unwrap();
    assert_eq!(store.discard("a", Which::Event(1)).await.unwrap(), 1);
    assert_eq!(store.discard("a", Which::Event(1)).await.unwrap(), 0);
    assert_eq!(store.discard("a", Which::AllDead).await.unwrap(), 2);
    let counts = store.open_counts("a").await.unwrap();
    assert_eq!((counts.retrying, counts.dead), (1, 0));
    assert_eq!(store.discard("a", Which::Event(3)).await.unwrap(), 1);
    assert_eq!(
        store.attempts(AttemptFilter { limit: 9, ..AttemptFilter::default() }).await.unwrap().len(),
        1
    );
}

pub(crate) async fn the_history_of_a_stretch_of_the_journal_says_what_was_attempted_and_is_open(
    store: Store,
) {
    let news = DeliveryNews {
        attempts: vec![
            settled_attempt("a", 2),
            attempt("a", 3, 1, AttemptResult::Failed),
            attempt("a", 3, 2, AttemptResult::Failed),
            settled_attempt("a", 9),
        ],
        ..opens(&[
            open_delivery("a", 3, DeliveryState::Retrying),
            open_delivery("a", 4, DeliveryState::Held),
            open_delivery("a", 5, DeliveryState::Sent),
        ])
    };
    store.record_deliveries("a", news).await.unwrap();
    store
        .record_deliveries(
            "b",
            DeliveryNews { attempts: vec![settled_attempt("b", 6)], ..DeliveryNews::default() },
        )
        .await
        .unwrap();
    let known = |seq, attempts, open| DeliveryHistory { seq, attempts, open };
    assert_eq!(
        store.delivery_history("a", 1, 8).await.unwrap(),
        [
            known(2, 1, None),
            known(3, 2, Some(DeliveryState::Retrying)),
            known(4, 2, Some(DeliveryState::Held)),
            known(5, 2, Some(DeliveryState::Sent)),
        ]
    );
    assert!(store.delivery_history("a", 5, 8).await.unwrap().is_empty());
}

pub(crate) async fn a_pause_is_kept_until_it_is_lifted(store: Store) {
    publish(&store, "x").await;
    let pause = |plugin: &str, reason: &str| PauseRecord {
        plugin: plugin.into(),
        reason: reason.into(),
        paused_by: "ops".into(),
        since: now(),
        hash: Some("abc".into()),
    };
    let (a, b) = (pause("a", "by hand"), PauseRecord { hash: None, ..pause("b", "100 failures in a row") });
    store.put_pause(b.clone()).await.unwrap();
    store.put_pause(pause("a", "another reason")).await.unwrap();
    store.put_pause(a.clone()).await.unwrap();
    assert_eq!(store.pauses().await.unwrap(), [a, b.clone()]);
    assert!(store.lift_pause("a").await.unwrap());
    assert!(!store.lift_pause("a").await.unwrap());
    assert_eq!(store.pauses().await.unwrap(), [b]);
}
