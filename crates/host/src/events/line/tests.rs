//! Tests of the line: its promises one by one, and all of them under random histories.

use proptest::prelude::*;

use super::*;

const SURVIVE: Duration = Duration::from_secs(5);

/// A line with a clock that the test moves.
struct Bench {
    line: Line,
    begun: Now,
    seconds: u64,
    published: Seq,
}

impl Bench {
    fn new() -> Self {
        Self { line: Line::new(0, SURVIVE, HashMap::new()), begun: Now::read(), seconds: 0, published: 0 }
    }

    fn now(&self) -> Now {
        let passed = Duration::from_secs(self.seconds);
        Now { instant: self.begun.instant + passed, utc: self.begun.utc + passed }
    }

    fn publish(&mut self, wanted: bool) {
        self.published += 1;
        let entry = Entry {
            seq: self.published,
            id: self.published.to_string(),
            event_type: "deployment.ready".into(),
            project_id: None,
            json: "{}".into(),
        };
        self.line.take(&Arc::new(entry), wanted);
    }

    fn send(&mut self) -> Vec<Seq> {
        let now = self.now();
        self.line.next_batch(now, |_| true).iter().map(|entry| entry.seq).collect()
    }

    fn read(&mut self) {
        let now = self.now();
        self.line.read(now);
    }

    fn settle_after(&mut self, seconds: u64) -> Vec<Seq> {
        self.seconds += seconds;
        let now = self.now();
        self.line.settle(now).iter().map(|record| record.seq).collect()
    }

    fn crash(&mut self) -> Option<DeliveryRecord> {
        let now = self.now();
        self.line.crashed(now, "channel")
    }
}

#[test]
fn an_event_is_settled_when_it_was_read_and_survived_and_not_before() {
    let mut bench = Bench::new();
    (0..3).for_each(|_| bench.publish(true));
    assert_eq!(bench.send(), [1, 2, 3]);
    assert!(bench.settle_after(60).is_empty(), "nobody knows that they were read");
    assert_eq!(bench.line.cursor(), 0);
    bench.read();
    assert!(bench.settle_after(4).is_empty());
    assert_eq!(bench.settle_after(1), [1, 2, 3]);
    assert_eq!(bench.line.cursor(), 3);
}

#[test]
fn the_next_batch_waits_for_the_pong_of_the_last_and_not_for_its_five_seconds() {
    let mut bench = Bench::new();
    bench.publish(true);
    assert_eq!(bench.send(), [1]);
    bench.publish(true);
    assert!(bench.send().is_empty());
    bench.read();
    assert_eq!(bench.send(), [2]);
}

#[test]
fn what_is_not_wanted_moves_the_cursor_and_is_never_sent() {
    let mut bench = Bench::new();
    bench.publish(false);
    assert_eq!(bench.line.cursor(), 1);
    bench.publish(true);
    bench.publish(false);
    assert_eq!(bench.line.cursor(), 1);
    assert_eq!(bench.send(), [2]);
    bench.read();
    bench.settle_after(5);
    assert_eq!(bench.line.cursor(), 3);
}

