//! Whether a program always wants more processor time than it may have.

use crate::limits::group::field;

/// Looks in a row at which a program has to be content with its time before it leaves the background: ten seconds.
const CALM_LOOKS: u32 = 200;

/// Spans that are judged together.
const JUDGED_SPANS: u64 = 2;

/// Looks after which spans are counted anew: enough for two of the longest ones.
const JUDGED_LOOKS: u32 = 5;

/// Of the spans that are judged together, a hungry program is held back in every second one at least.
const HELD_BACK_SHARE: u64 = 2;

/// Spans in a row, of twenty milliseconds mostly, in which a program has to be hungry. One that works off what has piled up is held
/// back in some, and must not be put behind others for that, which would make more pile up.
const HUNGRY_SPANS: u64 = 10;

/// What the kernel counts of a quota: the spans that have passed, and those in which the program was held back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    spans: u64,
    held_back: u64,
}

/// Whether a program always wants more processor time than it may have.
#[derive(Debug, Default)]
pub(super) struct Appetite {
    pub(super) background: bool,
    /// What had been counted when it was judged last, and the looks since then.
    judged: Counted,
    looks: u32,
    /// Spans in a row in which it was hungry.
    hungry: u64,
    /// Looks since it was so for long.
    calm: u32,
}

impl Counted {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(Self { spans: field(text, "nr_periods")?, held_back: field(text, "nr_throttled")? })
    }
}

impl Appetite {
    /// Takes what the kernel has counted up to now. Returns whether the program changes places.
    pub(super) fn look(&mut self, now: Counted) -> bool {
        let spans = now.spans.saturating_sub(self.judged.spans);
        let held_back = now.held_back.saturating_sub(self.judged.held_back);
        self.looks += 1;
        if spans >= JUDGED_SPANS || self.looks >= JUDGED_LOOKS {
            let hungry = spans >= JUDGED_SPANS && held_back * HELD_BACK_SHARE >= spans;
            self.hungry = if hungry { self.hungry + spans } else { 0 };
            (self.judged, self.looks) = (now, 0);
        }
        let always = self.hungry >= HUNGRY_SPANS;
        self.calm = if always { 0 } else { self.calm.saturating_add(1) };
        let before = self.background;
        self.background = always || (before && self.calm < CALM_LOOKS);
        self.background != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(spans: u64, held_back: u64) -> Counted {
        Counted { spans, held_back }
    }

    /// Looks, in each of which so many spans pass; `true` for those after which the program has changed places.
    fn looks(appetite: &mut Watched, spans: u64, held_back: u64, looks: u32) -> Vec<bool> {
        let next = |_| {
            appetite.counted.spans += spans;
            appetite.counted.held_back += held_back;
            appetite.appetite.look(appetite.counted)
        };
        (0..looks).map(next).collect()
    }

    /// An appetite, and what the kernel has counted up to now.
    #[derive(Default)]
    struct Watched {
        appetite: Appetite,
        counted: Counted,
    }

    #[test]
    fn who_is_always_held_back_goes_to_the_background() {
        let mut appetite = Watched::default();
        assert_eq!(looks(&mut appetite, 2, 1, 6), [false, false, false, false, true, false]);
        assert!(appetite.appetite.background);
    }

    #[test]
    fn who_works_off_what_has_piled_up_stays() {
        let mut appetite = Watched::default();
        for _ in 0..10 {
            assert_eq!(looks(&mut appetite, 2, 2, 4), [false; 4]);
            assert_eq!(looks(&mut appetite, 2, 0, 1), [false]);
        }
        // Held back in every third span, for ever.
        assert!(!looks(&mut appetite, 3, 1, 100).contains(&true));
    }

    #[test]
    fn long_spans_are_judged_like_short_ones() {
        let mut appetite = Watched::default();
        // One span of two looks each, as a small quota has.
        for _ in 0..9 {
            assert_eq!(
                (looks(&mut appetite, 1, 1, 1), looks(&mut appetite, 0, 0, 1)),
                (vec![false], vec![false])
            );
        }
        assert_eq!(looks(&mut appetite, 1, 1, 1), [true]);
    }

    #[test]
    fn peaks_with_a_rest_between_them_are_peaks() {
        let mut appetite = Watched::default();
        for _ in 0..50 {
            assert_eq!(looks(&mut appetite, 1, 1, 1), [false]);
            assert!(!looks(&mut appetite, 0, 0, JUDGED_LOOKS).contains(&true));
        }
    }

    #[test]
    fn who_is_content_for_long_comes_back_and_may_go_again() {
        let mut appetite = Watched::default();
        looks(&mut appetite, 2, 2, 10);
        // The count of hungry spans ends with the first calm look; so does that of the calm ones with a hungry one.
        looks(&mut appetite, 2, 0, CALM_LOOKS - 1);
        looks(&mut appetite, 2, 2, 5);
        assert_eq!(looks(&mut appetite, 2, 0, CALM_LOOKS - 1), [false; CALM_LOOKS as usize - 1]);
        assert_eq!(looks(&mut appetite, 2, 0, 1), [true]);
        assert!(!appetite.appetite.background);
        assert!(looks(&mut appetite, 2, 2, 5)[4]);
    }

    #[test]
    fn both_versions_counters_are_read() {
        let v1 = "nr_periods 7\nnr_throttled 3\nthrottled_time 12\nnr_bursts 0\nburst_time 0\n";
        assert_eq!(Counted::parse(v1), Some(counted(7, 3)));
        let v2 = "usage_usec 9\nuser_usec 9\nsystem_usec 0\nnr_periods 4\nnr_throttled 1\nthrottled_usec 2\n";
        assert_eq!(Counted::parse(v2), Some(counted(4, 1)));
        assert_eq!(Counted::parse("usage_usec 9\n"), None);
    }
}
