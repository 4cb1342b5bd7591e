//! The first meeting: an inspection, then a start. Everything else goes by what the plugin says of itself here.

use serde_json::Value;
use temps_protocol::limits::{MAX_MANIFEST_BYTES, MAX_READY_BYTES};
use temps_protocol::{
    Feature, HandshakeError, ManifestProblem, PluginManifest, Ready, parse_manifest_line, parse_ready_line,
};

use super::{PONG_TIMEOUT, all_features, health};
use crate::channel::{Channel, Opened};
use crate::check::Check;
use crate::life::{Life, LineError, Spawn};
use crate::patience::Patience;
use crate::report::{Finding, Sheet};
use crate::subject::{Profile, Subject};

pub(crate) const CHECKS: &[Check] = &[
    Check::must(
        "handshake.from_a_copy",
        "S-7",
        "runs as a copy of its file, from another place and under another name",
        "put what it needs into the file, or make a directory with an executable named `plugin` and everything beside it",
    ),
    Check::must(
        "handshake.inspection",
        "L-1",
        "prints its manifest during an inspection, with an empty data directory and without a name",
        "print the manifest first, before anything that can fail or that needs a database, a network or settings",
    ),
    Check::must(
        "handshake.manifest_first",
        "H-1",
        "writes the manifest as the first line of standard output",
        "print the manifest before anything else, on one line, and logs to standard error",
    ),
    Check::must(
        "handshake.bounds",
        "H-2",
        "writes each line within 30 s and within its bound, and flushes it",
        "flush standard output after each line; 64 KiB are the most for the manifest",
    ),
    Check::must(
        "handshake.name",
        "H-8",
        "has a name of lower-case letters, digits and inner hyphens that is not kept for the host",
        "choose another name",
    ),
    Check::must(
        "handshake.nav",
        "H-9",
        "has all five fields in each entry of `nav`",
        "fill in what is missing",
    ),
    Check::must(
        "handshake.fields",
        "H-10",
        "keeps the types and bounds of the manifest's fields",
        "mend the fields that are named",
    ),
    Check::must(
        "handshake.api_version",
        "V-2",
        "was written for version 1 of the protocol, if it says for which",
        "leave `api_version` out, or write \"1.0\"",
    ),
    Check::must(
        "handshake.config_schema",
        "F-4",
        "declares its settings as a JSON Schema within the bounds",
        "write \"type\": \"object\" and a property for each setting",
    )
    .of(Feature::Config),
    Check::must(
        "handshake.same_manifest",
        "H-4",
        "writes the same manifest at each start",
        "make the manifest from constants only, not from the time, the environment or files",
    ),
    Check::must(
        "handshake.ready_second",
        "H-1",
        "writes the ready line as the second line of standard output",
        "print nothing between the two lines",
    ),
    Check::must(
        "handshake.ready",
        "H-5",
        "gets ready",
        "look into the log for the reason; say ready:false only when the plugin cannot work",
    ),
    Check::must(
        "handshake.listens",
        "H-6",
        "answers on its socket at once after ready",
        "print ready only after the server listens on --socket-path",
    ),
    Check::must(
        "handshake.health",
        "L-2",
        "answers GET health_path with 200 within 2 s",
        "answer the health request without waiting for anything else",
    ),
    Check::must(
        "handshake.channel",
        "C-2",
        "answers the channel's upgrade with 101 within 5 s, or with 404, 400, 426 or 501 when it has none",
        "answer GET /_temps/channel with 404, or serve a WebSocket there",
    ),
    Check::must(
        "handshake.pong",
        "C-4",
        "answers a ping with a pong of the same payload",
        "read the channel all the time, also while an event is handled",
    ),
];

/// Statuses that say that there is no channel.
const NO_CHANNEL: [u16; 4] = [404, 400, 426, 501];

/// Meets the plugin; the profile is there when it got as far as ready.
pub(crate) async fn meet(
    subject: &Subject,
    place: &std::path::Path,
    patience: &Patience,
    sheet: &mut Sheet,
) -> Option<Profile> {
    let (manifest_line, manifest) = inspect(subject, place, patience, sheet).await?;
    let mut how = Spawn::in_place(&place.join("handshake"), &all_features());
    how.patience = patience.clone();
    how.name = Some(manifest.name.clone());
    how.database = manifest.requires_db;
    let mut life = match Life::spawn(&subject.program, &how) {
        Ok(life) => life,
        Err(error) => {
            sheet.fail("handshake.manifest_first", "a start", error.to_string());
            return None;
        }
    };
    let line = match life.line(MAX_MANIFEST_BYTES).await {
        Ok(line) => line,
        Err(error) => {
            line_failed(sheet, "handshake.manifest_first", "a start", &error);
            return None;
        }
    };
    if line == manifest_line {
        sheet.pass("handshake.same_manifest");
    } else {
        sheet.fail(
            "handshake.same_manifest",
            format!("two starts; the first said {manifest_line}"),
            line.clone(),
        );
    }
    let manifest = judged(sheet, &line)?;
    let ready = ready(sheet, &mut life).await?;
    sheet.pass("handshake.bounds");
    life.drain();
    let channel = first_contact(sheet, &life, &manifest).await;
    life.kill().await;
    Some(Profile { manifest, ready, channel })
}

