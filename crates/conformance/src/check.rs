//! What the kit checks: a list of promises, each with the clause that it comes from.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use temps_protocol::Feature;

use crate::scenes;

/// What a check belongs to: what every plugin must do, or what a feature adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the protocol demands of every plugin. A part that is optional (the channel, pages) counts when it is there.
    Article,
    /// What a plugin takes upon itself by announcing a feature.
    Feature(Feature),
}

impl Level {
    /// All levels.
    #[must_use]
    pub fn all() -> Vec<Self> {
        std::iter::once(Level::Article).chain(Feature::ALL.map(Level::Feature)).collect()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Article => "article",
            Level::Feature(feature) => feature.as_str(),
        })
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Level::all().into_iter().find(|level| level.to_string() == word).ok_or_else(|| {
            let known: Vec<_> = Level::all().iter().map(ToString::to_string).collect();
            format!("there is no level {word:?}; there are {}", known.join(", "))
        })
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How much a check weighs, in the protocol's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// A host refuses or ends a plugin that does otherwise.
    Must,
    /// It works less well otherwise. Not keeping it is a warning.
    Should,
}

/// One promise that a plugin keeps or breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name, for example `channel.pong`.
    pub name: &'static str,
    /// The clause of `spec/PROTOCOL.md` that it comes from, for example `C-4`.
    pub clause: &'static str,
    /// What it belongs to.
    pub level: Level,
    /// How much it weighs.
    pub weight: Weight,
    /// What is expected, in a sentence without its end.
    pub expects: &'static str,
    /// What to do about a plugin that does otherwise.
    pub advice: &'static str,
}

impl Check {
    pub(crate) const fn must(
        name: &'static str,
        clause: &'static str,
        expects: &'static str,
        advice: &'static str,
    ) -> Self {
        Self { name, clause, level: Level::Article, weight: Weight::Must, expects, advice }
    }

    pub(crate) const fn should(
        name: &'static str,
        clause: &'static str,
        expects: &'static str,
        advice: &'static str,
    ) -> Self {
        Self { weight: Weight::Should, ..Self::must(name, clause, expects, advice) }
    }

    pub(crate) const fn of(self, feature: Feature) -> Self {
        Self { level: Level::Feature(feature), ..self }
    }
}

/// Every check, in the order of their scenes.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    scenes::HANDSHAKE_CHECKS.iter().chain(scenes::ALL.iter().flat_map(|scene| scene.checks))
}
