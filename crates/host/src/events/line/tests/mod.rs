//! Tests of the line: its promises one by one, and all of them under random histories.

mod bench;
mod histories;

use temps_store::AttemptResult;

use self::bench::{Bench, SURVIVE};
use super::ends::{PLUGIN_CRASHED, TELL_AFTER};
use super::*;
use crate::events::retries::IN_MEMORY;

#[test]
fn an_event_is_settled_when_it_was_read_and_survived_and_not_before() {
    let mut bench = Bench::new(Mode::Read);
    (0..3).for_each(|_| bench.publish(true));
    assert_eq!(bench.send(), [1, 2, 3]);
    assert!(bench.pass(60).is_empty(), "nobody knows that they were read");
    assert_eq!(bench.line.cursor(), 0);
    bench.read();
    assert!(bench.pass(4).is_empty());
    assert_eq!(bench.pass(1), [1, 2, 3]);
    assert_eq!(bench.line.cursor(), 3);
    assert!(bench.open.is_empty());
}

#[test]
fn the_next_batch_waits_for_the_pong_of_the_last_and_not_for_its_five_seconds() {
    let mut bench = Bench::new(Mode::Read);
    bench.publish(true);
    assert_eq!(bench.send(), [1]);
    bench.publish(true);
    assert!(bench.send().is_empty());
    bench.read();
    assert_eq!(bench.send(), [2]);
}

#[test]
fn what_is_not_wanted_moves_the_cursor_and_is_never_sent() {
    let mut bench = Bench::new(Mode::Read);
    bench.publish(false);
    assert_eq!(bench.line.cursor(), 1);
    bench.publish(true);
    bench.publish(false);
    assert_eq!(bench.line.cursor(), 1);
    assert_eq!(bench.send(), [2]);
    bench.read();
    bench.pass(5);
    assert_eq!(bench.line.cursor(), 3);
}

#[test]
fn a_grant_that_was_taken_back_stops_what_waits_and_what_is_retried() {
    let mut bench = Bench::new(Mode::Ack);
    (0..3).for_each(|_| bench.publish(true));
    let now = bench.now();
    let sent = bench.line.next_batch(Mode::Ack, usize::MAX, now, |entry| entry.seq != 2);
    assert_eq!(sent.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 3]);
    bench.ack(1, Err("no"));
    bench.ack(3, Ok(()));
    bench.pass(10);
    let now = bench.now();
    assert!(bench.line.next_batch(Mode::Ack, usize::MAX, now, |_| false).is_empty());
    bench.book();
    assert!(bench.open.is_empty(), "it is not open any more");
}

#[test]
fn a_plugin_that_acks_has_no_more_in_hand_than_its_window() {
    let mut bench = Bench::new(Mode::Ack);
    (0..100).for_each(|_| bench.publish(true));
    assert_eq!(bench.send().len(), WINDOW);
    assert!(bench.send().is_empty());
    assert!(bench.ack(5, Ok(())));
    assert!(!bench.ack(5, Ok(())), "once");
    assert!(!bench.ack(90, Ok(())), "not before it was sent");
    assert!(!bench.ack(9_999, Ok(())));
    assert_eq!(bench.send(), [65]);
    assert_eq!(bench.line.cursor(), 0, "the first is not settled");
    assert!(bench.ack(1, Ok(())));
    assert_eq!(bench.line.cursor(), 1);
}

#[test]
fn an_event_that_failed_leaves_the_line_and_later_ones_go_on() {
    let mut bench = Bench::new(Mode::Ack);
    (0..3).for_each(|_| bench.publish(true));
    bench.send();
    bench.ack(1, Err("no room"));
    assert_eq!(bench.state(1), Some(DeliveryState::Retrying));
    assert_eq!(bench.open[&1].outcome.as_deref(), Some("no room"));
    bench.ack(2, Ok(()));
    bench.ack(3, Ok(()));
    assert_eq!(bench.line.cursor(), 3, "its row holds it");
    assert!(bench.send().is_empty());
    bench.pass(1);
    assert_eq!(bench.send(), [1]);
    bench.ack(1, Ok(()));
    assert_eq!(bench.last(), (1, 2, AttemptResult::Settled));
    assert!(bench.open.is_empty());
}

