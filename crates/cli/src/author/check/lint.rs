//! What there is to say about a manifest. Pure: a manifest and the line that it came in go in, findings come out.

use std::path::Path;

use serde_json::Value;
use temps_host::config::GrantsDefault;
use temps_host::grants::judge;
use temps_host::protocol::PluginManifest;

use super::{Finding, Level};

/// Fields of the protocol's manifest, and of what is inside of it.
const FIELDS: &[&str] = &[
    "type",
    "name",
    "version",
    "display_name",
    "description",
    "nav",
    "ui",
    "requires_db",
    "health_path",
    "events",
    "api_version",
    "permissions",
    "egress",
    "config",
    "resources",
    "ordering",
    "filters",
    "public_paths",
];
const INNER: &[(&str, &[&str])] = &[
    ("/permissions", &["methods", "projects"]),
    ("/resources", &["memory_max", "cpu_quota", "tasks_max", "nofile", "disk_max"]),
];

/// Letters that a slip may have put, left out or changed for a field to be guessed.
const SLIP: usize = 2;

fn warning(code: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Warning, code, message: message.into(), advice: advice.into() }
}

fn note(code: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Note, code, message: message.into(), advice: advice.into() }
}

/// Why a host does not take a plugin up.
pub(super) fn refused(reason: &str, printed: &[String], path: &Path) -> Finding {
    let first = printed.first().map(String::as_str).unwrap_or_default();
    if !first.is_empty() && serde_json::from_str::<Value>(first).is_err() {
        return Finding {
            level: Level::Error,
            code: "printed_first",
            message: format!("it printed {first:?} where the manifest belongs; {reason}"),
            advice: "the first line of stdout is the manifest; print to stderr, and let the SDK guard stdout"
                .into(),
        };
    }
    let advice = advice(reason, path);
    Finding { level: Level::Error, code: "refused", message: reason.to_owned(), advice }
}

/// What to do about a host's refusal; it says by itself what is wrong.
fn advice(reason: &str, path: &Path) -> String {
    let path = path.display();
    if reason.contains("could not be started") {
        return "a plugin is a program for this machine, or a script whose first line names its interpreter, for example \
                #!/usr/bin/env python3"
            .to_owned();
    }
    if reason.contains("manifest line cannot be read") || reason.contains("manifest is not valid") {
        return "the fields of a manifest and their types stand in spec/PROTOCOL.md, and for editors in \
                spec/v1/schema/PluginManifest.json"
            .to_owned();
    }
    if reason.contains("before its manifest was read") {
        return format!(
            "the manifest is the first thing that a plugin does; start it by hand and look at what it says: {path} \
             --socket-path /tmp/try.sock --auth-secret try --data-dir /tmp"
        );
    }
    "this is what a host says; it takes the file up again as soon as it changes".to_owned()
}

/// What there is to say about a manifest that keeps the rules.
pub(super) fn manifest(manifest: &PluginManifest, line: &str, path: &Path) -> Vec<Finding> {
    let raw: Value = serde_json::from_str(line).unwrap_or_default();
    let mut findings = unknown_fields(&raw);
    findings.extend(events(manifest));
    findings.extend(reach(manifest));
    findings.extend(presentation(manifest, &raw, path));
    let missing = judge(manifest, None, &[], GrantsDefault::Allow).missing;
    if !missing.is_empty() {
        let grants: Vec<_> = missing.iter().map(|wish| format!("{}={}", wish.kind, wish.value)).collect();
        findings.push(note(
            "needs_grants",
            format!("a host holds it until an operator grants {}", grants.join(", ")),
            format!("say so in its README: temps plugin grant {} {}", manifest.name, grants.join(" ")),
        ));
    }
    findings
}

fn unknown_fields(raw: &Value) -> Vec<Finding> {
    let unknown = |at: &str, value: &Value, known: &[&str]| -> Vec<Finding> {
        let names = value.as_object().into_iter().flat_map(|fields| fields.keys());
        let unknown = names.filter(|name| !known.contains(&name.as_str()));
        unknown
            .map(|name| {
                let meant = known.iter().find(|known| distance(known, name) <= SLIP);
                let advice = match meant {
                    Some(meant) => format!("did you mean {meant}?"),
                    None => {
                        "hosts pass over it; remove it, or look at the specification for its name".to_owned()
                    }
                };
                warning(
                    "unknown_field",
                    format!("the manifest has {at}{name}, which the protocol does not know"),
                    advice,
                )
            })
            .collect()
    };
    let mut findings = unknown("", raw, FIELDS);
    for (pointer, known) in INNER {
        if let Some(value) = raw.pointer(pointer) {
            findings.extend(unknown(&format!("{}.", &pointer[1..]), value, known));
        }
    }
    findings
}

/// How many letters must change for one word to become the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn events(manifest: &PluginManifest) -> Vec<Finding> {
    let mut findings = Vec::new();
    if manifest.events.iter().any(|pattern| pattern == "*") {
        findings.push(warning(
            "events_too_wide",
            "it asks for every event there is, also those of types that come later",
            "name what it handles, for example deployment.succeeded, or deployment.* for a family",
        ));
    }
    let covered = |pattern: &&String| {
        manifest.events.iter().any(|other| {
            other != *pattern && other.strip_suffix('*').is_some_and(|prefix| pattern.starts_with(prefix))
        })
    };
    for pattern in manifest.events.iter().filter(covered) {
        let advice = "an event comes once however many patterns take it in; remove one of them";
        findings.push(note("events_twice", format!("{pattern} is part of another pattern"), advice));
    }
    findings
}

