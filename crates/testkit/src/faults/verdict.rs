//! What a run proves, judged from what was written down: the journal, what publishers were told, what plugins handled, when
//! plugins died. It reads nothing by itself, so that its own tests can show it a loss.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::ledger::Line;

/// How long a plugin without acks must live after it read an event, in milliseconds. One that dies before gets it again.
pub const SURVIVE_MS: u64 = 5_000;

/// Breaches of one promise that are told in full; the rest is counted.
const TOLD: usize = 5;

/// How a plugin takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It confirms each event over the channel.
    Acks,
    /// It has a channel and knows nothing of acks.
    Reads,
    /// It has `POST /_events` and nothing else.
    Posts,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Acks => "channel, acks",
            Kind::Reads => "channel, no acks",
            Kind::Posts => "POST /_events",
        })
    }
}

/// An event as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place.
    pub seq: i64,
    /// Its id.
    pub id: String,
    /// Its type.
    pub event_type: String,
    /// The deployment that it tells of.
    pub deployment: Option<i64>,
}

/// Something that was published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Published {
    /// An event, by its id.
    Event(String),
    /// A deployment's report, by the deployment's id: its events are in one transaction with it.
    Deployment(i64),
}

/// What became of one plugin.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// How it takes events.
    pub kind: Kind,
    /// What it wrote, in order.
    pub lines: Vec<Line>,
    /// When it was seen to be gone, in milliseconds and in order, each time that it was killed or went with its host.
    pub deaths: Vec<u64>,
    /// Events whose delivery took more than one attempt, as the host says.
    pub retried: HashSet<String>,
    /// Events that the host gave up, and what it said; none of them may be left at the end.
    pub dead: HashMap<String, String>,
}

/// Everything that was written down in a run.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The journal at the end, in order.
    pub journal: Vec<Event>,
    /// What was confirmed to its publisher.
    pub confirmed: Vec<Published>,
    /// What was not, and was not tried again.
    pub unconfirmed: Vec<String>,
    /// When a host was killed, in milliseconds and in order.
    pub host_deaths: Vec<u64>,
    /// All plugins.
    pub plugins: Vec<Plugin>,
}

/// What is said of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// How it takes events.
    pub kind: Kind,
    /// Lives that it had.
    pub lives: usize,
    /// Times that it was seen to die.
    pub deaths: usize,
    /// Events of the journal that it handled at least once.
    pub handled: usize,
    /// Times that it handled an event again.
    pub duplicates: usize,
    /// Events that it had read less than five seconds before it died; each had to come again. Only without acks.
    pub resends: usize,
    /// Events that came later than newer ones because an attempt before had failed.
    pub retried_late: usize,
}

/// The judgement.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Confirmed publishes.
    pub confirmed: usize,
    /// Publishes that were never confirmed and are in the journal all the same, whole.
    pub appeared: usize,
    /// One row for each plugin.
    pub rows: Vec<Row>,
    /// Promises that were broken; empty when all held.
    pub breaches: Vec<String>,
}

/// Judges a run.
#[must_use]
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut breaches = Breaches::default();
    let places: HashMap<&str, i64> =
        evidence.journal.iter().map(|event| (event.id.as_str(), event.seq)).collect();
    if places.len() != evidence.journal.len() {
        breaches.add("twice in the journal", "an event's id is in the journal more than once".into());
    }
    confirmed_is_kept(evidence, &places, &mut breaches);
    reports_are_whole(evidence, &mut breaches);
    let rows = evidence.plugins.iter().map(|plugin| row(evidence, plugin, &places, &mut breaches)).collect();
    let appeared = evidence.unconfirmed.iter().filter(|id| places.contains_key(id.as_str())).count();
    Verdict { confirmed: evidence.confirmed.len(), appeared, rows, breaches: breaches.told() }
}

/// Each publish that returned is in the journal.
fn confirmed_is_kept(evidence: &Evidence, places: &HashMap<&str, i64>, breaches: &mut Breaches) {
    let told: HashSet<i64> = evidence.journal.iter().filter_map(|event| event.deployment).collect();
    for published in &evidence.confirmed {
        let kept = match published {
            Published::Event(id) => places.contains_key(id.as_str()),
            Published::Deployment(id) => told.contains(id),
        };
        if !kept {
            breaches
                .add("confirmed and lost", format!("{published:?} was confirmed and is not in the journal"));
        }
    }
}

/// A report that is there at all told both of its events, each once.
fn reports_are_whole(evidence: &Evidence, breaches: &mut Breaches) {
    let mut told: HashMap<i64, Vec<&str>> = HashMap::new();
    for event in &evidence.journal {
        if let Some(deployment) = event.deployment {
            told.entry(deployment).or_default().push(&event.event_type);
        }
    }
    for (deployment, types) in told {
        if types != ["deployment.created", "deployment.succeeded"] {
            breaches.add("half a report", format!("deployment {deployment} told {types:?}"));
        }
    }
}