/// Reads the manifest as a host does that looks at a new file. `None` when that failed.
async fn inspect(
    subject: &Subject,
    place: &std::path::Path,
    patience: &Patience,
    sheet: &mut Sheet,
) -> Option<(String, PluginManifest)> {
    let mut how = Spawn::in_place(&place.join("inspection"), &all_features());
    how.patience = patience.of_scene("inspection");
    let sent = "an inspection: a start without a name";
    let mut life = match Life::spawn(&subject.program, &how) {
        Ok(life) => life,
        Err(error) => {
            sheet.fail("handshake.manifest_first", sent, format!("it cannot be started: {error}"));
            return None;
        }
    };
    let line = match life.line(MAX_MANIFEST_BYTES).await {
        Ok(line) => line,
        Err(error @ LineError::Ended(_)) => {
            drop(life);
            why_it_ended(subject, place, sheet, sent, &error).await;
            return None;
        }
        Err(error) => {
            line_failed(sheet, "handshake.manifest_first", sent, &error);
            return None;
        }
    };
    life.kill().await;
    sheet.pass("handshake.from_a_copy");
    sheet.pass("handshake.inspection");
    let manifest = judged(sheet, &line)?;
    Some((line, manifest))
}

/// It ended without a manifest. Whether another start works says which rule it broke.
async fn why_it_ended(
    subject: &Subject,
    place: &std::path::Path,
    sheet: &mut Sheet,
    sent: &str,
    error: &LineError,
) {
    let speaks = async |program: &std::path::Path, how: &Spawn| {
        let Ok(mut life) = Life::spawn(program, how) else { return false };
        let line = life.line(MAX_MANIFEST_BYTES).await;
        life.kill().await;
        line.is_ok_and(|line| parse_manifest_line(&line).is_ok())
    };
    let mut named = Spawn::in_place(&place.join("named"), &all_features());
    (named.name, named.database) = (Some("conformance".into()), true);
    let unnamed = Spawn::in_place(&place.join("original"), &all_features());
    let came = format!("{error}, though the same start with a name and a database works");
    // Beside each other, because either may be silent to the end of its time.
    let (speaks_named, speaks_there) =
        tokio::join!(speaks(&subject.program, &named), speaks(&subject.original, &unnamed));
    if speaks_named {
        sheet.fail("handshake.inspection", sent, came);
    } else if speaks_there {
        let came = format!("{error}, though the file itself works where it lies");
        sheet.fail("handshake.from_a_copy", "a start of a copy", came);
    } else {
        sheet.fail("handshake.manifest_first", sent, error.to_string());
    }
}

fn line_failed(sheet: &mut Sheet, otherwise: &str, sent: &str, error: &LineError) {
    let name = match error {
        LineError::Silence | LineError::TooLong(_) => "handshake.bounds",
        LineError::Ended(_) | LineError::NotText => otherwise,
    };
    sheet.fail(name, sent, error.to_string());
}

/// Judges the manifest line, each broken rule under its own clause.
fn judged(sheet: &mut Sheet, line: &str) -> Option<PluginManifest> {
    let sent = "a start";
    let manifest = match parse_manifest_line(line) {
        Ok(manifest) => manifest,
        Err(HandshakeError::InvalidManifest(problems)) => {
            for ManifestProblem { field, message } in &problems {
                sheet.fail(rule_of(field), sent, format!("{field}: {message}"));
            }
            return None;
        }
        Err(HandshakeError::BadField { reason, .. }) => {
            sheet.fail(rule_of(&reason), sent, reason);
            return None;
        }
        Err(error) => {
            sheet.fail("handshake.manifest_first", sent, error.to_string());
            return None;
        }
    };
    sheet.pass("handshake.manifest_first");
    sheet.pass("handshake.name");
    sheet.pass("handshake.fields");
    if manifest.nav.is_empty() {
        sheet.not_announced("handshake.nav", "it has no entries in the navigation");
    } else {
        sheet.pass("handshake.nav");
    }
    let version = manifest.api_version.as_deref().unwrap_or("1.0");
    match temps_protocol::manifest::parse_api_version(version) {
        Some((1, _)) => sheet.pass("handshake.api_version"),
        _ => sheet.fail("handshake.api_version", sent, format!("api_version {version:?}")),
    }
    match &manifest.config {
        None => sheet.not_announced("handshake.config_schema", "it declares no settings"),
        Some(schema) => match schema_problem(schema) {
            None => sheet.pass("handshake.config_schema"),
            Some(problem) => sheet.fail("handshake.config_schema", sent, problem),
        },
    }
    Some(manifest)
}

