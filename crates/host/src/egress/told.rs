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
    /// Counts one more. The answer is what it is time to tell, each with how often it came since it was last told.
    pub(super) fn count(&mut self, target: &str, why: &str, now: Instant) -> Vec<(Refused, u64)> {
        let mut tell = Vec::new();
        let mut refused = Refused { target: Some(target.to_owned()), why: why.to_owned() };
        if !self.counts.contains_key(&refused) && self.counts.len() >= MAX_APART {
            // Those whose minute is over make room. Who made names up in a flood hides no target for longer than that.
            let over = self.counts.extract_if(|_, (told, _)| now.duration_since(*told) >= TELL_EVERY);
            tell.extend(over.filter(|(_, (_, untold))| *untold > 0).map(|(one, (_, untold))| (one, untold)));
            if self.counts.len() >= MAX_APART {
                refused = Refused { target: None, why: "other refusals".to_owned() };
            }
        }
        match self.counts.get_mut(&refused) {
            None => {
                self.counts.insert(refused.clone(), (now, 0));
                tell.push((refused, 1));
            }
            Some((told, untold)) => {
                *untold += 1;
                if now.duration_since(*told) >= TELL_EVERY {
                    *told = now;
                    tell.push((refused, std::mem::take(untold)));
                }
            }
        }
        tell
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
            let told = told.count(name, "not granted", start + Duration::from_secs(after));
            told.into_iter().map(|(_, count)| count).collect::<Vec<_>>()
        };
        assert_eq!(count(&mut told, "a.example:443", 0), [1]);
        assert_eq!(count(&mut told, "b.example:443", 0), [1]);
        assert!(count(&mut told, "a.example:443", 1).is_empty());
        assert_eq!(count(&mut told, "a.example:443", 60), [2]);
        let tellings: u64 = (0..10_000).flat_map(|n| count(&mut told, &format!("n{n}.example:1"), 61)).sum();
        assert!(tellings <= MAX_APART as u64, "{tellings}");
        let rest: u64 = told.rest().into_iter().map(|(_, count)| count).sum();
        assert_eq!(rest + tellings, 10_000);
    }

    #[test]
    fn a_flood_hides_no_target_for_longer_than_a_minute() {
        let start = Instant::now();
        let mut told = Told::default();
        for n in 0..200 {
            told.count(&format!("n{}.example:1", n % 100), "not granted", start);
        }
        let later = told.count("inside.example:443", "not granted", start + TELL_EVERY);
        let (last, before) = later.split_last().unwrap();
        assert_eq!((last.0.target.as_deref(), last.1), (Some("inside.example:443"), 1));
        // What was counted of the flood is told with it, and the next flood is as bounded as the first.
        assert_eq!(before.iter().map(|(_, count)| count).sum::<u64>(), 200 - 65);
        assert!(before.len() <= MAX_APART + 1 && told.counts.len() == 1, "{before:?}");
    }
}
