//! Samples and what is said of them: the smallest, the middle, the slow end.

/// Durations of one measured thing, in nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn from_nanos(mut nanos: Vec<u64>) -> Self {
        nanos.sort_unstable();
        Self(nanos)
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or_default() as f64
    }

    /// The value below which `share` (0 to 1) of the samples lie.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share) as usize).copied().unwrap_or_default() as f64
    }
}

/// One line of the result: a figure, its floor from the same run, and what one is of the other.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    /// Unit of `value` and `floor`.
    pub(crate) unit: String,
    /// The figure.
    pub(crate) value: f64,
    /// What it is compared with.
    pub(crate) floor_name: String,
    /// The floor, measured in the same run.
    pub(crate) floor: f64,
    /// What else was seen, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Figure {
    /// How many times the floor the figure is. For rates more is better, for times less.
    pub(crate) fn ratio(&self) -> f64 {
        if self.floor == 0.0 { f64::NAN } else { self.value / self.floor }
    }
}

impl Figure {
    /// A figure and its floor.
    pub(crate) fn new(name: &str, unit: &str, value: f64, floor_name: &str, floor: f64) -> Self {
        let floor_name = floor_name.into();
        Self { name: name.into(), unit: unit.into(), value, floor_name, floor, note: None }
    }

    /// The same with words below the table.
    pub(crate) fn with_note(mut self, note: String) -> Self {
        self.note = Some(note);
        self
    }
}

/// The middle one of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
