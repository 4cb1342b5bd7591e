//! How a crashed plugin comes back: a pure decision from the history of its crashes.
//!
//! Nothing here waits or looks at a clock; the time and the jitter are arguments, so that every case can be tested.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::RestartPolicy;

/// Most crashes that a history remembers; more than any sensible `quarantine_after`, so the list stays bounded.
const MAX_REMEMBERED: usize = 1_000;

/// Share of a wait that jitter may take away, so that plugins that fell together do not rise together.
const JITTER_SHARE: f64 = 0.2;

/// What became of a plugin lately. Cleared by an operator's start, by a new version, and by staying up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrashHistory {
    crashes: VecDeque<Instant>,
    /// Crashes in a row without staying up in between; sets the wait.
    in_a_row: u32,
    /// The present start is the single try of a plugin in quarantine.
    trying_again: bool,
}

/// When a crashed plugin is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comeback {
    /// After a wait.
    Backoff {
        /// When.
        until: Instant,
    },
    /// It crashed too often: one try at this time, and quarantine again when that fails.
    Quarantine {
        /// When.
        until: Instant,
    },
}

impl CrashHistory {
    /// Notes a crash at `now` after `up` of running (zero when it never ran) and says when the next start is.
    ///
    /// `jitter` is in `0.0..1.0`, taken from outside.
    pub fn crashed(&mut self, now: Instant, up: Duration, jitter: f64, policy: &RestartPolicy) -> Comeback {
        if up >= policy.reset_after {
            self.in_a_row = 0;
            self.trying_again = false;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.crashes.push_back(now);
        while self.crashes.len() > MAX_REMEMBERED {
            self.crashes.pop_front();
        }
        while self.crashes.front().is_some_and(|at| now.duration_since(*at) > policy.window) {
            self.crashes.pop_front();
        }
        let too_often = policy.quarantine_after > 0
            && (self.trying_again || self.crashes.len() >= policy.quarantine_after as usize);
        if too_often {
            self.trying_again = false;
            return Comeback::Quarantine { until: now + policy.half_open_every };
        }
        Comeback::Backoff { until: now + backoff(self.in_a_row, jitter, policy) }
    }

    /// Notes a crash that is the fault of one event, as [`CrashHistory::crashed`]: it makes the next wait longer and does not
    /// count for quarantine. The event is a dead letter before long.
    pub fn crashed_on_an_event(&mut self, now: Instant, jitter: f64, policy: &RestartPolicy) -> Comeback {
        self.in_a_row = self.in_a_row.saturating_add(1);
        Comeback::Backoff { until: now + backoff(self.in_a_row, jitter, policy) }
    }

    /// Notes that the start which follows is the single try of a plugin in quarantine.
    pub fn try_again(&mut self) {
        self.trying_again = true;
    }
}

/// The wait after so many crashes in a row: doubling, bounded, shortened by up to a fifth.
fn backoff(in_a_row: u32, jitter: f64, policy: &RestartPolicy) -> Duration {
    let doublings = in_a_row.saturating_sub(1).min(31);
    let wait = policy.backoff_min.saturating_mul(1u32 << doublings).min(policy.backoff_max);
    wait.mul_f64(1.0 - JITTER_SHARE * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> RestartPolicy {
        crate::HostConfig::for_places("p".into(), "s".into(), "r".into()).restart
    }

    fn wait(comeback: Comeback, now: Instant) -> Duration {
        match comeback {
            Comeback::Backoff { until } | Comeback::Quarantine { until } => until - now,
        }
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_begins_again_after_staying_up() {
        let policy = RestartPolicy { quarantine_after: 0, ..policy() };
        let now = Instant::now();
        let mut history = CrashHistory::default();
        let mut waits: Vec<u64> = Vec::new();
        for _ in 0..9 {
            waits.push(wait(history.crashed(now, Duration::ZERO, 0.0, &policy), now).as_millis() as u64);
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        let after_a_minute = history.crashed(now, Duration::from_secs(60), 0.0, &policy);
        assert_eq!(wait(after_a_minute, now).as_millis(), 500);
    }

    #[test]
    fn the_fifth_crash_in_five_minutes_quarantines_and_a_failed_try_does_so_again() {
        let policy = policy();
        let start = Instant::now();
        let mut history = CrashHistory::default();
        for n in 0..4 {
            let now = start + Duration::from_secs(n * 60);
            assert!(matches!(history.crashed(now, Duration::ZERO, 0.5, &policy), Comeback::Backoff { .. }));
        }
        let now = start + Duration::from_secs(299);
        let fifth = history.crashed(now, Duration::ZERO, 0.5, &policy);
        assert_eq!(fifth, Comeback::Quarantine { until: now + Duration::from_secs(600) });

        let later = now + Duration::from_secs(600);
        history.try_again();
        let failed_try = history.crashed(later, Duration::from_secs(3), 0.5, &policy);
        assert_eq!(failed_try, Comeback::Quarantine { until: later + Duration::from_secs(600) });

        let later = later + Duration::from_secs(600);
        history.try_again();
        let after_a_good_hour = history.crashed(later, Duration::from_secs(3_600), 0.5, &policy);
        assert!(matches!(after_a_good_hour, Comeback::Backoff { .. }));
    }

    #[test]
    fn crashes_far_apart_never_quarantine() {
        let policy = policy();
        let start = Instant::now();
        let mut history = CrashHistory::default();
        for n in 0..20 {
            let now = start + Duration::from_secs(n * 76);
            assert!(matches!(history.crashed(now, Duration::ZERO, 0.5, &policy), Comeback::Backoff { .. }));
        }
    }

    #[test]
    fn a_crash_on_one_event_waits_longer_each_time_and_never_leads_to_quarantine() {
        let policy = RestartPolicy { quarantine_after: 2, ..policy() };
        let now = Instant::now();
        let mut history = CrashHistory::default();
        let waits = (0..5).map(|_| wait(history.crashed_on_an_event(now, 0.0, &policy), now).as_millis());
        assert_eq!(waits.collect::<Vec<_>>(), [500, 1_000, 2_000, 4_000, 8_000]);
        assert!(matches!(history.crashed(now, Duration::ZERO, 0.0, &policy), Comeback::Backoff { .. }));
        assert!(matches!(history.crashed(now, Duration::ZERO, 0.0, &policy), Comeback::Quarantine { .. }));
    }

    proptest! {
        #[test]
        fn a_wait_is_never_zero_never_over_its_bound_and_the_history_stays_small(
            crashes in prop::collection::vec((0u64..400, 0u64..100, 0.0f64..1.0), 0..60),
            quarantine_after in 0u32..10,
        ) {
            let policy = RestartPolicy { quarantine_after, ..policy() };
            let mut history = CrashHistory::default();
            let mut now = Instant::now();
            for (gap, up, jitter) in crashes {
                now += Duration::from_secs(gap);
                let comeback = history.crashed(now, Duration::from_secs(up), jitter, &policy);
                match comeback {
                    Comeback::Backoff { until } => {
                        prop_assert!(until - now >= policy.backoff_min.mul_f64(0.79));
                        prop_assert!(until - now <= policy.backoff_max);
                    }
                    Comeback::Quarantine { until } => {
                        prop_assert!(quarantine_after > 0);
                        prop_assert_eq!(until - now, policy.half_open_every);
                    }
                }
            }
            prop_assert!(history.crashes.len() <= MAX_REMEMBERED);
        }
    }
}
