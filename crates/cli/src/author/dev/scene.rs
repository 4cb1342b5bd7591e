//! What happens, as lines: for a person, or as JSON for a program. It decides nothing.

use serde::Serialize;
use serde_json::Value;
use temps_host::tap::Observed;
use temps_server::api::plugins::{GrantRef, LogLine};

use super::wishes::Verdict;
use crate::output::{plain, plain_lines};

/// One thing that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Line {
    /// The platform is there.
    Started { url: String, home: String, world: String, routes: String },
    /// A build begins.
    Building,
    /// A build is done; the host takes it up.
    Built { path: String, milliseconds: u128 },
    /// A build failed; what ran before runs on.
    BuildFailed { message: String, hint: Option<String> },
    /// The plugin's state changed.
    State { plugin: String, state: &'static str, reason: Option<String>, pid: Option<u32> },
    /// The plugin runs; the time counts from the change that led to it.
    Ready { plugin: String, version: Option<String>, page: Option<String>, milliseconds: u128 },
    /// An operator would have to give this; here it was given.
    Granted { plugin: String, grants: Vec<GrantRef> },
    /// A method was called and is not granted.
    Denied { plugin: String, method: String },
    /// What the plugin asks for against what it does.
    Wishes {
        plugin: String,
        #[serde(flatten)]
        verdict: Verdict,
    },
    /// The plugin logged something.
    Log(LogLine),
    /// A step between host and plugin.
    Traffic { plugin: String, step: Value },
    /// An event was published.
    Published { event_type: String, id: String },
    /// Traffic came faster than it could be shown; also a recording misses this many steps.
    Missed { steps: u64 },
    /// What can be typed.
    Menu { events: Vec<String> },
    /// Something could not be done.
    Problem { message: String, hint: Option<String> },
}

impl Line {
    /// The line for people.
    pub(super) fn text(&self) -> String {
        let text = match self {
            Line::Started { url, home, world, routes } => {
                return plain_lines(&format!(
                    "platform  {url}, from {world}\nplatform  routes below {routes}\nplatform  commands: temps --home {home} event publish TYPE"
                ));
            }
            Line::Building => "build     begins".to_owned(),
            Line::Built { path, milliseconds } => format!("build     {path} after {milliseconds} ms"),
            Line::BuildFailed { message, hint } | Line::Problem { message, hint } => {
                let word = if matches!(self, Line::Problem { .. }) { "problem" } else { "build" };
                let hint = hint.as_deref().map(|hint| format!("\n{hint}")).unwrap_or_default();
                return plain_lines(&format!("{word:8}  {message}{hint}"));
            }
            Line::State { state, reason, pid, .. } => {
                let pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
                let why = reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
                format!("plugin    {state}{pid}{why}")
            }
            Line::Ready { plugin, version, page, milliseconds } => {
                let version = version.as_deref().unwrap_or_default();
                let page = page.as_deref().map(|page| format!(", page {page}")).unwrap_or_default();
                format!("ready     {plugin} {version} after {milliseconds} ms{page}")
            }
            Line::Granted { plugin, grants } => {
                let grants: Vec<_> =
                    grants.iter().map(|grant| format!("{}={}", grant.kind, grant.value)).collect();
                format!(
                    "grants    given here; an operator would: temps plugin grant {plugin} {}",
                    grants.join(" ")
                )
            }
            Line::Denied { method, .. } => {
                format!(
                    "grants    {method} was denied: add it to the manifest's permissions, if it is needed"
                )
            }
            Line::Wishes { verdict, .. } => return wishes(verdict),
            Line::Log(line) => {
                let fields = match &line.fields {
                    Value::Object(map) if !map.is_empty() => format!("  {}", line.fields),
                    _ => String::new(),
                };
                format!("log       {:5} {}{fields}", line.level, line.message)
            }
            Line::Traffic { step, .. } => traffic(step),
            Line::Published { event_type, id } => format!("event     {event_type} published, {id}"),
            Line::Missed { steps } => format!("traffic   {steps} steps were too fast to be shown"),
            Line::Menu { events } => {
                let numbered: Vec<_> =
                    events.iter().zip(1..).map(|(event, key)| format!("{key} {event}")).collect();
                format!(
                    "keys      {}; TYPE [JSON] sends any other, g shows grants, r rebuilds (each with Enter)",
                    numbered.join(", ")
                )
            }
        };
        plain(&text)
    }
}

fn wishes(verdict: &Verdict) -> String {
    let list = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    plain_lines(&format!(
        "grants    denied: {}\ngrants    declared, not called so far: {}\ngrants    declared, no event so far: {}",
        list(&verdict.denied),
        list(&verdict.unused_methods),
        list(&verdict.unused_events)
    ))
}

fn traffic(step: &Value) -> String {
    let word = |key: &str| step[key].as_str().unwrap_or_default();
    let arrow = if word("from") == "host" { "->" } else { "<-" };
    match word("kind") {
        "frame" => format!("channel   {arrow} {}", word("text")),
        "http_request" => format!("http      {arrow} {} {}", word("method"), word("path")),
        "http_response" => format!("http      {arrow} {}", step["status"]),
        "stdout" => format!("stdout    {arrow} {}", word("line")),
        "spawn" => format!("process   {arrow} started"),
        "exit" => format!("process   {arrow} ended: {}", step.get("signal").unwrap_or(&step["code"])),
        "signal" => format!("process   {arrow} {}", word("signal")),
        other => format!("channel   {arrow} {other}"),
    }
}

/// Whether a step is worth a line: health checks and pings come again and again, and say nothing new.
pub(super) fn is_news(observed: &Observed) -> bool {
    !observed.inspection && !matches!(observed.step["kind"].as_str(), Some("ping" | "pong"))
}
