//! The judge is shown runs in which one promise was broken, and has to say which.

use super::*;

const LIFE: u64 = 1_000_000;

fn event(seq: i64) -> Event {
    Event { seq, id: format!("e{seq}"), event_type: "faults.tick".into(), deployment: None }
}

fn line(life: u64, at: u64, event: i64) -> Line {
    Line { life, at, event: Some(format!("e{event}")) }
}

/// A plugin that handled these events in one life, one a millisecond.
fn plugin(kind: Kind, events: &[i64]) -> Plugin {
    let lines = events.iter().zip(1..).map(|(event, after)| line(LIFE, LIFE + after, *event)).collect();
    Plugin {
        name: "p".into(),
        kind,
        lines,
        deaths: Vec::new(),
        retried: HashSet::new(),
        dead: HashMap::new(),
    }
}

/// A run of three events, all confirmed.
fn run(plugin: Plugin) -> Evidence {
    Evidence {
        journal: (1..=3).map(event).collect(),
        confirmed: (1..=3).map(|seq| Published::Event(format!("e{seq}"))).collect(),
        unconfirmed: Vec::new(),
        host_deaths: Vec::new(),
        plugins: vec![plugin],
    }
}

/// The one promise that was broken.
fn breach(evidence: &Evidence) -> String {
    let breaches = judge(evidence).breaches;
    assert_eq!(breaches.len(), 1, "{breaches:?}");
    breaches[0].clone()
}

#[test]
fn a_run_in_which_everything_arrived_breaks_no_promise() {
    for kind in [Kind::Acks, Kind::Reads, Kind::Posts] {
        let verdict = judge(&run(plugin(kind, &[1, 2, 2, 3, 1])));
        assert!(verdict.breaches.is_empty(), "{:?}", verdict.breaches);
        assert_eq!((verdict.rows[0].handled, verdict.rows[0].duplicates), (3, 2));
    }
}

#[test]
fn an_event_that_a_plugin_never_handled_is_found() {
    for kind in [Kind::Acks, Kind::Reads, Kind::Posts] {
        assert!(breach(&run(plugin(kind, &[1, 3]))).starts_with("not handled (1): e2"));
    }
}

#[test]
fn a_confirmed_event_that_the_journal_lost_is_found() {
    let mut evidence = run(plugin(Kind::Acks, &[1, 2, 3]));
    evidence.confirmed.push(Published::Event("e4".into()));
    assert!(breach(&evidence).starts_with("confirmed and lost (1)"));
    let mut evidence = run(plugin(Kind::Acks, &[1, 2, 3]));
    evidence.confirmed.push(Published::Deployment(7));
    assert!(breach(&evidence).starts_with("confirmed and lost (1)"));
}

#[test]
fn an_event_that_came_too_late_is_found_unless_it_was_retried() {
    let mut evidence = run(plugin(Kind::Acks, &[1, 3, 2]));
    assert!(breach(&evidence).starts_with("out of order (1): p handled e2"));
    evidence.plugins[0].retried.insert("e2".into());
    let verdict = judge(&evidence);
    assert!(verdict.breaches.is_empty(), "{:?}", verdict.breaches);
    assert_eq!(verdict.rows[0].retried_late, 1);
    // Retrying one event is no excuse for another.
    evidence.plugins[0].lines.swap(0, 1);
    assert!(breach(&evidence).starts_with("out of order (1): p handled e1"));
}

#[test]
fn a_killed_host_may_forget_that_an_event_had_failed_if_it_sends_all_after_it_again() {
    let again = |events: &[i64]| {
        let mut evidence = run(plugin(Kind::Posts, &[1, 3]));
        let lines = events.iter().zip(100..).map(|(event, after)| line(LIFE + 50, LIFE + after, *event));
        evidence.plugins[0].lines.extend(lines);
        evidence
    };
    // Without a death between them nothing excuses it.
    let mut evidence = again(&[2, 3]);
    evidence.host_deaths = vec![LIFE + 1, LIFE + 101];
    assert!(breach(&evidence).starts_with("out of order (1): p handled e2"));
    evidence.host_deaths.push(LIFE + 20);
    let verdict = judge(&evidence);
    assert!(verdict.breaches.is_empty(), "{:?}", verdict.breaches);
    assert_eq!(verdict.rows[0].retried_late, 1);
    // Nor does a death behind which the newer one does not come again.
    let mut evidence = again(&[2]);
    evidence.host_deaths.push(LIFE + 20);
    assert!(breach(&evidence).starts_with("out of order (1): p handled e2"));
}

