//! A brake for a plugin that sends what the host only has to refuse.

use std::time::Duration;

use tokio::time::Instant;

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