fn row(evidence: &Evidence, plugin: &Plugin, places: &HashMap<&str, i64>, breaches: &mut Breaches) -> Row {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for id in plugin.lines.iter().filter_map(|line| line.event.as_deref()) {
        *seen.entry(id).or_default() += 1;
        if !places.contains_key(id) {
            breaches
                .add("never published", format!("{} handled {id}, which is not in the journal", plugin.name));
        }
    }
    for event in &evidence.journal {
        if let Some(reason) = plugin.dead.get(&event.id) {
            breaches.add("given up", format!("{} for {}: {reason}", event.id, plugin.name));
        } else if !seen.contains_key(event.id.as_str()) {
            breaches.add("not handled", format!("{} (place {}) by {}", event.id, event.seq, plugin.name));
        }
    }
    let resends = match plugin.kind {
        Kind::Reads => resends(plugin, breaches),
        Kind::Acks | Kind::Posts => 0,
    };
    let handled = seen.keys().filter(|id| places.contains_key(**id)).count();
    let total: usize = seen.values().sum();
    Row {
        name: plugin.name.clone(),
        kind: plugin.kind,
        lives: plugin.lines.iter().map(|line| line.life).collect::<HashSet<_>>().len(),
        deaths: plugin.deaths.len(),
        handled,
        duplicates: total - seen.len(),
        resends,
        retried_late: retried_late(evidence, plugin, places, breaches),
    }
}

/// How many events came for the first time later than newer ones. Each had failed before.
fn retried_late(
    evidence: &Evidence,
    plugin: &Plugin,
    places: &HashMap<&str, i64>,
    breaches: &mut Breaches,
) -> usize {
    let mut known = HashSet::new();
    let mut newest: Option<(i64, usize)> = None;
    let mut late = 0;
    for (at, line) in plugin.lines.iter().enumerate() {
        let Some((id, &seq)) = line.event.as_deref().and_then(|id| Some((id, places.get(id)?))) else {
            continue;
        };
        let is_first = known.insert(id);
        let Some((ahead, since)) = newest.filter(|(ahead, _)| seq < *ahead) else {
            newest = Some((seq, at));
            continue;
        };
        if is_first && (plugin.retried.contains(id) || began_again(evidence, plugin, since, at)) {
            late += 1;
        } else if is_first {
            let what = format!(
                "{} handled {id} (place {seq}) after place {ahead} at its first attempt",
                plugin.name
            );
            breaches.add("out of order", what);
        }
    }
    late
}

/// Whether the line began again between two lines of a ledger, from before the later one: the host was killed between them,
/// and the earlier one's event comes again behind the later one. A host that is killed while its disk is full knows
/// nothing of attempts that had failed before, and sends all of it again.
fn began_again(evidence: &Evidence, plugin: &Plugin, earlier: usize, later: usize) -> bool {
    let lines = &plugin.lines;
    let between = lines[earlier].at..=lines[later].at;
    evidence.host_deaths.iter().any(|death| between.contains(death))
        && lines[later..].iter().any(|line| line.event == lines[earlier].event)
}

/// How many events the plugin had read less than five seconds before it died. Each came again in a later life.
fn resends(plugin: &Plugin, breaches: &mut Breaches) -> usize {
    // The last life in which each event was read.
    let mut last: HashMap<&str, u64> = HashMap::new();
    for line in &plugin.lines {
        if let Some(id) = line.event.as_deref() {
            let life = last.entry(id).or_default();
            *life = (*life).max(line.life);
        }
    }
    let mut due = 0;
    for line in &plugin.lines {
        let Some(id) = line.event.as_deref() else { continue };
        // A life ends with the first death that came after it began.
        let death = plugin.deaths.get(plugin.deaths.partition_point(|&death| death < line.life));
        if death.is_some_and(|death| death.saturating_sub(line.at) < SURVIVE_MS) {
            due += 1;
            if last.get(id).is_none_or(|life| *life <= line.life) {
                breaches.add(
                    "not sent again",
                    format!("{} read {id} less than 5 s before it died, and never got it again", plugin.name),
                );
            }
        }
    }
    due
}

/// Broken promises by kind: some told, all counted.
#[derive(Debug, Default)]
struct Breaches(Vec<(&'static str, Vec<String>, usize)>);

impl Breaches {
    fn add(&mut self, kind: &'static str, what: String) {
        let at = self.0.iter().position(|(known, ..)| *known == kind).unwrap_or_else(|| {
            self.0.push((kind, Vec::new(), 0));
            self.0.len() - 1
        });
        let (_, told, count) = &mut self.0[at];
        *count += 1;
        if told.len() < TOLD {
            told.push(what);
        }
    }

    fn told(self) -> Vec<String> {
        let tell = |(kind, told, count): (&str, Vec<String>, usize)| {
            let more = count - told.len();
            let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
            format!("{kind} ({count}): {}{rest}", told.join("; "))
        };
        self.0.into_iter().map(tell).collect()
    }
}

#[cfg(test)]
mod tests;
