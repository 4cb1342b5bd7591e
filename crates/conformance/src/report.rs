//! What the kit found out, as data. How it looks is for whoever shows it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{Check, Weight};
use crate::clauses;

/// What went otherwise than expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What the kit did or sent.
    pub sent: String,
    /// What came instead of what was expected.
    pub came: String,
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Verdict {
    /// The promise is kept.
    Passed,
    /// The promise is broken.
    Failed(Finding),
    /// The promise is one that only *should* be kept, and is not.
    Warned(Finding),
    /// The plugin does not claim what the check is about.
    NotAnnounced {
        /// What it does not claim.
        reason: String,
    },
    /// The check could not be made, because something before it went wrong.
    NotRun {
        /// What went wrong.
        reason: String,
    },
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "failed",
            Verdict::Warned(_) => "warned",
            Verdict::NotAnnounced { .. } => "not announced",
            Verdict::NotRun { .. } => "not run",
        }
    }
}

/// One check and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The check.
    #[serde(flatten)]
    pub check: Check,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How often each verdict came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Promises that are kept.
    pub passed: usize,
    /// Promises that are broken.
    pub failed: usize,
    /// Advice that is not followed.
    pub warned: usize,
    /// Checks of what the plugin does not claim.
    pub not_announced: usize,
    /// Checks that could not be made.
    pub not_run: usize,
}

/// Everything that one run found out about one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The plugin's name in its manifest; its path when there was none.
    pub plugin: String,
    /// The plugin's version in its manifest.
    pub version: Option<String>,
    /// Features that the plugin announced.
    pub features: Vec<String>,
    /// Whether it serves the channel.
    pub channel: bool,
    /// Whether every promise is kept.
    pub conformant: bool,
    /// How often each verdict came.
    pub counts: Counts,
    /// How long the run took, in milliseconds.
    pub took_ms: u64,
    /// Each check.
    pub entries: Vec<Entry>,
}

impl Report {
    pub(crate) fn new(plugin: String, entries: Vec<Entry>, took: Duration) -> Self {
        let mut counts = Counts::default();
        for entry in &entries {
            *match entry.verdict {
                Verdict::Passed => &mut counts.passed,
                Verdict::Failed(_) => &mut counts.failed,
                Verdict::Warned(_) => &mut counts.warned,
                Verdict::NotAnnounced { .. } => &mut counts.not_announced,
                Verdict::NotRun { .. } => &mut counts.not_run,
            } += 1;
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let conformant = counts.failed == 0 && counts.not_run == 0;
        Self {
            plugin,
            version: None,
            features: Vec::new(),
            channel: false,
            conformant,
            counts,
            took_ms,
            entries,
        }
    }

    /// The checks whose promise is broken.
    pub fn failures(&self) -> impl Iterator<Item = (&Check, &Finding)> {
        self.entries.iter().filter_map(|entry| match &entry.verdict {
            Verdict::Failed(finding) => Some((&entry.check, finding)),
            _ => None,
        })
    }

    /// The checks whose advice is not followed.
    pub fn warnings(&self) -> impl Iterator<Item = (&Check, &Finding)> {
        self.entries.iter().filter_map(|entry| match &entry.verdict {
            Verdict::Warned(finding) => Some((&entry.check, finding)),
            _ => None,
        })
    }

    /// The report as JUnit XML, one test case for each check.
    #[must_use]
    pub fn to_junit(&self) -> String {
        crate::junit::write(self)
    }
}

impl Entry {
    /// What failed, in paragraphs: what was expected, sent, what came, the clause's own words, what to do.
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        let (Verdict::Failed(finding) | Verdict::Warned(finding)) = &self.verdict else { return None };
        let Check { name, clause, expects, advice, .. } = self.check;
        let says = clauses::clause(clause).map_or(String::new(), |clause| clause.text.clone());
        Some(format!(
            "{clause} {name}\n  expected: {expects}\n  sent:     {}\n  came:     {}\n  clause:   {says}\n  to do:    {advice}",
            finding.sent, finding.came
        ))
    }
}

/// Collects the verdicts of one scene.
pub(crate) struct Sheet {
    checks: &'static [Check],
    entries: Vec<Entry>,
}

impl Sheet {
    pub(crate) fn new(checks: &'static [Check]) -> Self {
        Self { checks, entries: Vec::new() }
    }

    fn write(&mut self, name: &str, verdict: Verdict) {
        let written = self.entries.iter().any(|entry| entry.check.name == name);
        if let Some(check) = self.checks.iter().find(|check| check.name == name)
            && !written
        {
            self.entries.push(Entry { check: *check, verdict });
        }
        debug_assert!(self.checks.iter().any(|check| check.name == name), "no check is named {name}");
    }

    /// The check `name` ended like this. A first verdict stands.
    pub(crate) fn settle(&mut self, name: &str, outcome: Result<(), Finding>) -> bool {
        let weight = self.checks.iter().find(|check| check.name == name).map(|check| check.weight);
        let kept = outcome.is_ok();
        let verdict = match outcome {
            Ok(()) => Verdict::Passed,
            Err(finding) if weight == Some(Weight::Should) => Verdict::Warned(finding),
            Err(finding) => Verdict::Failed(finding),
        };
        self.write(name, verdict);
        kept
    }

    pub(crate) fn pass(&mut self, name: &str) {
        self.write(name, Verdict::Passed);
    }

    pub(crate) fn fail(&mut self, name: &str, sent: impl Into<String>, came: impl Into<String>) {
        self.settle(name, Err(Finding { sent: sent.into(), came: came.into() }));
    }

    pub(crate) fn not_announced(&mut self, name: &str, reason: impl Into<String>) {
        self.write(name, Verdict::NotAnnounced { reason: reason.into() });
    }

    pub(crate) fn not_run(&mut self, name: &str, reason: impl Into<String>) {
        self.write(name, Verdict::NotRun { reason: reason.into() });
    }

    /// Every check without a verdict could not be made, for this reason.
    pub(crate) fn give_up(&mut self, reason: &str) {
        for check in self.checks {
            self.write(check.name, Verdict::NotRun { reason: reason.to_owned() });
        }
    }

    /// Every check without a verdict is about something that the plugin does not claim.
    pub(crate) fn rest_not_announced(&mut self, reason: &str) {
        for check in self.checks {
            self.write(check.name, Verdict::NotAnnounced { reason: reason.to_owned() });
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.verdict, Verdict::Failed(_)))
    }

    pub(crate) fn close(mut self) -> Vec<Entry> {
        self.give_up("the scene ended before it");
        self.entries
    }
}
