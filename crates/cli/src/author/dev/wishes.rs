//! What a plugin asks for against what it does: data methods that it called and was denied, and those that it declared and
//! never called. A function of the steps that were seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

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
    /// Methods that were called and denied: the manifest does not ask for them, or nobody granted them.
    pub(super) denied: Vec<String>,
    /// Methods that the manifest asks for, and that were not called so far.
    pub(super) unused_methods: Vec<String>,
    /// Patterns of events that the manifest asks for, of which none came so far.
    pub(super) unused_events: Vec<String>,
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

    /// Compares with a manifest.
    pub(super) fn verdict(&self, manifest: &temps_host::protocol::PluginManifest) -> Verdict {
        let declared = manifest.permissions.iter().flat_map(|permissions| &permissions.methods);
        let unused = |pattern: &&String| {
            !self.received.iter().any(|event| temps_host::protocol::event::pattern_matches(pattern, event))
        };
        Verdict {
            denied: self.denied.iter().cloned().collect(),
            unused_methods: declared.filter(|method| !self.called.contains(*method)).cloned().collect(),
            unused_events: manifest.events.iter().filter(unused).cloned().collect(),
        }
    }
}

/// Remembers a word; says whether it is new.
fn insert(words: &mut BTreeSet<String>, word: &str) -> bool {
    words.len() < MAX_METHODS && words.insert(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use temps_host::protocol::{Permissions, PluginManifest};

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
        let verdict = wishes.verdict(&manifest);
        assert_eq!(verdict.denied, ["get_environment"]);
        assert_eq!(verdict.unused_methods, ["list_projects"]);
        assert_eq!(verdict.unused_events, ["project.created"]);
    }
}
