//! What happens, as lines: for a person, or as JSON for a program. It decides nothing.

use serde::Serialize;
use serde_json::Value;
use temps_host::tap::Observed;
use temps_server::api::plugins::{GrantRef, LogLine};

use super::wishes::Verdict;
use crate::output::{plain, plain_lines};

/// Longest text of a plugin that is shown whole, in characters: a few lines of a terminal.
const LONGEST: usize = 600;

/// One thing that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Line {
    /// The platform is there; `sign_in` signs one browser in.
    Started { url: String, sign_in: String, home: String, world: String, routes: String },
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
        /// What an operator would have to grant.
        needed: Vec<GrantRef>,
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
            Line::Started { url, sign_in, home, world, routes } => {
                return plain_lines(&format!(
                    "platform  {url}, from {world}\nplatform  routes below {routes}\n\
                     platform  pages: {sign_in} signs a browser in, once\n\
                     platform  commands: temps --home {home} event publish TYPE, or login-link for another browser"
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
                format!("grants    given here; an operator would: {}", command(plugin, grants))
            }
            Line::Denied { method, .. } => {
                format!(
                    "grants    {method} was denied: add it to the manifest's permissions, if it is needed"
                )
            }
            Line::Wishes { plugin, needed, verdict } => return wishes(plugin, needed, verdict),
            Line::Log(line) => {
                let fields = match &line.fields {
                    Value::Object(map) if !map.is_empty() => format!("  {}", line.fields),
                    _ => String::new(),
                };
                format!("log       {:5} {}", line.level, shortened(&format!("{}{fields}", line.message)))
            }
            Line::Traffic { step, .. } => traffic(step),
            Line::Published { event_type, id } => format!("event     {event_type} published, {id}"),
            Line::Missed { steps } => format!("traffic   {steps} steps were too fast to be shown"),
            Line::Menu { events } => {
                let numbered: Vec<_> =
                    events.iter().zip(1..).map(|(event, key)| format!("{key} {event}")).collect();
                format!(
                    "keys      {}; TYPE [JSON] sends any other, g shows grants, r rebuilds, h shows this, q ends (each with Enter)",
                    numbered.join(", ")
                )
            }
        };
        plain(&text)
    }
}

/// What an operator types to give these.
fn command(plugin: &str, grants: &[GrantRef]) -> String {
    let grants: Vec<_> = grants.iter().map(|grant| format!("{}={}", grant.kind, grant.value)).collect();
    format!("temps plugin grant {plugin} {}", grants.join(" "))
}

fn wishes(plugin: &str, needed: &[GrantRef], verdict: &Verdict) -> String {
    let list = |groups: &[(&str, &[String])]| {
        let filled = groups.iter().filter(|(_, words)| !words.is_empty());
        let told: Vec<_> = filled.map(|(what, words)| format!("{what} {}", words.join(", "))).collect();
        if told.is_empty() { "nothing".to_owned() } else { told.join("; ") }
    };
    let needed = if needed.is_empty() { "nothing".to_owned() } else { command(plugin, needed) };
    let mut text = format!(
        "grants    an operator has to give: {needed}\n\
         grants    used so far: {}\n\
         grants    denied so far: {}\n\
         grants    declared and not used so far: {}",
        list(&[("methods", &verdict.called), ("hosts", &verdict.reached_hosts)]),
        list(&[("methods", &verdict.denied), ("hosts", &verdict.refused_hosts)]),
        list(&[
            ("methods", &verdict.unused_methods),
            ("events", &verdict.unused_events),
            ("hosts", &verdict.unused_hosts)
        ]),
    );
    for field in &verdict.undeclared {
        text.push_str(&format!("\ngrants    the manifest has no {field}, which asks for everything of it"));
    }
    plain_lines(&text)
}

fn traffic(step: &Value) -> String {
    let word = |key: &str| step[key].as_str().unwrap_or_default();
    let arrow = if word("from") == "host" { "->" } else { "<-" };
    match word("kind") {
        "frame" => format!("channel   {arrow} {}", shortened(word("text"))),
        "http_request" => format!("http      {arrow} {} {}", word("method"), word("path")),
        "http_response" => format!("http      {arrow} {}", step["status"]),
        "stdout" => format!("stdout    {arrow} {}", shortened(word("line"))),
        "spawn" => format!("process   {arrow} started"),
        "exit" => format!("process   {arrow} ended: {}", step.get("signal").unwrap_or(&step["code"])),
        "signal" => format!("process   {arrow} {}", word("signal")),
        other => format!("channel   {arrow} {other}"),
    }
}

/// The beginning of a text that would fill the screen; `--json` and a recording have all of it.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Whether a step is worth a line: health checks and pings come again and again, and say nothing new.
pub(super) fn is_news(observed: &Observed) -> bool {
    !observed.inspection && !matches!(observed.step["kind"].as_str(), Some("ping" | "pong"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_shown_by_its_beginning() {
        assert_eq!(shortened("ä"), "ä");
        let shown = shortened(&"ä".repeat(LONGEST + 1));
        assert!(shown.starts_with(&"ä".repeat(LONGEST)) && shown.ends_with("… (1202 bytes)"), "{shown}");
    }

    #[test]
    fn what_is_denied_and_what_is_not_used_stands_beside_what_an_operator_gives() {
        let verdict = Verdict {
            called: vec!["get_project".into()],
            unused_events: vec!["a.b".into()],
            unused_hosts: vec!["x.example.com".into()],
            undeclared: vec!["permissions"],
            ..Verdict::default()
        };
        let needed = [GrantRef { kind: "public_path".into(), value: "/hook".into() }];
        assert_eq!(
            wishes("it", &needed, &verdict),
            "grants    an operator has to give: temps plugin grant it public_path=/hook\n\
             grants    used so far: methods get_project\n\
             grants    denied so far: nothing\n\
             grants    declared and not used so far: events a.b; hosts x.example.com\n\
             grants    the manifest has no permissions, which asks for everything of it"
        );
    }
}