#[test]
fn a_grant_that_was_taken_back_stops_what_waits() {
    let mut bench = Bench::new();
    (0..3).for_each(|_| bench.publish(true));
    let sent = bench.line.next_batch(bench.now(), |entry| entry.seq != 2);
    assert_eq!(sent.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn after_a_crash_events_go_alone_first_and_in_growing_groups_while_it_goes_well() {
    let mut bench = Bench::new();
    (0..10).for_each(|_| bench.publish(true));
    assert_eq!(bench.send().len(), 10);
    assert!(bench.crash().is_none(), "nobody knows which of ten it was");
    for group in [&[1][..], &[2, 3], &[4, 5, 6, 7], &[8, 9, 10]] {
        assert_eq!(bench.send(), group);
        bench.read();
        assert!(bench.send().is_empty(), "the group must be survived first");
        assert_eq!(bench.settle_after(5), group);
    }
    (0..20).for_each(|_| bench.publish(true));
    assert_eq!(bench.send().len(), 20, "everything is as before");
}

#[test]
fn the_third_crash_on_one_event_makes_it_a_dead_letter_and_the_line_goes_on() {
    let mut bench = Bench::new();
    bench.publish(true);
    bench.publish(true);
    bench.send();
    assert!(bench.crash().is_none());
    for attempt in 1..=2 {
        assert_eq!(bench.send(), [1]);
        bench.read();
        let record = bench.crash().unwrap();
        assert_eq!((record.state, record.attempts), (DeliveryState::Retrying, attempt));
        assert_eq!(bench.line.cursor(), 0);
    }
    assert_eq!(bench.send(), [1]);
    let record = bench.crash().unwrap();
    assert_eq!((record.state, record.attempts, record.seq), (DeliveryState::Dead, 3, 1));
    assert_eq!(record.outcome.as_deref(), Some(PLUGIN_CRASHED));
    assert_eq!(bench.line.cursor(), 1);
    assert_eq!(bench.send(), [2]);
}

#[test]
fn an_event_with_a_crash_on_its_record_goes_alone_also_after_the_host_was_restarted() {
    let open = HashMap::from([(2, Tries { failed: 2, crashed: 2 })]);
    let mut bench = Bench::new();
    bench.line = Line::new(0, SURVIVE, open);
    (0..4).for_each(|_| bench.publish(true));
    assert_eq!(bench.send(), [1]);
    bench.read();
    bench.settle_after(5);
    assert_eq!(bench.send(), [2]);
    assert_eq!(bench.crash().unwrap().state, DeliveryState::Dead);
}

#[test]
fn after_a_stop_everything_goes_out_again_together() {
    let mut bench = Bench::new();
    (0..3).for_each(|_| bench.publish(true));
    bench.send();
    bench.read();
    bench.line.stopped();
    assert!(bench.settle_after(60).is_empty());
    assert_eq!(bench.send(), [1, 2, 3]);
}

#[test]
fn a_new_channel_to_the_same_run_gets_again_only_what_may_not_have_been_read() {
    let mut bench = Bench::new();
    bench.publish(true);
    bench.send();
    bench.read();
    bench.publish(true);
    bench.send();
    bench.line.channel_lost();
    assert_eq!(bench.send(), [2]);
    assert_eq!(bench.settle_after(5), [1]);
}

#[test]
fn a_line_takes_no_more_than_its_bounds() {
    let mut bench = Bench::new();
    while bench.line.has_room() {
        bench.publish(true);
    }
    assert_eq!(bench.published as usize, MAX_EVENTS);
    let mut large = Line::new(0, SURVIVE, HashMap::new());
    let json: Arc<str> = "x".repeat(256 * 1024).into();
    let mut taken = 0;
    while large.has_room() {
        taken += 1;
        let entry = Entry {
            seq: taken,
            id: String::new(),
            event_type: String::new(),
            project_id: None,
            json: json.clone(),
        };
        large.take(&Arc::new(entry), true);
    }
    assert_eq!(taken as usize, MAX_BYTES / json.len());
}

#[test]
fn a_failing_post_is_tried_again_in_place_with_longer_waits_and_given_up_at_last() {
    let mut bench = Bench::new();
    bench.publish(true);
    bench.publish(true);
    let mut waits = Vec::new();
    loop {
        let entry = bench.line.next_post(bench.now(), |_| true).unwrap();
        assert_eq!(entry.seq, 1, "the line stands");
        assert!(bench.line.next_post(bench.now(), |_| true).is_none(), "one at a time");
        let (record, wait) = bench.line.post_failed(bench.now(), "answered 500: no".into()).unwrap();
        if record.state == DeliveryState::Dead {
            assert_eq!(record.outcome.as_deref(), Some("answered 500: no"));
            break;
        }
        waits.push(wait.as_secs());
    }
    assert_eq!(waits, [1, 5, 30, 120, 120, 120, 120]);
    assert_eq!(bench.line.next_post(bench.now(), |_| true).unwrap().seq, 2);
    let settled = bench.line.posted(bench.now(), "answered 204".into()).unwrap();
    assert_eq!((settled.state, settled.attempts), (DeliveryState::Settled, 1));
    assert_eq!(bench.line.cursor(), 2);
}

#[test]
fn what_is_not_read_for_a_while_is_recorded_as_sent_once() {
    let mut bench = Bench::new();
    (0..2).for_each(|_| bench.publish(true));
    bench.send();
    assert_eq!(bench.line.next_due_at(), Some(bench.begun.instant + UNREAD_AFTER));
    bench.seconds = 9;
    assert!(bench.line.tell_unread(bench.now()).is_empty());
    bench.seconds = 10;
    let told = bench.line.tell_unread(bench.now());
    assert_eq!(
        told.iter().map(|record| (record.seq, record.state)).collect::<Vec<_>>(),
        [(1, DeliveryState::Sent), (2, DeliveryState::Sent)]
    );
    assert!(bench.line.tell_unread(bench.now()).is_empty());
    assert_eq!(bench.line.next_due_at(), None, "nothing is due until it is read");
    bench.read();
    assert_eq!(bench.settle_after(5), [1, 2]);
}

/// What happens to a line in a random history.
#[derive(Debug, Clone)]
enum Step {
    Publish(bool),
    Send,
    Read,
    Pass(u64),
    Crash,
    Stop,
    LoseChannel,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(Step::Publish),
        4 => Just(Step::Send),
        4 => Just(Step::Read),
        3 => (1_u64..7).prop_map(Step::Pass),
        1 => Just(Step::Crash),
        1 => Just(Step::Stop),
        1 => Just(Step::LoseChannel),
    ];
    prop::collection::vec(step, 0..120)
}

/// What the plugin would say about the history.
#[derive(Default)]
struct Witness {
    wanted: Vec<Seq>,
    done: Vec<Seq>,
    /// Sent on this link and not settled, with the second in which it was read.
    out: Vec<(Seq, Option<u64>)>,
    alone_at_crash: HashMap<Seq, u32>,
}

impl Witness {
    fn take(&mut self, bench: &mut Bench, step: &Step) {
        match step {
            Step::Publish(wanted) => {
                bench.publish(*wanted);
                if *wanted {
                    self.wanted.push(bench.published);
                }
            }
            Step::Send => {
                let batch = bench.send();
                for seq in batch {
                    assert!(self.out.iter().all(|(out, _)| *out < seq), "in order, and once on a link");
                    self.out.push((seq, None));
                }
            }
            Step::Read => {
                bench.read();
                let second = bench.seconds;
                self.out.iter_mut().for_each(|(_, read)| *read = read.or(Some(second)));
            }
            Step::Pass(seconds) => {
                for seq in bench.settle_after(*seconds) {
                    let (out, read) = self.out.remove(0);
                    assert_eq!(out, seq);
                    assert!(read.unwrap() + SURVIVE.as_secs() <= bench.seconds, "survived");
                    self.done.push(seq);
                }
            }
            Step::Crash => self.crash(bench),
            Step::Stop => {
                bench.line.stopped();
                self.out.clear();
            }
            Step::LoseChannel => {
                bench.line.channel_lost();
                self.out.retain(|(_, read)| read.is_some());
            }
        }
    }

    fn crash(&mut self, bench: &mut Bench) {
        let record = bench.crash();
        match (&self.out[..], &record) {
            (&[(seq, _)], Some(record)) => {
                let crashes = self.alone_at_crash.entry(seq).or_default();
                *crashes += 1;
                assert_eq!((record.seq, record.attempts), (seq, *crashes));
                assert_eq!(record.state == DeliveryState::Dead, *crashes == 3);
                if *crashes == 3 {
                    self.done.push(seq);
                }
            }
            (_, None) => assert_ne!(self.out.len(), 1),
            _ => panic!("blamed without being alone: {record:?}"),
        }
        self.out.clear();
    }
}

proptest! {
    #[test]
    fn in_every_history_each_event_is_done_once_in_order_and_the_cursor_never_passes_one_that_is_not(history in steps()) {
        let mut bench = Bench::new();
        let mut witness = Witness::default();
        let mut cursor = 0;
        let to_the_end = std::iter::repeat_n([Step::Send, Step::Read, Step::Pass(5)], 200).flatten();
        for step in history.into_iter().chain(to_the_end) {
            witness.take(&mut bench, &step);
            prop_assert!(bench.line.cursor() >= cursor, "the cursor goes back");
            cursor = bench.line.cursor();
            let open = witness.wanted.iter().find(|seq| !witness.done.contains(seq));
            prop_assert!(open.is_none_or(|open| cursor < *open), "the cursor passes {open:?}");
        }
        prop_assert_eq!(&witness.done, &witness.wanted);
        prop_assert_eq!(cursor, bench.published);
        prop_assert_eq!(bench.line.bytes, 0);
    }
}
