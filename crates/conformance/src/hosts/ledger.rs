//! What a scripted plugin has found and what it remembers, in its data directory, so that it outlives its own deaths.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::Finding;

/// Name of the file in the data directory.
const FILE: &str = "ledger.jsonl";

/// Begins the key of what is expected of the host.
const EXPECTED: &str = "expected/";

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Verdict(String, Option<Finding>),
    Fact(String, Value),
}

#[derive(Debug, Default)]
struct Pages {
    verdicts: BTreeMap<String, Option<Finding>>,
    facts: BTreeMap<String, Value>,
    file: Option<File>,
}

/// Verdicts and facts, each on disk before it counts.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Pages>);

impl Ledger {
    /// Goes on where the last life ended.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let mut pages = Pages::default();
        let path = data.join(FILE);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for line in text.lines() {
            // A line that was cut off by a death says nothing.
            match serde_json::from_str(line) {
                Ok(Line::Verdict(check, finding)) => drop(pages.verdicts.insert(check, finding)),
                Ok(Line::Fact(key, value)) => drop(pages.facts.insert(key, value)),
                Err(_) => {}
            }
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        pages.file = Some(file);
        Ok(Self(Mutex::new(pages)))
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The check `name` ended like this. The first failure stands, also when it passes at other times.
    pub(crate) fn settle(&self, name: &str, outcome: Result<(), Finding>) {
        let mut pages = self.pages();
        let before = pages.verdicts.get(name);
        if matches!(before, Some(Some(_))) || (before.is_some() && outcome.is_ok()) {
            return;
        }
        pages.append(&Line::Verdict(name.to_owned(), outcome.clone().err()));
        pages.verdicts.insert(name.to_owned(), outcome.err());
    }

    /// The check holds or does not; `sent` and `came` say what was seen.
    pub(crate) fn judge(&self, name: &str, holds: bool, sent: &str, came: impl FnOnce() -> String) {
        let outcome = if holds { Ok(()) } else { Err(Finding { sent: sent.to_owned(), came: came() }) };
        self.settle(name, outcome);
    }

    pub(crate) fn remember(&self, key: &str, value: impl Into<Value>) {
        let (mut pages, value) = (self.pages(), value.into());
        pages.append(&Line::Fact(key.to_owned(), value.clone()));
        pages.facts.insert(key.to_owned(), value);
    }

    /// From here on the host has a reason to do what the check is about: it has failed if nothing comes of it.
    pub(crate) fn expect(&self, name: &str, sent: &str) {
        self.remember(&format!("{EXPECTED}{name}"), sent);
    }

    /// What is expected, by check.
    pub(crate) fn expected(&self) -> BTreeMap<String, String> {
        self.facts(EXPECTED)
            .into_iter()
            .filter_map(|(name, sent)| Some((name, sent.as_str()?.to_owned())))
            .collect()
    }

    /// Facts whose key begins with this, by the rest of their key.
    pub(crate) fn facts(&self, prefix: &str) -> Vec<(String, Value)> {
        let pages = self.pages();
        let found = pages
            .facts
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())));
        found.collect()
    }

    /// What was remembered; null when nothing was.
    pub(crate) fn fact(&self, key: &str) -> Value {
        self.pages().facts.get(key).cloned().unwrap_or_default()
    }

    /// A number that was remembered; 0 when none was.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.fact(key).as_u64().unwrap_or_default()
    }

    pub(crate) fn verdicts(&self) -> BTreeMap<String, Option<Finding>> {
        self.pages().verdicts.clone()
    }
}

impl Pages {
    fn append(&mut self, line: &Line) {
        if let (Some(file), Ok(mut text)) = (&mut self.file, serde_json::to_vec(line)) {
            text.push(b'\n');
            // One write, so that a death leaves a whole line or none; a disk that is full leaves a check without a verdict.
            let _ = file.write_all(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stands_and_everything_outlives_a_death() {
        let data = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(data.path()).unwrap();
        ledger.judge("a", true, "", String::new);
        ledger.judge("a", false, "x", || "y".into());
        ledger.judge("a", true, "", String::new);
        ledger.remember("life", 1);
        std::fs::OpenOptions::new()
            .append(true)
            .open(data.path().join(FILE))
            .unwrap()
            .write_all(b"{\"Ve")
            .unwrap();
        Ledger::open(data.path()).unwrap().remember("times", 3);
        let again = Ledger::open(data.path()).unwrap();
        assert_eq!(again.verdicts()["a"], Some(Finding { sent: "x".into(), came: "y".into() }));
        assert_eq!((again.number("life"), again.number("times"), again.number("none")), (1, 3, 0));
    }
}
