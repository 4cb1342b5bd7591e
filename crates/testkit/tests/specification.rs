//! PROTOCOL.md and the transcripts say what the wire types say: every example is read, every conversation makes sense.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use temps_protocol::channel::FrameProblem;
use temps_protocol::{
    ErrorCode, Feature, HostFrame, PluginEvent, PluginFrame, Ready, limits, parse_manifest_line,
    parse_ready_line, schema,
};
use temps_testkit::vectors::spec_dir;

fn protocol() -> String {
    std::fs::read_to_string(spec_dir().join("../PROTOCOL.md")).unwrap()
}

/// The fenced examples of the page: the type that they say they are, and their text.
fn examples() -> Vec<(String, String)> {
    let page = protocol();
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.trim_start().strip_prefix("```json") {
            let text: Vec<&str> =
                lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
            found.push((kind.trim().to_owned(), text.join("\n")));
        }
    }
    found
}

#[test]
fn every_example_of_the_page_fits_its_schema() {
    let schemas = schema::all();
    let examples = examples();
    assert!(examples.len() >= 10);
    for (kind, text) in examples {
        let (_, schema) = schemas.iter().find(|(name, _)| *name == kind).expect(&kind);
        let message: Value = serde_json::from_str(&text).expect(&text);
        assert!(jsonschema::is_valid(schema.as_value(), &message), "{kind}: {text}");
        match kind.as_str() {
            "PluginManifest" => drop(parse_manifest_line(&text).unwrap()),
            "Ready" => drop(parse_ready_line(&text).unwrap()),
            "Request" | "Ack" => drop(PluginFrame::parse(&text).unwrap()),
            "Response" | "HostFrame" => drop(serde_json::from_str::<HostFrame>(&text).unwrap()),
            "PluginEvent" => serde_json::from_str::<PluginEvent>(&text).unwrap().check().unwrap(),
            _ => {}
        }
    }
}

#[test]
fn the_page_names_every_method_code_feature_field_and_reserved_name() {
    let page = protocol();
    let mut words: Vec<String> = ErrorCode::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    words.extend(Feature::ALL.iter().map(|feature| feature.as_str().to_owned()));
    words.extend(temps_protocol::data::Method::ALL.iter().map(|method| method.as_str().to_owned()));
    words.extend(temps_protocol::name::RESERVED_NAMES.iter().map(ToString::to_string));
    for (name, schema) in
        schema::all().into_iter().filter(|(name, _)| matches!(*name, "PluginManifest" | "Ready"))
    {
        let fields = schema.to_value()["properties"].as_object().unwrap().clone();
        assert!(!fields.is_empty(), "{name}");
        words.extend(fields.into_iter().map(|(field, _)| field));
    }
    for word in words {
        assert!(page.contains(&format!("`{word}`")), "PROTOCOL.md does not name `{word}`");
    }
}

#[test]
fn the_page_has_a_row_for_every_event_type_and_names_every_field_of_a_payload() {
    let page = protocol();
    let (_, payloads) = page.split_once("| Type | Fields of `data` |").unwrap();
    let (payloads, _) = payloads.split_once("```").unwrap();
    for event_type in temps_protocol::Payload::EVENT_TYPES {
        assert!(payloads.contains(&format!("`{event_type}`")), "{event_type}");
    }
    let is_payload = |name: &str| {
        name.ends_with("Subject") || (name.starts_with("Deployment") && name != "DeploymentInfo")
    };
    for (name, schema) in schema::all().into_iter().filter(|(name, _)| is_payload(name)) {
        for field in schema.to_value()["properties"].as_object().unwrap().keys() {
            assert!(payloads.contains(&format!("`{field}`")), "{name}: {field}");
        }
    }
}