#[test]
fn a_failing_event_is_tried_after_growing_waits_and_is_a_dead_letter_at_last() {
    for mode in [Mode::Ack, Mode::Post] {
        let mut bench = Bench::new(mode);
        bench.publish(true);
        let mut waits = Vec::new();
        loop {
            assert_eq!(bench.send(), [1]);
            let now = bench.now();
            match mode {
                Mode::Post => bench.line.post_failed(now, "answered 500: no".into()),
                _ => drop(bench.line.acked("1", Err("answered 500: no".into()), now)),
            }
            bench.book();
            let Some(next) = bench.open[&1].next_attempt_at else { break };
            let wait = (next - bench.now().utc).num_seconds() as u64;
            waits.push(wait);
            bench.pass(wait - 1);
            assert!(bench.send().is_empty());
            bench.pass(1);
        }
        assert_eq!(waits, [1, 5, 30, 120, 600, 3_600]);
        assert_eq!(bench.state(1), Some(DeliveryState::Dead));
        assert_eq!(bench.last(), (1, 7, AttemptResult::Dead));
        bench.pass(100_000);
        assert!(bench.send().is_empty());
    }
}

#[test]
fn an_ack_that_does_not_come_in_time_is_a_failure_and_one_that_comes_late_still_counts() {
    let mut bench = Bench::new(Mode::Ack);
    bench.publish(true);
    bench.send();
    bench.pass(29);
    assert!(bench.attempts.is_empty());
    bench.pass(1);
    assert_eq!(bench.last(), (1, 1, AttemptResult::Failed));
    assert_eq!(bench.attempts[0].answer.as_deref(), Some("no ack within 30 s"));
    assert!(!bench.ack(1, Err("too late to complain")));
    assert!(bench.ack(1, Ok(())));
    assert_eq!(bench.last(), (1, 1, AttemptResult::Settled));
    assert!(bench.open.is_empty());
    bench.pass(3_600);
    assert!(bench.send().is_empty(), "it was handled");
}

#[test]
fn an_honest_slow_plugin_is_not_punished_for_what_waits_in_its_own_line() {
    let mut bench = Bench::new(Mode::Ack);
    (0..10).for_each(|_| bench.publish(true));
    assert_eq!(bench.send().len(), 10);
    for seq in 1..=10 {
        bench.pass(25);
        assert!(bench.ack(seq, Ok(())));
    }
    assert_eq!(bench.attempts.len(), 10);
    assert!(bench.attempts.iter().all(|attempt| attempt.result == AttemptResult::Settled));
}

#[test]
fn an_event_that_hangs_is_not_kept_alive_by_later_ones_that_are_acked() {
    let mut bench = Bench::new(Mode::Ack);
    (0..10).for_each(|_| bench.publish(true));
    bench.send();
    for seq in 2..=4 {
        bench.pass(10);
        bench.ack(seq, Ok(()));
    }
    assert_eq!(bench.state(1), Some(DeliveryState::Retrying));
}

#[test]
fn after_a_crash_events_go_alone_first_and_in_growing_groups_while_it_goes_well() {
    let mut bench = Bench::new(Mode::Read);
    (0..10).for_each(|_| bench.publish(true));
    assert_eq!(bench.send().len(), 10);
    bench.crash();
    assert!(bench.attempts.is_empty(), "nobody knows which of ten it was");
    for group in [&[1][..], &[2, 3], &[4, 5, 6, 7], &[8, 9, 10]] {
        assert_eq!(bench.send(), group);
        bench.read();
        assert!(bench.send().is_empty(), "the group must be survived first");
        assert_eq!(bench.pass(5), group);
    }
    (0..20).for_each(|_| bench.publish(true));
    assert_eq!(bench.send().len(), 20, "everything is as before");
}

#[test]
fn the_third_crash_on_one_event_makes_it_a_dead_letter_while_the_others_go_on() {
    for mode in [Mode::Read, Mode::Ack] {
        let mut bench = Bench::new(mode);
        bench.publish(true);
        bench.publish(true);
        bench.send();
        bench.crash();
        assert!(bench.attempts.is_empty());
        assert_eq!(bench.send(), [1]);
        assert!(bench.line.would_blame());
        bench.crash();
        assert_eq!(bench.last(), (1, 1, AttemptResult::Failed));
        assert_eq!(bench.line.cursor(), 1);
        // The other one, while the first waits beside the line.
        assert_eq!(bench.send(), [2]);
        bench.read();
        bench.ack(2, Ok(()));
        bench.pass(5);
        for crashes in 2..=3 {
            bench.publish(true);
            assert_eq!(bench.send(), [1], "alone, although others wait");
            assert!(bench.send().is_empty());
            bench.crash();
            bench.pass(5);
            assert_eq!(bench.last().1, crashes);
            // The first crash may have left somebody under suspicion.
            for seq in bench.send() {
                bench.ack(seq, Ok(()));
            }
            bench.read();
            bench.pass(5);
        }
        assert_eq!(bench.state(1), Some(DeliveryState::Dead));
        assert_eq!(bench.open[&1].outcome.as_deref(), Some(PLUGIN_CRASHED));
        assert_eq!(bench.line.cursor(), bench.published);
    }
}