fn reach(manifest: &PluginManifest) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &manifest.egress {
        None => findings.push(warning(
            "egress_too_wide",
            "it does not say which hosts it reaches, which asks for HTTPS to every public name",
            "list them in egress, for example [\"hooks.slack.com\"], or [] for none",
        )),
        Some(targets) => {
            for target in targets.iter().filter(|target| is_wide(target)) {
                let advice =
                    "name the hosts that it needs; a wildcard should stand below a name of one owner";
                findings.push(warning(
                    "egress_too_wide",
                    format!("{target} reaches hosts of everybody"),
                    advice,
                ));
            }
        }
    }
    if manifest.permissions.is_none() {
        findings.push(warning(
            "permissions_too_wide",
            "it does not say which data it needs, which asks for all of it",
            "list the methods in permissions, for example {\"methods\": [\"get_project\"]}, or {} for none",
        ));
    }
    findings
}

/// `*` alone, or a wildcard below a name without a dot, as in `*.com`.
fn is_wide(target: &str) -> bool {
    let name = target.rsplit_once(':').map_or(target, |(name, _)| name);
    name == "*" || name.strip_prefix("*.").is_some_and(|below| !below.contains('.'))
}

fn presentation(manifest: &PluginManifest, raw: &Value, path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    if file != manifest.name {
        findings.push(warning(
            "name_differs",
            format!("its file is {file}, and its manifest says {}", manifest.name),
            format!("people look for a plugin by its name; call the file {}", manifest.name),
        ));
    }
    if raw.get("health_path").is_none_or(Value::is_null) {
        findings.push(note(
            "no_health_path",
            "it does not say where its health is asked for; hosts ask /health",
            "say health_path, and answer it with 200 while the plugin is well (the SDKs do)",
        ));
    }
    if !is_semver(&manifest.version) {
        let message = format!("its version {} is no semantic version", manifest.version);
        findings.push(warning(
            "version",
            message,
            "use three numbers, for example 1.0.0, so that updates can be told",
        ));
    }
    if manifest.description.is_none() {
        findings.push(note(
            "no_description",
            "it does not say what it does",
            "write a sentence into description",
        ));
    }
    findings
}

fn is_semver(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<_> = core.split('.').collect();
    parts.len() == 3
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(line: &str) -> Vec<&'static str> {
        let read: PluginManifest = serde_json::from_str(line).unwrap();
        manifest(&read, line, Path::new("/x/a")).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_manifest_that_says_everything_is_left_alone() {
        let line = r#"{"type":"manifest","name":"a","version":"1.0.0","description":"d","events":["x.y"],"health_path":"/health","permissions":{"methods":["get_project"]},"egress":[]}"#;
        assert_eq!(codes(line), Vec::<&str>::new());
    }

    #[test]
    fn each_slip_is_found_by_its_name() {
        let with = |more: &str| {
            codes(&format!(
                r#"{{"name":"a","version":"1.0.0","description":"d","health_path":"/h","permissions":{{}},"egress":[]{more}}}"#
            ))
        };
        assert_eq!(with(r#","evnets":["a.b"]"#), ["unknown_field"]);
        assert_eq!(with(r#","events":["*"]"#), ["events_too_wide"]);
        assert_eq!(with(r#","events":["a.*","a.b"]"#), ["events_twice"]);
        assert_eq!(with(r#","public_paths":["/hook"]"#), ["needs_grants"]);
        assert_eq!(
            codes(r#"{"name":"b","version":"1"}"#),
            [
                "egress_too_wide",
                "permissions_too_wide",
                "name_differs",
                "no_health_path",
                "version",
                "no_description"
            ]
        );
    }

    #[test]
    fn a_wildcard_over_everybodys_hosts_is_wide() {
        for wide in ["*", "*:443", "*.com", "*.com:8443"] {
            assert!(is_wide(wide), "{wide}");
        }
        for fine in ["a.example.com", "*.example.com", "*.example.com:443", "localhost"] {
            assert!(!is_wide(fine), "{fine}");
        }
    }

    #[test]
    fn a_slip_is_guessed() {
        let finding = unknown_fields(&serde_json::json!({"name": "a", "heatlh_path": "/"})).remove(0);
        assert!(finding.advice.contains("health_path"), "{finding:?}");
    }

    #[test]
    fn the_fields_are_those_of_the_specification() {
        let schema = include_str!("../../../../../spec/v1/schema/PluginManifest.json");
        let schema: Value = serde_json::from_str(schema).unwrap();
        for field in schema["properties"].as_object().unwrap().keys() {
            assert!(FIELDS.contains(&field.as_str()), "{field}");
        }
        for (pointer, fields) in INNER {
            let definition = if *pointer == "/permissions" { "Permissions" } else { "Resources" };
            for field in schema["$defs"][definition]["properties"].as_object().unwrap().keys() {
                assert!(fields.contains(&field.as_str()), "{definition}.{field}");
            }
        }
    }
}
