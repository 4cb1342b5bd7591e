//! What is told of refusals: the first of each kind at once, and of those that follow how many there were, once a minute. Pure.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Time between two tellings of the same refusal.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Refusals that are told apart. A plugin can make up names without end; beyond these they count as others.
const MAX_APART: usize = 64;

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Refused {
    /// Name and port; `None` for those that are not told apart any more.
    pub(super) target: Option<String>,
    /// Why.
    pub(super) why: String,
}

/// Refusals of one plugin.
#[derive(Debug, Default)]
pub(super) struct Told {
    counts: HashMap<Refused, (Instant, u64)>,
}

impl Told {
    /// Counts one more. If it is time to tell, the answer is what to tell and how often it came since it was last told.
    pub(super) fn count(&mut self, target: &str, why: &str, now: Instant) -> Option<(Refused, u64)> {
        let mut refused = Refused { target: Some(target.to_owned()), why: why.to_owned() };
        if !self.counts.contains_key(&refused) && self.counts.len() >= MAX_APART {
            self.counts.retain(|_, (told, untold)| *untold > 0 || now.duration_since(*told) < TELL_EVERY);
            if self.counts.len() >= MAX_APART {
                refused = Refused { target: None, why: "other refusals".to_owned() };
            }
        }
        match self.counts.get_mut(&refused) {
            None => {
                self.counts.insert(refused.clone(), (now, 0));
                Some((refused, 1))
            }
            Some((told, untold)) => {
                *untold += 1;
                (now.duration_since(*told) >= TELL_EVERY).then(|| {
                    *told = now;
                    (refused, std::mem::take(untold))
                })
            }
        }
    }

    /// What was counted and never told.
    pub(super) fn rest(&mut self) -> Vec<(Refused, u64)> {
        self.counts
            .drain()
            .filter(|(_, (_, untold))| *untold > 0)
            .map(|(refused, (_, untold))| (refused, untold))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_told_once_a_minute_whatever_the_names_are() {
        let start = Instant::now();
        let mut told = Told::default();
        let count = |told: &mut Told, name: &str, after: u64| {
            told.count(name, "not granted", start + Duration::from_secs(after)).map(|(_, count)| count)
        };
        assert_eq!(count(&mut told, "a.example:443", 0), Some(1));
        assert_eq!(count(&mut told, "b.example:443", 0), Some(1));
        assert_eq!(count(&mut told, "a.example:443", 1), None);
        assert_eq!(count(&mut told, "a.example:443", 60), Some(2));
        let tellings =
            (0..10_000).filter(|n| count(&mut told, &format!("n{n}.example:1"), 61).is_some()).count();
        assert!(tellings <= MAX_APART, "{tellings}");
        let rest: u64 = told.rest().into_iter().map(|(_, count)| count).sum();
        assert_eq!(usize::try_from(rest).unwrap() + tellings, 10_000);
    }
}
