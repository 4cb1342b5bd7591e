//! Counting what a plugin or a caller could repeat without end, so that it is told once a minute and not each time.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two tellings of the same thing.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How often one thing happened since it was last told.
#[derive(Debug, Default)]
pub struct Tally {
    told_at: Option<Instant>,
    untold: u64,
}

impl Tally {
    /// Counts one more, and returns how many there are to tell, if it is time to: the first at once, the others once a minute.
    #[must_use]
    pub fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        let due = self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY);
        if !due {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// Whether everything was told, and long enough ago to begin anew.
    #[must_use]
    pub fn is_old(&self, now: Instant) -> bool {
        self.untold == 0 && self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY)
    }

    /// How many were counted and never told.
    #[must_use]
    pub fn rest(&mut self) -> Option<u64> {
        let rest = std::mem::take(&mut self.untold);
        (rest > 0).then_some(rest)
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
        assert_eq!(tally.count(start + Duration::from_secs(61)), None);
        assert_eq!(tally.rest(), Some(1));
    }
}
