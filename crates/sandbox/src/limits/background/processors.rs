//! The processors that programs may have, and the last few of them.

/// The numbers of processors, ascending.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Processors(Vec<u32>);

impl Processors {
    /// Reads a list of the kernel's, such as `0-3,8`. What is no list has no processors.
    pub(super) fn parse(list: &str) -> Self {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
        };
        let ranges: Option<Vec<_>> = list.trim().split(',').map(range).collect();
        Self(ranges.unwrap_or_default().into_iter().flatten().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, as the kernel takes them.
    pub(super) fn all(&self) -> String {
        words(&self.0)
    }

    /// The last ones, as many as it takes for this much processor time in percent of one, and one at least.
    pub(super) fn last(&self, percent: u32) -> String {
        let needed = percent.div_ceil(100).max(1) as usize;
        words(&self.0[self.0.len().saturating_sub(needed)..])
    }
}

fn words(processors: &[u32]) -> String {
    processors.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::Processors;

    #[test]
    fn there_are_as_many_as_the_quotas_need() {
        let four = Processors::parse("0-2,7\n");
        assert_eq!(four.all(), "0,1,2,7");
        for (percent, last) in [(0, "7"), (25, "7"), (100, "7"), (125, "2,7"), (900, "0,1,2,7")] {
            assert_eq!(four.last(percent), last, "{percent}");
        }
        assert_eq!(Processors::parse("0").last(25), "0");
    }

    #[test]
    fn what_is_no_list_has_none() {
        for text in ["", "\n", "a-b", "1,,2"] {
            assert!(Processors::parse(text).is_empty(), "{text:?}");
        }
    }
}
