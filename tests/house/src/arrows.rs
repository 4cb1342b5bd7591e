//! Which crate may depend on which. Arrows only fall, so that a room can be read without the rooms above it.
//!
//! Works on the output of `cargo metadata`, so it sees what cargo sees, and must not read manifests by itself.

use serde_json::Value;

/// One dependency of a member of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrow {
    /// Package that depends.
    pub from: String,
    /// Package that it depends on.
    pub to: String,
    /// Whether only its tests and examples do.
    pub dev: bool,
}

/// What shipped crates may depend on in their own code. A new edge is a decision: it is made here, and explained in
/// `ARCHITECTURE.md`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("temps-protocol", &[]),
    ("temps-sandbox", &[]),
    ("temps-store", &["temps-protocol"]),
    ("temps-host", &["temps-sandbox", "temps-store", "temps-protocol"]),
    ("temps-server", &["temps-host", "temps-store", "temps-protocol"]),
    ("temps-conformance", &["temps-protocol"]),
    ("temps-cli", &["temps-server", "temps-host", "temps-sandbox", "temps-conformance"]),
    ("temps-plugin-sdk", &["temps-protocol"]),
    ("temps-testkit", &["temps-protocol"]),
    ("temps-house", &[]),
];

/// What the remaining members (plugins, examples, tests) may depend on: the two crates that people outside build on.
/// A plugin gets the SDK alone, an embedding example the host.
const OUTER: &[&str] = &["temps-plugin-sdk", "temps-host", "temps-protocol", "temps-store", "temps-testkit"];

/// Pairs that must not meet even in tests: neither side may lean on the other's idea of the protocol.
const STRANGERS: &[(&str, &str)] = &[
    ("temps-plugin-sdk", "temps-host"),
    ("temps-plugin-sdk", "temps-server"),
    ("temps-host", "temps-plugin-sdk"),
    ("temps-testkit", "temps-host"),
    ("temps-testkit", "temps-plugin-sdk"),
    ("temps-conformance", "temps-host"),
    ("temps-conformance", "temps-plugin-sdk"),
    ("temps-host", "temps-conformance"),
    ("temps-plugin-sdk", "temps-conformance"),
];

/// Libraries that only one crate may use, with the reason.
const ONLY_IN: &[(&str, &str, &str)] = &[
    ("rusqlite", "temps-store", "SQL lives nowhere else"),
    ("utoipa", "temps-server", "only the server describes a REST API"),
    ("clap", "temps-cli", "only the command line parses arguments"),
    ("comfy-table", "temps-cli", "only the command line prints"),
];

/// The load rig is a command of its own for developers, so it parses arguments and prints tables as well.
const RIG: &str = "temps-benches";

/// The feature of builds that tests can end at any step. See `crates/store/src/failpoint.rs`.
const FAILPOINTS: &str = "failpoints";

/// Reads all dependencies of the workspace's members from the JSON of `cargo metadata --no-deps`.
#[must_use]
pub fn read(metadata: &Value) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let (Some(from), Some(to)) = (package["name"].as_str(), dependency["name"].as_str()) else {
                continue;
            };
            let dev = dependency["kind"].as_str() == Some("dev");
            arrows.push(Arrow { from: from.to_owned(), to: to.to_owned(), dev });
        }
    }
    arrows
}

/// What is wrong with these dependencies; empty when nothing is.
#[must_use]
pub fn judge(arrows: &[Arrow]) -> Vec<String> {
    arrows.iter().filter_map(problem).collect()
}

fn problem(arrow: &Arrow) -> Option<String> {
    let Arrow { from, to, dev } = arrow;
    if STRANGERS.iter().any(|(a, b)| a == from && b == to) {
        return Some(format!("{from} -> {to}: these two must not know each other, not even in tests"));
    }
    if let Some((_, home, why)) = ONLY_IN.iter().find(|(library, ..)| library == to)
        && from != home
        && from != RIG
        && !dev
    {
        return Some(format!("{from} -> {to}: {to} belongs into {home} alone, because {why}"));
    }
    let ours = to.starts_with("temps-");
    if !ours || *dev {
        return None;
    }
    let allowed = ALLOWED.iter().find(|(name, _)| name == from).map_or(OUTER, |(_, allowed)| *allowed);
    (!allowed.contains(&to.as_str())).then(|| format!("{from} -> {to}: this arrow is not in the design"))
}

/// Where failpoints are turned on other than by whoever builds: in a crate's default features, or by a crate that depends on
/// it. What is shipped must not have them.
#[must_use]
pub fn failpoints_turned_on(metadata: &Value) -> Vec<String> {
    let names_them = |list: &Value| {
        let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.into_iter().any(|word| word.ends_with(FAILPOINTS))
    };
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        for (feature, turns_on) in package["features"].as_object().into_iter().flatten() {
            if feature != FAILPOINTS && names_them(turns_on) {
                problems.push(format!("{name}: the feature {feature} turns on {FAILPOINTS}"));
            }
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if names_them(&dependency["features"]) {
                problems.push(format!("{name} -> {}: turns on {FAILPOINTS}", dependency["name"]));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(from: &str, to: &str, dev: bool) -> usize {
        judge(&[Arrow { from: from.into(), to: to.into(), dev }]).len()
    }

    #[test]
    fn an_arrow_that_rises_is_refused() {
        assert_eq!(judged("temps-host", "temps-server", false), 1);
        assert_eq!(judged("temps-sandbox", "temps-protocol", false), 1);
        assert_eq!(judged("slack-notifier", "temps-server", false), 1);
        assert_eq!(judged("temps-server", "temps-host", false), 0);
    }

    #[test]
    fn the_sdk_and_the_host_do_not_meet_even_in_tests() {
        assert_eq!(judged("temps-plugin-sdk", "temps-host", true), 1);
        assert_eq!(judged("temps-host", "temps-plugin-sdk", true), 1);
        assert_eq!(judged("temps-host", "temps-testkit", true), 0);
    }

    #[test]
    fn a_library_with_one_home_is_refused_elsewhere() {
        assert_eq!(judged("temps-server", "rusqlite", false), 1);
        assert_eq!(judged("temps-store", "rusqlite", false), 0);
    }

    #[test]
    fn failpoints_that_are_turned_on_unasked_are_refused() {
        let package = |features: Value, dependency: Value| {
            let dependencies = serde_json::json!([{"name": "b", "features": dependency}]);
            serde_json::json!({"packages": [{"name": "a", "features": features, "dependencies": dependencies}]})
        };
        let handed_on = serde_json::json!({"default": ["x"], "failpoints": ["b/failpoints"]});
        assert_eq!(failpoints_turned_on(&package(handed_on.clone(), serde_json::json!(["x"]))).len(), 0);
        assert_eq!(failpoints_turned_on(&package(handed_on, serde_json::json!(["failpoints"]))).len(), 1);
        let default = serde_json::json!({"default": ["b/failpoints"]});
        assert_eq!(failpoints_turned_on(&package(default, serde_json::json!([]))).len(), 1);
    }

    #[test]
    fn dependencies_are_read_from_cargo_metadata() {
        let metadata = serde_json::json!({"packages": [{"name": "a", "dependencies": [
            {"name": "b", "kind": null}, {"name": "c", "kind": "dev"}]}]});
        let expected = [
            Arrow { from: "a".into(), to: "b".into(), dev: false },
            Arrow { from: "a".into(), to: "c".into(), dev: true },
        ];
        assert_eq!(read(&metadata), expected);
    }
}
