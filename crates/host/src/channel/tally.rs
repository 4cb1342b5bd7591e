//! Counting what a plugin could repeat without end, so that it is told once a minute and not each time.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two tellings of the same thing.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How often one thing happened since it was last told.
#[derive(Debug, Default)]
pub(super) struct Tally {
    told_at: Option<Instant>,
    untold: u64,
}

impl Tally {
    /// Counts one more, and returns how many there are to tell, if it is time to.
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        let due = self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY);
        if !due {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// Whether everything was told, and long enough ago to begin anew.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.untold == 0 && self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY)
    }

    /// How many were counted and never told.
    pub(super) fn rest(&mut self) -> Option<u64> {
        let rest = std::mem::take(&mut self.untold);
        (rest > 0).then_some(rest)
    }
}

/// A bound on what costs the host work and is never right: refused and unreadable frames.
#[derive(Debug)]
pub(super) struct Brake {
    since: Instant,
    counted: u32,
}

/// Refused and unreadable frames of one plugin that are taken within a second. Each costs some 10 µs; a plugin that sends
/// more is not read from until the second is over, which slows it down and nobody else.
const MAX_BAD_PER_SECOND: u32 = 2_000;

const SECOND: Duration = Duration::from_secs(1);

impl Brake {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, counted: 0 }
    }

    /// Counts one more, and returns until when nothing should be read, if that was too many.
    pub(super) fn count(&mut self, now: Instant) -> Option<Instant> {
        if now.duration_since(self.since) >= SECOND {
            *self = Self::new(now);
        }
        self.counted += 1;
        (self.counted >= MAX_BAD_PER_SECOND).then(|| self.since + SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_once_a_minute() {
        let start = Instant::now();
        let mut tally = Tally::default();
        assert_eq!(tally.count(start), Some(1));
        assert_eq!(tally.count(start + Duration::from_secs(1)), None);
        assert_eq!(tally.count(start + Duration::from_secs(59)), None);
        assert_eq!(tally.count(start + Duration::from_secs(60)), Some(3));
        assert_eq!(tally.rest(), None);
        tally.count(start + Duration::from_secs(61));
        assert_eq!(tally.rest(), Some(1));
    }

    #[test]
    fn the_brake_holds_until_the_second_is_over() {
        let start = Instant::now();
        let mut brake = Brake::new(start);
        for _ in 1..MAX_BAD_PER_SECOND {
            assert_eq!(brake.count(start), None);
        }
        assert_eq!(brake.count(start), Some(start + SECOND));
        assert_eq!(brake.count(start + SECOND), None);
    }
}