#[test]
fn a_second_event_in_a_row_that_crashes_the_plugin_is_not_to_blame() {
    let mut bench = Bench::new(Mode::Ack);
    (0..2).for_each(|_| bench.publish(true));
    let mut blamed = Vec::new();
    while bench.state(1) != Some(DeliveryState::Dead) {
        let sent = bench.send();
        blamed.extend(sent.iter().map(|_| bench.line.would_blame()));
        match sent[..] {
            [2] => bench.line.stopped(bench.now()),
            _ => bench.crash(),
        }
        bench.pass(10);
    }
    assert_eq!(bench.send(), [2]);
    assert!(!bench.line.would_blame(), "nothing went well since the first one was given up");
    bench.ack(2, Ok(()));
    bench.publish(true);
    bench.send();
    assert!(bench.line.would_blame());
}

#[test]
fn an_event_with_a_crash_on_its_record_goes_alone_also_after_the_host_was_restarted() {
    let mut bench = Bench::new(Mode::Ack);
    bench.publish(true);
    bench.send();
    bench.crash();
    (0..3).for_each(|_| bench.publish(true));
    bench.restart();
    bench.pass(1);
    let mut sent = bench.send();
    if sent.len() == 1 && sent != [1] {
        bench.ack(sent[0], Ok(()));
        sent = bench.send();
    }
    assert_eq!(sent, [1]);
    assert!(bench.send().is_empty());
}

#[test]
fn after_a_stop_everything_goes_out_again_together() {
    let mut bench = Bench::new(Mode::Read);
    (0..3).for_each(|_| bench.publish(true));
    bench.send();
    bench.read();
    bench.line.stopped(bench.now());
    assert!(bench.pass(60).is_empty());
    assert_eq!(bench.send(), [1, 2, 3]);
}

#[test]
fn a_new_channel_to_the_same_run_gets_again_only_what_may_not_have_been_read() {
    let mut bench = Bench::new(Mode::Read);
    bench.publish(true);
    bench.send();
    bench.read();
    bench.publish(true);
    bench.send();
    bench.line.channel_lost(bench.now());
    assert_eq!(bench.send(), [2]);
    assert_eq!(bench.pass(5), [1]);
}

#[test]
fn a_line_takes_no_more_than_its_bounds() {
    let mut bench = Bench::new(Mode::Read);
    while bench.line.has_room() {
        bench.publish(true);
    }
    assert_eq!(bench.published as usize, MAX_EVENTS);
    let mut large = Line::new(0, SURVIVE, None);
    let json: Arc<str> = "x".repeat(256 * 1024).into();
    let (first, _) = &bench.journal[0];
    let mut taken = 0;
    while large.has_room() {
        taken += 1;
        let entry = Entry {
            seq: taken,
            id: String::new(),
            event_type: String::new(),
            project_id: None,
            published_at: first.published_at,
            json: json.clone(),
            forms: Default::default(),
        };
        large.take(&Arc::new(entry), true, None);
    }
    assert_eq!(taken as usize, MAX_BYTES / json.len());
}

#[test]
fn a_full_line_looks_at_the_journal_again_only_once_there_is_room_for_many() {
    let mut bench = Bench::new(Mode::Read);
    while bench.line.wants_more() {
        bench.publish(true);
    }
    let room = MAX_EVENTS - bench.published as usize;
    assert!(bench.line.has_room() && room > 1_000, "{room}");
    while bench.line.has_room() {
        bench.publish(true);
    }
    assert!(!bench.line.wants_more());
}

#[test]
fn posts_go_one_by_one_and_a_failing_one_holds_up_nobody() {
    let mut bench = Bench::new(Mode::Post);
    (0..3).for_each(|_| bench.publish(true));
    assert_eq!(bench.send(), [1]);
    assert!(bench.send().is_empty(), "one at a time");
    bench.line.post_failed(bench.now(), "answered 500: no".into());
    bench.book();
    for seq in 2..=3 {
        assert_eq!(bench.send(), [seq]);
        bench.line.posted(bench.now(), "answered 204".into());
        bench.book();
        assert_eq!(bench.last(), (seq, 1, AttemptResult::Settled));
    }
    bench.pass(1);
    assert_eq!(bench.send(), [1]);
}