#[test]
fn the_bounds_of_the_page_are_those_of_the_crate() {
    let page = protocol();
    let row = |name: &str, value: &str| {
        let line = format!("| {name} | {value} |");
        assert!(page.contains(&line), "PROTOCOL.md lacks {line:?}");
    };
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    let mib = |bytes: usize| format!("{} MiB", bytes / 1024 / 1024);
    row(
        "Manifest line, ready line",
        &format!("{}, {}", kib(limits::MAX_MANIFEST_BYTES), mib(limits::MAX_READY_BYTES)),
    );
    row("Time for each of them", &format!("{} s", limits::HANDSHAKE_TIMEOUT.as_secs()));
    row("Channel frame, either direction", &mib(limits::MAX_FRAME_BYTES));
    row("Requests of a plugin unanswered at a time", &limits::MAX_REQUESTS_IN_FLIGHT.to_string());
    row("Time for a response", &format!("{} s", limits::REQUEST_TIMEOUT.as_secs()));
    row(
        "Entries of `list_deployments`",
        &format!("{}, by default {}", limits::MAX_LIST_LIMIT, limits::DEFAULT_LIST_LIMIT),
    );
    row("Time for `POST /_events` and for an `ack`", &format!("{} s", limits::EVENT_TIMEOUT.as_secs()));
    row("Events sent and not acked, with the feature `ack`", &limits::MAX_UNACKED_EVENTS.to_string());
    assert_eq!(limits::MAX_ACK_REASON_CHARS, 1_024);
    row("Reason in an `ack`", "1,024 characters");
    row("Event", &kib(limits::MAX_EVENT_BYTES));
    row(
        "Entries of a list in the manifest; bytes of a text there",
        &format!("{}; {}", limits::MAX_MANIFEST_ENTRIES, kib(limits::MAX_MANIFEST_TEXT)),
    );
}

#[test]
fn rules_are_numbered_once_and_referred_to_rightly() {
    let page = protocol();
    let mut defined = Vec::new();
    let mut named = BTreeSet::new();
    for (index, part) in page.split("**").enumerate().filter(|(index, _)| index % 2 == 1) {
        let is_rule = part.split_once('-').is_some_and(|(letter, number)| {
            letter.len() == 1 && letter.chars().all(char::is_uppercase) && number.parse::<u32>().is_ok()
        });
        if is_rule {
            let before = page.split("**").nth(index - 1).unwrap();
            if before.ends_with("- ") {
                defined.push(part.to_owned());
            } else {
                named.insert(part.to_owned());
            }
        }
    }
    let unique: BTreeSet<String> = defined.iter().cloned().collect();
    assert_eq!(unique.len(), defined.len(), "a number is used twice");
    assert!(defined.len() > 40);
    let astray: Vec<_> = named.difference(&unique).collect();
    assert!(astray.is_empty(), "rules that do not exist: {astray:?}");
}

fn transcripts() -> Vec<(String, Vec<Value>)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(spec_dir().join("transcripts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let steps = text.lines().map(|line| serde_json::from_str(line).expect(&name)).collect();
            (name, steps)
        })
        .collect()
}

/// What a reader has seen of one conversation.
#[derive(Default)]
struct Seen {
    manifest: bool,
    ready: Option<Ready>,
    unanswered_frames: Vec<Value>,
    unanswered_requests: Vec<Value>,
    channel_open: bool,
    ended: bool,
}

impl Seen {
    fn step(&mut self, step: &Value) {
        assert!(!self.ended, "something happens after the end");
        let from_host = match step["from"].as_str().unwrap() {
            "host" => true,
            "plugin" => false,
            other => panic!("nobody is called {other}"),
        };
        match (step["kind"].as_str().unwrap(), from_host) {
            ("spawn", true) => Self::spawn(step),
            ("stdout", false) => self.line(step["line"].as_str().unwrap(), step["refused"] == true),
            ("http_request", true) => self.request(step),
            ("http_response", false) => self.response(step),
            ("frame", _) => self.frame(from_host, step["text"].as_str().unwrap()),
            ("ping", true) | ("pong", false) => assert!(self.channel_open),
            ("channel_closed", _) => {
                assert!(self.channel_open);
                (self.channel_open, self.unanswered_frames) = (false, Vec::new());
            }
            ("signal", true) => assert!(matches!(step["signal"].as_str(), Some("SIGTERM" | "SIGKILL"))),
            ("exit", false) => {
                assert!(step["code"].is_i64() || step["signal"].is_string());
                self.ended = true;
            }
            (kind, _) => panic!("{kind} is no step, or comes from the wrong side"),
        }
    }

