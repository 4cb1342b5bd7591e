//! What a scripted plugin asks over its channel, and what it says that nobody understands.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temps_protocol::data::Method;
use temps_protocol::limits::MAX_FRAME_BYTES;
use temps_protocol::{Configuration, DeploymentInfo, EnvironmentInfo, ProjectInfo};

use super::channel::{ANSWER_TIMEOUT, Channel};
use super::wire::BINARY;
use super::{Plugin, locked, storage};

/// An id that no platform gives.
const NOBODY: i32 = 2_147_483_000;

/// Requests that are sent at once.
const MANY: u64 = 100;

/// How long a host may take to close a channel that it must close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks everything, on the first channel. It ends with the loss of the channel.
pub(super) fn ask_all(plugin: &Plugin, mine: &Channel) {
    let steps: [fn(&Plugin, &Channel); 9] =
        [ids, wrong_requests, not_understood, data, many, configuration, storage::try_all, largest, too_long];
    for step in steps {
        // What is lost cannot be asked, and the reason is found already.
        if mine.is_open() {
            step(plugin, mine);
        }
    }
}

fn ids(plugin: &Plugin, mine: &Channel) {
    for id in
        [json!(1_000_001), json!("two"), json!({"three": [3]}), json!([4, null]), json!(5.5), json!(true)]
    {
        let answer = mine.ask_as(&id, "list_projects", &json!({}));
        let sent = format!("a request with the id {id}");
        plugin
            .ledger
            .judge("channel.ids", answer.is_ok(), &sent, || answer.clone().err().unwrap_or_default());
    }
}

/// The error's code in an answer.
fn code(answer: &Result<Value, Value>) -> String {
    match answer {
        Ok(result) => format!("the result {result}"),
        Err(error) => error["code"].as_str().unwrap_or_default().to_owned(),
    }
}

fn wrong_requests(plugin: &Plugin, mine: &Channel) {
    let expect = |check: &str, method: &str, params: &Value, wanted: &str| {
        let got = code(&mine.ask(plugin, method, params));
        plugin.ledger.judge(check, got == wanted, &format!("{method} with {params}"), || got.clone());
    };
    expect("data.unknown_method", "make_coffee", &json!({}), "method_not_found");
    expect("data.unknown_method", "", &json!({}), "method_not_found");
    for params in
        [json!({}), json!({"project_id": "1"}), json!({"project_id": 1.5}), json!({"project_id": null})]
    {
        expect("data.params", "get_project", &params, "invalid_params");
    }
    expect("data.params", "list_deployments", &json!({"project_id": 1, "limit": 0}), "invalid_params");
    expect("data.not_found", "get_project", &json!({"project_id": NOBODY}), "not_found");
    expect("data.not_found", "get_deployment", &json!({"deployment_id": NOBODY}), "not_found");
    let null = Value::Null;
    for (id, text) in [
        (&null, json!({"type": "request", "method": "list_projects", "params": {}})),
        (&null, json!({"type": "request", "id": null, "method": "list_projects"})),
        (&json!("method"), json!({"type": "request", "id": "method", "method": 5})),
        (
            &json!("params"),
            json!({"type": "request", "id": "params", "method": "get_project", "params": [1]}),
        ),
    ] {
        let answer = Channel::answer(&mine.begin(id, &text.to_string()));
        let has_error = answer.as_ref().is_ok_and(|answer| answer.get("error").is_some());
        let alright = has_error || (answer.is_ok() && text["method"] == "list_projects");
        plugin.ledger.judge("channel.always_answers", alright, &text.to_string(), || match &answer {
            Ok(answer) => answer.to_string(),
            Err(why) => why.clone(),
        });
    }
}

fn still_there(plugin: &Plugin, mine: &Channel, check: &str, sent: &str) {
    let answer = mine.ask(plugin, "list_projects", &json!({}));
    plugin
        .ledger
        .judge(check, answer.is_ok(), sent, || format!("afterwards, for list_projects: {}", code(&answer)));
}

fn not_understood(plugin: &Plugin, mine: &Channel) {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "7",
        r#"{"type":"weather"}"#,
        r#"{"type":"ack"}"#,
        r#"{"type":"response","id":1,"result":{}}"#,
    ] {
        mine.send(super::wire::TEXT, text.as_bytes());
        still_there(plugin, mine, "channel.ignores", &format!("the text {text:?}"));
        if !mine.is_open() {
            return;
        }
    }
    mine.send(BINARY, &[0xff; 1000]);
    still_there(plugin, mine, "channel.binary", "a binary message of 1,000 bytes");
}

