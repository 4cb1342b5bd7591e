//! What a plugin asks for against what it does: methods, events and hosts that it used, that it was denied, and that it declared
//! and never used. A function of what was seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use temps_host::grants::target_covers;
use temps_host::protocol::PluginManifest;
use temps_host::protocol::event::pattern_matches;

/// Requests whose answers are waited for; a host takes 32 at once.
const MAX_WAITING: usize = 64;

/// Methods that are remembered; there are seven, and a plugin may ask for anything.
const MAX_METHODS: usize = 100;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    waiting: BTreeMap<String, String>,
    called: BTreeSet<String>,
    denied: BTreeSet<String>,
    received: BTreeSet<String>,
}

/// What an author should think about.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Methods that were called, allowed or not.
    pub(super) called: Vec<String>,
    /// Methods that were called and denied: the manifest does not ask for them, or nobody granted them.
    pub(super) denied: Vec<String>,
    /// Methods that the manifest asks for, and that were not called so far.
    pub(super) unused_methods: Vec<String>,
    /// Patterns of events that the manifest asks for, of which none came so far.
    pub(super) unused_events: Vec<String>,
    /// Hosts that were reached, `name:port`.
    pub(super) reached_hosts: Vec<String>,
    /// Hosts that the plugin wanted to reach and could not.
    pub(super) refused_hosts: Vec<String>,
    /// Hosts that the manifest asks for, and that were not reached so far.
    pub(super) unused_hosts: Vec<String>,
    /// What the manifest says nothing about, and so asks for all of: `permissions`, `egress`.
    pub(super) undeclared: Vec<&'static str>,
}

impl Wishes {
    /// Takes one step of a transcript. Returns a method that was denied for the first time.
    pub(super) fn take(&mut self, step: &Value) -> Option<String> {
        let frame: Value = serde_json::from_str(step["text"].as_str()?).ok()?;
        let id = frame["id"].to_string();
        match (step["from"].as_str()?, frame["type"].as_str()) {
            ("host", Some("event")) => {
                let event = frame.pointer("/event/event_type").or(frame.get("event_type"))?.as_str()?;
                insert(&mut self.received, event);
                None
            }
            ("host", _) => {
                let method = self.waiting.remove(&id)?;
                if frame.pointer("/error/code")?.as_str()? != "permission_denied" {
                    return None;
                }
                insert(&mut self.denied, &method).then_some(method)
            }
            _ => {
                let method = frame["method"].as_str()?;
                insert(&mut self.called, method);
                if self.waiting.len() < MAX_WAITING {
                    self.waiting.insert(id, method.to_owned());
                }
                None
            }
        }
    }

    /// Compares with a manifest; `trail` are the kinds and details of what was recorded of the plugin's connections.
    pub(super) fn verdict(
        &self,
        manifest: &PluginManifest,
        trail: impl IntoIterator<Item = (String, Value)>,
    ) -> Verdict {
        let declared = manifest.permissions.iter().flat_map(|permissions| &permissions.methods);
        let no_event = |pattern: &&String| !self.received.iter().any(|event| pattern_matches(pattern, event));
        let (reached, refused) = hosts(trail);
        let unreached =
            |wanted: &&String| !reached.iter().chain(&refused).any(|target| target_covers(wanted, target));
        let undeclared =
            [("permissions", manifest.permissions.is_none()), ("egress", manifest.egress.is_none())];
        Verdict {
            called: self.called.iter().cloned().collect(),
            denied: self.denied.iter().cloned().collect(),
            unused_methods: declared.filter(|method| !self.called.contains(*method)).cloned().collect(),
            unused_events: manifest.events.iter().filter(no_event).cloned().collect(),
            unused_hosts: manifest.egress.iter().flatten().filter(unreached).cloned().collect(),
            reached_hosts: reached.into_iter().collect(),
            refused_hosts: refused.into_iter().collect(),
            undeclared: undeclared.into_iter().filter_map(|(what, is)| is.then_some(what)).collect(),
        }
    }
}

/// The targets that were connected to, and those that were refused.
fn hosts(trail: impl IntoIterator<Item = (String, Value)>) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut reached, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for (kind, detail) in trail {
        let set = if kind == "egress.refused" { &mut refused } else { &mut reached };
        if let Some(target) = detail["target"].as_str() {
            set.insert(target.to_owned());
        }
    }
    (reached, refused)
}

/// Remembers a word; says whether it is new.
fn insert(words: &mut BTreeSet<String>, word: &str) -> bool {
    words.len() < MAX_METHODS && words.insert(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use temps_host::protocol::Permissions;

    fn step(from: &str, frame: &str) -> Value {
        serde_json::json!({"from": from, "kind": "frame", "text": frame})
    }

    #[test]
    fn what_was_denied_and_what_was_never_used_is_told_apart() {
        let mut wishes = Wishes::default();
        let methods = vec!["get_project".to_owned(), "list_projects".to_owned()];
        let manifest = PluginManifest::builder("a", "1.0.0")
            .event("deployment.*")
            .event("project.created")
            .permissions(Permissions { methods, projects: None })
            .build();
        for (from, frame) in [
            ("plugin", r#"{"type":"request","id":1,"method":"get_project","params":{"project_id":1}}"#),
            ("plugin", r#"{"type":"request","id":"x","method":"get_environment"}"#),
            ("host", r#"{"type":"response","id":1,"result":{}}"#),
            ("host", r#"{"type":"event","event":{"event_type":"deployment.ready"}}"#),
        ] {
            assert_eq!(wishes.take(&step(from, frame)), None);
        }
        let denied = r#"{"type":"response","id":"x","error":{"code":"permission_denied","message":""}}"#;
        assert_eq!(wishes.take(&step("host", denied)).as_deref(), Some("get_environment"));
        let verdict = wishes.verdict(&manifest, []);
        assert_eq!(verdict.called, ["get_environment", "get_project"]);
        assert_eq!(verdict.undeclared, ["egress"]);
        assert_eq!(verdict.denied, ["get_environment"]);
        assert_eq!(verdict.unused_methods, ["list_projects"]);
        assert_eq!(verdict.unused_events, ["project.created"]);
    }

    #[test]
    fn hosts_are_told_apart_by_what_became_of_connections_to_them() {
        let mut manifest = PluginManifest::builder("a", "1.0.0").build();
        let wanted = ["hooks.example.com", "*.example.org", "never.example.net:8443"];
        manifest.egress = Some(wanted.map(str::to_owned).into());
        let of = |kind: &str, target: &str| (kind.to_owned(), serde_json::json!({"target": target}));
        let trail = [
            of("egress.connection", "hooks.example.com:443"),
            of("egress.connection", "a.example.org:443"),
            of("egress.refused", "other.example.com:443"),
            ("egress.refused".to_owned(), serde_json::json!({"target": null})),
        ];
        let verdict = Wishes::default().verdict(&manifest, trail);
        assert_eq!(verdict.reached_hosts, ["a.example.org:443", "hooks.example.com:443"]);
        assert_eq!(verdict.refused_hosts, ["other.example.com:443"]);
        assert_eq!(verdict.unused_hosts, ["never.example.net:8443"]);
        assert_eq!(verdict.undeclared, ["permissions"]);
    }
}
