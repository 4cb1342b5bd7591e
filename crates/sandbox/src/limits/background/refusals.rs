//! Whether a program tries to start processes again and again, although it has as many as it may.

/// Looks with refusals that follow each other, before a program is taken for one that does not stop.
const INSISTENT_LOOKS: u32 = 4;

/// Looks without one that do not end such a row: a program in the background has its time at once and then waits for two looks.
const LOOKS_BETWEEN: u32 = 2;

/// Looks without one after which it has stopped: ten seconds.
const QUIET_LOOKS: u32 = 200;

/// Whether a program tries to start processes again and again, although it has as many as it may.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) insists: bool,
    counted: u64,
    /// Looks with refusals that follow each other.
    row: u32,
    /// Looks since the last refusal.
    quiet: u32,
}

impl Refusals {
    /// Takes how many processes the kernel has refused up to now. Returns whether the program begins or stops to insist.
    pub(super) fn look(&mut self, now: u64) -> bool {
        if now > self.counted {
            (self.row, self.quiet) = (self.row.saturating_add(1), 0);
        } else {
            self.quiet = self.quiet.saturating_add(1);
        }
        if self.quiet > LOOKS_BETWEEN {
            self.row = 0;
        }
        self.counted = now;
        let before = self.insists;
        self.insists = self.row >= INSISTENT_LOOKS || (before && self.quiet < QUIET_LOOKS);
        self.insists != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks, each with so many refusals more; which of them changed something.
    fn looks(refusals: &mut Refusals, new: impl IntoIterator<Item = u64>) -> Vec<bool> {
        new.into_iter().map(|new| refusals.look(refusals.counted + new)).collect()
    }

    #[test]
    fn who_is_refused_look_after_look_insists_until_it_is_quiet_for_long() {
        let mut refusals = Refusals::default();
        assert_eq!(looks(&mut refusals, [9, 1, 5, 1, 7]), [false, false, false, true, false]);
        assert!(!looks(&mut refusals, vec![0; QUIET_LOOKS as usize - 1]).contains(&true));
        assert_eq!(looks(&mut refusals, [1]), [false], "it had only waited");
        assert!(!looks(&mut refusals, vec![0; QUIET_LOOKS as usize - 1]).contains(&true));
        assert_eq!(looks(&mut refusals, [0]), [true]);
        assert!(!refusals.insists);
    }

    #[test]
    fn who_has_its_time_in_every_second_span_is_seen_as_well() {
        let mut refusals = Refusals::default();
        assert_eq!(looks(&mut refusals, [3, 0, 3, 0, 0, 3, 0]), [false; 7]);
        assert_eq!(looks(&mut refusals, [3]), [true]);
    }

    #[test]
    fn who_is_refused_now_and_then_does_not_insist() {
        let mut refusals = Refusals::default();
        for _ in 0..50 {
            assert_eq!(looks(&mut refusals, [1, 2, 1, 0, 0, 0]), [false; 6]);
        }
    }
}