#[test]
fn retries_and_the_line_take_turns() {
    let mut bench = Bench::new(Mode::Post);
    (0..4).for_each(|_| bench.publish(true));
    for seq in 1..=2 {
        assert_eq!(bench.send(), [seq]);
        bench.line.post_failed(bench.now(), "no".into());
        bench.book();
    }
    bench.pass(1);
    let mut order = Vec::new();
    loop {
        let sent = bench.send();
        if sent.is_empty() {
            break;
        }
        order.extend(sent);
        bench.line.posted(bench.now(), "answered 204".into());
        bench.book();
    }
    assert_eq!(order, [1, 3, 2, 4]);
}

#[test]
fn what_is_not_read_for_a_while_is_recorded_as_sent_once() {
    let mut bench = Bench::new(Mode::Read);
    (0..2).for_each(|_| bench.publish(true));
    bench.send();
    bench.pass(9);
    assert!(bench.open.is_empty());
    assert_eq!(bench.line.next_due_at(Mode::Read, bench.now()), Some(bench.begun.instant + TELL_AFTER));
    bench.pass(1);
    assert_eq!([bench.state(1), bench.state(2)], [Some(DeliveryState::Sent); 2]);
    assert_eq!(bench.line.next_due_at(Mode::Read, bench.now()), None, "nothing is due until it is read");
    bench.read();
    assert_eq!(bench.pass(5), [1, 2]);
    assert!(bench.open.is_empty());
}

#[test]
fn however_many_fail_only_the_soonest_are_in_memory_and_all_come_back() {
    let mut bench = Bench::new(Mode::Ack);
    let count = IN_MEMORY as Seq * 3;
    (0..count).for_each(|_| bench.publish(true));
    for seq in 1..=count {
        if !bench.line.is_in_flight(seq) {
            bench.send();
        }
        bench.ack(seq, Err("no"));
        assert!(bench.line.beside.items().count() <= IN_MEMORY);
    }
    assert_eq!(bench.open.len() as Seq, count);
    bench.pass(2);
    let mut seen = Vec::new();
    while seen.len() < count as usize {
        let sent = bench.send();
        assert!(!sent.is_empty(), "{} of {count} came back", seen.len());
        for seq in sent {
            assert!(bench.ack(seq, Ok(())));
            seen.push(seq);
        }
        assert!(bench.line.beside.items().count() <= IN_MEMORY);
    }
    assert!(bench.open.is_empty());
}

#[test]
fn strict_order_holds_the_project_of_a_failing_event_and_no_other() {
    let mut bench = Bench::ordered(Mode::Ack, true);
    for project in [1, 1, 2, 1, 2] {
        bench.publish_in(true, Some(project));
    }
    assert_eq!(bench.send(), [1, 3], "one of each project at a time");
    bench.ack(1, Err("no"));
    bench.ack(3, Ok(()));
    assert_eq!(bench.send(), [5]);
    bench.ack(5, Ok(()));
    bench.publish_in(true, Some(1));
    bench.publish_in(true, None);
    assert_eq!(bench.send(), [7]);
    bench.ack(7, Ok(()));
    assert_eq!([2, 4, 6].map(|seq| bench.state(seq)), [Some(DeliveryState::Held); 3]);
    assert_eq!(bench.line.cursor(), 7, "those that wait are held by their rows");
    bench.restart();
    bench.pass(1);
    for seq in [1, 2, 4, 6] {
        assert_eq!(bench.send(), [seq]);
        bench.ack(seq, Ok(()));
    }
    assert!(bench.open.is_empty());
    bench.publish_in(true, Some(1));
    assert_eq!(bench.send(), [8]);
}

#[test]
fn a_replay_sends_everything_after_its_place_again_in_order_and_leaves_retries_alone() {
    let mut bench = Bench::new(Mode::Ack);
    (0..4).for_each(|_| bench.publish(true));
    bench.send();
    for seq in [1, 3, 4] {
        bench.ack(seq, Ok(()));
    }
    bench.ack(2, Err("no"));
    bench.line.rewind(0);
    bench.book();
    assert_eq!(bench.cursor, 0);
    // The journal is looked at again.
    bench.restart();
    assert_eq!(bench.send(), [1, 3, 4]);
    bench.ack(1, Ok(()));
    assert_eq!(bench.last(), (1, 2, AttemptResult::Settled), "attempts are counted on");
    bench.pass(1);
    assert_eq!(bench.send(), [2]);
}
