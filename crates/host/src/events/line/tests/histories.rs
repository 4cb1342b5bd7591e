//! All promises of the line at once, under random histories.

use std::collections::HashMap;

use proptest::prelude::*;
use temps_store::AttemptResult;

use super::super::*;
use super::bench::Bench;

/// What happens to a line in a random history.
#[derive(Debug, Clone)]
enum Step {
    Publish(bool, Group),
    Send,
    Read,
    /// Acks (or answers) the n-th of what is out.
    Ack(usize, bool),
    StrayAck(Seq),
    Pass(u64),
    Crash,
    Stop,
    LoseChannel,
    KillHost,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = prop_oneof![Just(None), Just(Some(1)), Just(Some(2))];
    let step = prop_oneof![
        6 => (prop::bool::weighted(0.8), group).prop_map(|(wanted, group)| Step::Publish(wanted, group)),
        6 => Just(Step::Send),
        4 => Just(Step::Read),
        6 => (0_usize..4, prop::bool::weighted(0.7)).prop_map(|(index, ok)| Step::Ack(index, ok)),
        1 => (0..30_i64).prop_map(Step::StrayAck),
        3 => (1_u64..40).prop_map(Step::Pass),
        1 => (100_u64..5_000).prop_map(Step::Pass),
        2 => Just(Step::Crash),
        1 => Just(Step::Stop),
        1 => Just(Step::LoseChannel),
        1 => Just(Step::KillHost),
    ];
    prop::collection::vec(step, 0..150)
}

/// What the plugin would say about the history.
#[derive(Default)]
struct Witness {
    /// What is out on this link, in the order of sending.
    out: Vec<Seq>,
    ever_sent: HashMap<Seq, u32>,
    last_first: HashMap<Group, Seq>,
    crashed_alone: HashMap<Seq, u32>,
}

impl Witness {
    fn take(&mut self, bench: &mut Bench, step: &Step) {
        match step {
            Step::Publish(wanted, group) => bench.publish_in(*wanted, *group),
            Step::Send => self.send(bench),
            Step::Read if bench.mode == Mode::Read => bench.read(),
            Step::Read => {}
            Step::Ack(index, ok) => self.answer(bench, *index, *ok),
            Step::StrayAck(seq) => {
                if !self.out.contains(seq) {
                    let in_time = bench.open.get(seq).and_then(|record| record.outcome.clone());
                    let late = in_time.is_some_and(|outcome| outcome.starts_with("no ack within"));
                    assert!(!bench.ack(*seq, Ok(())) || late, "an ack of what was not out counts");
                }
            }
            Step::Pass(seconds) => drop(bench.pass(*seconds)),
            Step::Crash => {
                if let [alone] = self.out[..] {
                    *self.crashed_alone.entry(alone).or_default() += 1;
                }
                bench.crash();
            }
            Step::Stop => {
                bench.line.stopped(bench.now());
                bench.book();
            }
            Step::LoseChannel => {
                bench.line.channel_lost(bench.now());
                bench.book();
            }
            Step::KillHost => bench.restart(),
        }
        self.out.retain(|seq| bench.line.is_in_flight(*seq));
        assert_eq!(self.out.len(), bench.line.unsettled());
    }

    fn send(&mut self, bench: &mut Bench) {
        for seq in bench.send() {
            assert!(!self.out.contains(&seq), "twice at a time");
            let group = bench.journal[seq as usize - 1].0.project_id;
            if bench.strict {
                self.check_strict(bench, seq, group);
            }
            let sent = self.ever_sent.entry(seq).or_default();
            *sent += 1;
            if *sent == 1 {
                let key = if bench.strict { group } else { None };
                let last = self.last_first.insert(key, seq);
                assert!(last.is_none_or(|last| last < seq), "first attempts are out of order");
            }
            self.out.push(seq);
        }
        let most = match bench.mode {
            Mode::Ack => WINDOW,
            Mode::Post => 1,
            Mode::Read => MAX_EVENTS,
        };
        assert!(self.out.len() <= most);
        let suspects =
            self.out.iter().filter(|seq| bench.open.get(seq).is_some_and(|record| record.crashes > 0));
        assert!(suspects.count() == 0 || self.out.len() == 1, "a suspect is not alone");
    }

    /// Nothing of the project before it is open; without acks several may be out.
    fn check_strict(&self, bench: &Bench, seq: Seq, group: Group) {
        let before = bench.journal[..seq as usize - 1].iter();
        for (entry, _) in before.filter(|(entry, wanted)| *wanted && entry.project_id == group) {
            let out = self.out.contains(&entry.seq);
            let done = bench
                .attempts
                .iter()
                .any(|attempt| attempt.seq == entry.seq && attempt.result != AttemptResult::Failed);
            assert!(done || out && bench.mode == Mode::Read, "{seq} overtakes {}", entry.seq);
        }
    }

    fn answer(&mut self, bench: &mut Bench, index: usize, ok: bool) {
        let Some(&seq) = self.out.get(index) else { return };
        match bench.mode {
            Mode::Read => return,
            Mode::Ack => assert!(bench.ack(seq, if ok { Ok(()) } else { Err("no") })),
            Mode::Post if ok => bench.line.posted(bench.now(), "answered 204".into()),
            Mode::Post => bench.line.post_failed(bench.now(), "answered 500: no".into()),
        }
        bench.book();
    }

    /// The plugin is well from now on.
    fn play_to_the_end(&mut self, bench: &mut Bench) {
        for _ in 0..2_000 {
            self.take(bench, &Step::Send);
            self.take(bench, &Step::Read);
            while bench.mode != Mode::Read && !self.out.is_empty() {
                self.take(bench, &Step::Ack(0, true));
            }
            self.take(bench, &Step::Pass(5));
        }
    }
}

fn is_done(bench: &Bench, seq: Seq) -> bool {
    let ended = |result| bench.attempts.iter().any(|attempt| attempt.seq == seq && attempt.result == result);
    ended(AttemptResult::Settled) || ended(AttemptResult::Dead)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn in_every_history_nothing_is_lost_first_attempts_are_in_order_and_the_cursor_passes_nothing_that_is_not_held(
        history in steps(), mode in prop_oneof![Just(Mode::Read), Just(Mode::Ack), Just(Mode::Post)], strict in any::<bool>()
    ) {
        let mut bench = Bench::ordered(mode, strict);
        let mut witness = Witness::default();
        for step in &history {
            witness.take(&mut bench, step);
            for (entry, wanted) in &bench.journal[..bench.cursor as usize] {
                let held = bench.open.contains_key(&entry.seq) || is_done(&bench, entry.seq);
                prop_assert!(!wanted || held, "the cursor passes {}", entry.seq);
            }
        }
        witness.play_to_the_end(&mut bench);
        for (entry, wanted) in &bench.journal {
            prop_assert_eq!(*wanted, is_done(&bench, entry.seq), "{} of {:?}", entry.seq, bench.open);
        }
        for (seq, record) in &bench.open {
            prop_assert_eq!(record.state, DeliveryState::Dead, "{} stays open", seq);
            prop_assert!(record.crashes >= 3 || record.failures == 7);
            let crashes = witness.crashed_alone.get(seq).copied().unwrap_or(0);
            prop_assert!(record.crashes <= crashes, "blamed without being alone");
        }
        prop_assert_eq!(bench.cursor, bench.published);
        prop_assert_eq!(bench.line.bytes, 0);
    }
}