#[test]
fn an_event_that_was_read_shortly_before_a_death_must_come_again() {
    let mut dies = plugin(Kind::Reads, &[1, 2, 3]);
    dies.deaths.push(LIFE + 1_000);
    assert!(breach(&run(dies.clone())).starts_with("not sent again (3)"));
    dies.lines.extend((1..=3).map(|event| line(LIFE + 2_000, LIFE + 3_000, event)));
    let verdict = judge(&run(dies.clone()));
    assert!(verdict.breaches.is_empty(), "{:?}", verdict.breaches);
    assert_eq!((verdict.rows[0].resends, verdict.rows[0].lives), (3, 2));
    // The second life dies as well, and one event is not sent a third time.
    dies.deaths.push(LIFE + 4_000);
    dies.lines.extend([1, 3].map(|event| line(LIFE + 5_000, LIFE + 6_000, event)));
    assert!(breach(&run(dies)).starts_with("not sent again (1): p read e2"));
}

#[test]
fn an_event_that_was_survived_for_five_seconds_need_not_come_again() {
    let mut dies = plugin(Kind::Reads, &[1, 2, 3]);
    dies.deaths.push(LIFE + 3 + SURVIVE_MS);
    assert!(judge(&run(dies.clone())).breaches.is_empty());
    dies.deaths[0] -= 1;
    assert!(breach(&run(dies)).starts_with("not sent again (1): p read e3"));
}

#[test]
fn a_plugin_with_acks_need_not_get_again_what_it_handled() {
    for kind in [Kind::Acks, Kind::Posts] {
        let mut dies = plugin(kind, &[1, 2, 3]);
        dies.deaths.push(LIFE + 1_000);
        assert!(judge(&run(dies)).breaches.is_empty());
    }
}

#[test]
fn a_dead_letter_that_is_left_is_found() {
    let mut gave_up = plugin(Kind::Acks, &[1, 2, 3]);
    gave_up.dead.insert("e2".into(), "plugin_crashed".into());
    assert!(breach(&run(gave_up)).starts_with("given up (1): e2"));
}

#[test]
fn an_event_that_nobody_published_is_found() {
    assert!(breach(&run(plugin(Kind::Posts, &[1, 2, 9, 3]))).starts_with("never published (1)"));
}

#[test]
fn half_a_report_is_found_and_an_unconfirmed_event_is_counted() {
    let mut evidence = run(plugin(Kind::Acks, &[1, 2, 3]));
    for (event, event_type) in evidence.journal.iter_mut().zip(["deployment.created", "deployment.succeeded"])
    {
        (event.deployment, event.event_type) = (Some(1), event_type.into());
    }
    evidence.confirmed = vec![Published::Deployment(1)];
    evidence.unconfirmed = vec!["e3".into(), "e4".into()];
    let verdict = judge(&evidence);
    assert!(verdict.breaches.is_empty(), "{:?}", verdict.breaches);
    assert_eq!((verdict.confirmed, verdict.appeared), (1, 1));
    evidence.journal[1].deployment = None;
    assert!(breach(&evidence).starts_with("half a report (1): deployment 1"));
}

#[test]
fn many_breaches_are_counted_and_some_told() {
    let mut evidence = run(plugin(Kind::Acks, &[]));
    evidence.journal = (1..=50).map(event).collect();
    evidence.confirmed.clear();
    let breach = breach(&evidence);
    assert!(breach.starts_with("not handled (50)") && breach.ends_with("and 45 more"), "{breach}");
}