    fn spawn(step: &Value) {
        let args: Vec<&str> =
            step["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
        assert_eq!(args.len(), 7);
        assert_eq!([args[1], args[3], args[5]], ["--socket-path", "--auth-secret", "--data-dir"]);
        assert!(step["env"]["TEMPS_API_VERSION"].is_string());
    }

    fn line(&mut self, line: &str, refused: bool) {
        if !self.manifest {
            let read = parse_manifest_line(line);
            assert_eq!(read.is_err(), refused, "{line}: {read:?}");
            self.manifest = !refused;
        } else if self.ready.is_none() {
            let read = parse_ready_line(line);
            assert_eq!(read.is_err(), refused, "{line}: {read:?}");
            self.ready = read.ok();
        }
    }

    fn request(&mut self, step: &Value) {
        assert!(self.ready.is_some(), "nothing is asked before ready");
        assert_eq!(step["headers"]["Host"], "localhost");
        assert!(step["headers"]["Authorization"].as_str().unwrap().starts_with("Bearer "));
        if step["path"] == "/_events" {
            serde_json::from_value::<PluginEvent>(step["body"].clone()).unwrap().check().unwrap();
        }
        self.unanswered_requests.push(step["path"].clone());
    }

    fn response(&mut self, step: &Value) {
        let path = self.unanswered_requests.remove(0);
        if path == "/_temps/channel" && step["status"] == 101 {
            self.channel_open = true;
        }
    }

    fn frame(&mut self, from_host: bool, text: &str) {
        assert!(self.channel_open, "a frame without a channel: {text}");
        if !from_host {
            match PluginFrame::parse(text) {
                Ok(PluginFrame::Request { request, .. }) => self.unanswered_frames.push(request.id),
                Ok(PluginFrame::Ack(_)) => {
                    let ready = self.ready.as_ref().unwrap();
                    assert!(ready.known_features().contains(&Feature::Ack), "an ack that was not announced");
                }
                Err(FrameProblem::Answer { id, .. }) => {
                    self.unanswered_frames.push(serde_json::from_str(&id).unwrap());
                }
                Err(FrameProblem::Ignore { .. }) => {}
            }
            return;
        }
        match serde_json::from_str::<HostFrame>(text).expect(text) {
            HostFrame::Response(response) => {
                let at = self.unanswered_frames.iter().position(|id| *id == response.id);
                self.unanswered_frames.remove(at.expect("an answer to nothing"));
                assert!(response.result.is_some() != response.error.is_some());
            }
            HostFrame::Event { event } => event.check().unwrap(),
            HostFrame::Config(config) => assert!(config.revision >= 0),
        }
    }
}

#[test]
fn every_transcript_is_a_conversation_of_the_protocol() {
    let transcripts = transcripts();
    assert!(transcripts.len() >= 8);
    for (name, steps) in transcripts {
        assert_eq!(steps[0]["kind"], "spawn", "{name}");
        let mut seen = Seen::default();
        for (index, step) in steps.iter().enumerate() {
            let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| seen.step(step)));
            assert!(judged.is_ok(), "{name}, step {}: {step}", index + 1);
        }
        assert!(seen.ended, "{name} does not end");
        assert!(seen.unanswered_frames.is_empty(), "{name}: {:?}", seen.unanswered_frames);
    }
}
