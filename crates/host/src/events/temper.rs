//! When deliveries to a plugin pause by themselves: it failed too often, or too long.
//!
//! It counts since the host started; a pause that it leads to is kept in the store.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Failed attempts in a row after which deliveries pause.
pub(super) const MAX_FAILURES: u32 = 100;

/// How long attempts may fail without one success in between.
const MAX_FAILING: Duration = Duration::from_secs(24 * 60 * 60);

/// Time between two tries with one event while deliveries are paused for failing.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(5 * 60);

/// How it went lately.
#[derive(Debug, Default)]
pub(super) struct Temper {
    failures: u32,
    failing_since: Option<DateTime<Utc>>,
}

impl Temper {
    /// An event was settled.
    pub(super) fn settled(&mut self) {
        *self = Self::default();
    }

    /// An attempt failed. Returns why deliveries are to pause, if they are.
    pub(super) fn failed(&mut self, now: DateTime<Utc>, why: &str) -> Option<String> {
        self.failures += 1;
        let since = *self.failing_since.get_or_insert(now);
        if self.failures >= MAX_FAILURES {
            return Some(format!("{} attempts in a row failed, the last one: {why}", self.failures));
        }
        let long = (now - since).to_std().unwrap_or_default() >= MAX_FAILING;
        long.then(|| {
            format!("no event was handled since {}, the last attempt: {why}", since.format("%F %T UTC"))
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn the_hundredth_failure_in_a_row_pauses_and_a_success_begins_anew() {
        let now = Utc::now();
        let mut temper = Temper::default();
        for _ in 0..2 {
            for _ in 1..MAX_FAILURES {
                assert_eq!(temper.failed(now, "no"), None);
            }
            temper.settled();
        }
        for _ in 1..MAX_FAILURES {
            temper.failed(now, "no");
        }
        assert_eq!(
            temper.failed(now, "no").as_deref(),
            Some("100 attempts in a row failed, the last one: no")
        );
    }

    #[test]
    fn a_day_without_success_pauses_after_however_few_failures() {
        let now = Utc::now();
        let mut temper = Temper::default();
        assert_eq!(temper.failed(now, "no"), None);
        assert_eq!(temper.failed(now + TimeDelta::hours(23), "no"), None);
        assert!(
            temper.failed(now + TimeDelta::hours(24), "no").unwrap().contains("no event was handled since")
        );
        temper.settled();
        assert_eq!(temper.failed(now + TimeDelta::hours(48), "no"), None);
    }
}