/// The check that a field of the manifest belongs to.
fn rule_of(field: &str) -> &'static str {
    match field.split(['[', '.', ':', ' ']).next().unwrap_or_default() {
        "name" => "handshake.name",
        "nav" => "handshake.nav",
        "api_version" => "handshake.api_version",
        "config" => "handshake.config_schema",
        _ => "handshake.fields",
    }
}

/// Longest schema in bytes, most settings, longest name of a setting: as F-4 says.
const MAX_SCHEMA_BYTES: usize = 32 * 1024;
const MAX_SETTINGS: usize = 100;
const MAX_SETTING_NAME: usize = 64;

fn schema_problem(schema: &Value) -> Option<String> {
    if schema["type"] != "object" {
        return Some("the schema's type is not \"object\"".into());
    }
    let size = schema.to_string().len();
    if size > MAX_SCHEMA_BYTES {
        return Some(format!("the schema has {size} bytes"));
    }
    let settings = schema["properties"].as_object().into_iter().flatten();
    if settings.clone().count() > MAX_SETTINGS {
        return Some(format!("there are {} settings", settings.count()));
    }
    let good = |name: &str| {
        (1..=MAX_SETTING_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    let mut names = settings.map(|(name, _)| name);
    if let Some(name) = names.find(|name| !good(name)) {
        return Some(format!("{name:?} is no name for a setting"));
    }
    foreign_reference(schema).map(|reference| format!("the schema refers to {reference:?}"))
}

fn foreign_reference(schema: &Value) -> Option<String> {
    match schema {
        Value::Object(fields) => fields.iter().find_map(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(to)) if to != "#" && !to.starts_with("#/") => Some(to.clone()),
            _ => foreign_reference(value),
        }),
        Value::Array(values) => values.iter().find_map(foreign_reference),
        _ => None,
    }
}

async fn ready(sheet: &mut Sheet, life: &mut Life) -> Option<Ready> {
    let sent = "a start";
    let line = match life.line(MAX_READY_BYTES).await {
        Ok(line) => line,
        Err(error @ LineError::Ended(_)) => {
            sheet.fail("handshake.ready", sent, format!("instead of the ready line {error}"));
            return None;
        }
        Err(error) => {
            line_failed(sheet, "handshake.ready_second", sent, &error);
            return None;
        }
    };
    match parse_ready_line(&line) {
        Ok(ready) => {
            sheet.pass("handshake.ready_second");
            sheet.pass("handshake.ready");
            Some(ready)
        }
        Err(error @ HandshakeError::NotReady) => {
            sheet.fail("handshake.ready", sent, format!("{error}{}", life.last_words()));
            None
        }
        Err(error) => {
            sheet.fail("handshake.ready_second", sent, error.to_string());
            None
        }
    }
}

/// The first connection, health request and upgrade; whether there is a channel.
async fn first_contact(sheet: &mut Sheet, life: &Life, manifest: &PluginManifest) -> bool {
    if let Err(error) = crate::http::connect(&life.socket).await {
        sheet.fail("handshake.listens", "a connection right after ready", error.to_string());
        return false;
    }
    sheet.pass("handshake.listens");
    match health(life, &manifest.health_path, true).await {
        Ok(()) => sheet.pass("handshake.health"),
        Err(why) => sheet.fail("handshake.health", format!("GET {}", manifest.health_path), why),
    }
    let sent = "GET /_temps/channel with an upgrade to WebSocket";
    match Channel::open(&life.socket, Some(&life.secret), std::sync::Arc::default()).await {
        Ok(Opened::Channel(mut channel)) => {
            sheet.pass("handshake.channel");
            let pong = channel.ping(PONG_TIMEOUT).await;
            sheet.settle("handshake.pong", pong.map_err(|came| Finding { sent: "a ping".into(), came }));
            true
        }
        Ok(Opened::Refused(status)) if NO_CHANNEL.contains(&status) => {
            sheet.pass("handshake.channel");
            sheet.not_announced("handshake.pong", "it has no channel");
            false
        }
        Ok(Opened::Refused(status)) => {
            sheet.fail("handshake.channel", sent, format!("the status {status}"));
            false
        }
        Err(why) => {
            sheet.fail("handshake.channel", sent, why);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_beyond_its_bounds_is_named() {
        let problem = |schema: Value| schema_problem(&schema);
        assert_eq!(problem(serde_json::json!({"type": "object", "properties": {"a.b-c_1": {}}})), None);
        assert!(problem(serde_json::json!({"type": "string"})).is_some());
        assert!(problem(serde_json::json!({"type": "object", "properties": {"a b": {}}})).is_some());
        let foreign = serde_json::json!({"type": "object", "properties": {"a": {"$ref": "other.json"}}});
        assert_eq!(problem(foreign), Some("the schema refers to \"other.json\"".into()));
    }
}