fn data(plugin: &Plugin, mine: &Channel) {
    let judge = |right: bool, asked: &str, came: &Value| {
        plugin.ledger.judge("data.shapes", right, asked, || came.to_string());
    };
    let projects = mine.ask(plugin, "list_projects", &json!({})).unwrap_or_default();
    judge(serde_json::from_value::<Vec<ProjectInfo>>(projects.clone()).is_ok(), "list_projects", &projects);
    let first = projects[0]["id"].as_i64();
    let project = first.unwrap_or(i64::from(NOBODY));
    let id = json!({"project_id": project});
    let environments = mine.ask(plugin, "list_environments", &id).unwrap_or_default();
    let environment = environments[0]["id"].as_i64().unwrap_or(i64::from(NOBODY));
    let deployments = mine.ask(plugin, "list_deployments", &id).unwrap_or_default();
    let deployment = deployments[0]["id"].as_i64().unwrap_or(i64::from(NOBODY));
    if first.is_some() {
        let one = mine.ask(plugin, "get_project", &id).unwrap_or_default();
        judge(
            serde_json::from_value::<ProjectInfo>(one.clone()).is_ok() && one["id"] == project,
            "get_project",
            &one,
        );
        let read = serde_json::from_value::<Vec<EnvironmentInfo>>(environments.clone());
        judge(read.is_ok(), "list_environments", &environments);
        let read = serde_json::from_value::<Vec<DeploymentInfo>>(deployments.clone());
        judge(read.is_ok(), "list_deployments", &deployments);
    }
    for method in Method::ALL {
        let params =
            json!({"project_id": project, "environment_id": environment, "deployment_id": deployment});
        let got = code(&mine.ask(plugin, method.as_str(), &params));
        plugin.ledger.judge("data.methods", got != "method_not_found", method.as_str(), || got.clone());
    }
}

fn many(plugin: &Plugin, mine: &Channel) {
    let waiting: Vec<_> = (0..MANY)
        .map(|number| {
            let id = json!(format!("many {number}"));
            mine.begin(&id, &json!({"type": "request", "id": id, "method": "list_projects"}).to_string())
        })
        .collect();
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let answers: Vec<_> = waiting.iter().map(|told| Channel::answer_by(told, deadline)).collect();
    let alright = |answer: &Result<Value, String>| {
        answer
            .as_ref()
            .is_ok_and(|answer| answer.get("result").is_some() || answer["error"]["code"] == "busy")
    };
    let wrong = answers.iter().filter(|answer| !alright(answer)).count();
    plugin.ledger.judge("channel.many", wrong == 0, "100 requests at once", || {
        let first = answers.iter().find(|answer| !alright(answer));
        format!("{wrong} that are neither answered nor busy, the first of them: {first:?}")
    });
}

/// A request for projects whose frame is as long as it is told to be.
fn padded(id: &str, length: usize) -> String {
    let frame = |filler: &str| {
        json!({"type": "request", "id": id, "method": "list_projects", "params": {}, "filler": filler})
            .to_string()
    };
    frame(&"x".repeat(length - frame("").len()))
}

fn largest(plugin: &Plugin, mine: &Channel) {
    let answer = Channel::answer(&mine.begin(&json!("largest"), &padded("largest", MAX_FRAME_BYTES)));
    let has_result = answer.as_ref().is_ok_and(|answer| answer.get("result").is_some());
    plugin
        .ledger
        .judge("channel.largest_frame", has_result, "a request of 1,048,576 bytes", || format!("{answer:?}"));
}

fn too_long(plugin: &Plugin, mine: &Channel) {
    let ledger = &plugin.ledger;
    ledger.expect("channel.reconnect", "a message that was too long, so that the channel is lost");
    ledger.remember("lost", plugin.life);
    mine.send(super::wire::TEXT, padded("too long", MAX_FRAME_BYTES + 1).as_bytes());
    let begin = Instant::now();
    let is_open = || plugin.channel().is_some_and(|current| current.number == mine.number);
    while is_open() && begin.elapsed() < CLOSE_TIMEOUT {
        thread::sleep(Duration::from_millis(20));
    }
    let closed = !is_open();
    ledger.judge("channel.too_long", closed, "a message of 1,048,577 bytes", || {
        "the channel is open after 10 s".into()
    });
    if !closed {
        mine.lose();
    }
}

fn configuration(plugin: &Plugin, mine: &Channel) {
    let Some(frame) = locked(&mine.config).clone() else { return };
    let got = mine.ask(plugin, "get_config", &json!({})).unwrap_or_default();
    let same = got["config"] == frame["config"] && got["revision"] == frame["revision"];
    plugin.ledger.judge("config.method", same, "get_config", || format!("{got} after the frame {frame}"));
}

/// Judges a frame with settings.
pub(super) fn take_config(plugin: &Plugin, mine: &Channel, frame: Value) {
    let ledger = &plugin.ledger;
    let read = serde_json::from_value::<Configuration>(frame.clone());
    let whole = read.is_ok() && frame["config"].is_object();
    ledger.judge("config.first", whole, "a channel", || format!("the frame {frame}"));
    let greeting = &frame["config"]["greeting"];
    ledger.judge("config.defaults", greeting.is_string(), "a schema with a default for greeting", || {
        frame.to_string()
    });
    let revision = frame["revision"].as_u64().unwrap_or_default();
    // The first frame of a channel says how things stand, whether or not they have changed.
    let again = locked(&mine.config).is_some();
    if again && revision > ledger.number("revision") {
        let told = frame["config"]["times"] == ledger.fact("times");
        ledger.judge("config.change", told && greeting.is_string(), "a change of the setting times", || {
            frame.to_string()
        });
        ledger.remember("revision", revision);
    }
    *locked(&mine.config) = Some(frame);
}

/// A plugin that has asked for one method asks for another one.
pub(super) fn ask_without_a_grant(plugin: &Plugin, mine: &Channel) {
    plugin.ledger.judge("handshake.unknown_fields", true, "", String::new);
    let got = code(&mine.ask(plugin, "get_project", &json!({"project_id": 1})));
    plugin.ledger.judge(
        "data.permission",
        got == "permission_denied",
        "get_project, which the manifest does not ask for",
        || got.clone(),
    );
    plugin.ledger.judge("plain.no_config", true, "", String::new);
}
