//! Recordings: made while an author tries a plugin out and at a running daemon, and played back against the plugin.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use temps_testkit::binaries::{built_binary, built_example, built_executable};
use temps_testkit::daemon::{
    Daemon, Ended, Following, empty_home, eventually, home_with_hello, put_plugin, signal_process, state,
    temps,
};
use temps_testkit::{Behaviour, Sin};

use crate::authoring::{Desk, Dev, asked, run};
use crate::settings::fed;

const SECRET: &str = "https://hooks.example.com/T0/hunter2-s3cret";

fn played(plugin: &Path, recording: &Path) -> Ended {
    let place = tempfile::tempdir().unwrap();
    let mut command = temps(place.path());
    command.args(["--json", "plugin", "test"]).arg(plugin).arg("--transcript").arg(recording);
    run(&mut command)
}

fn steps(recording: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(recording).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_dev_recorded_is_played_back_and_another_answer_is_found_at_its_line() {
    let desk = Desk::new();
    let project = desk.project("taped", "python", &[]);
    let recording = desk.place.path().join("traffic.jsonl");
    let mut dev = Dev::start(&desk, &project, &["--record", recording.to_str().unwrap()]);
    dev.next("ready");
    dev.type_in("1");
    dev.line_with("deployed: My App");
    let answer = dev.asked("/api/x/taped/last");
    assert!(answer.contains("My App") || answer.contains("my-app"), "{answer}");
    dev.end();

    let kept = steps(&recording);
    assert_eq!(kept.last().unwrap()["kind"], "exit", "the recording has the plugin's end");
    let asked = kept.iter().position(|step| step["path"] == "/last").unwrap();
    let answered = kept
        .iter()
        .position(|step| step["kind"] == "http_response" && step["id"] == kept[asked]["id"])
        .unwrap();
    assert!(kept[answered]["body"].to_string().contains("My App"), "{}", kept[answered]);

    let ended = played(&desk.build(&project), &recording);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["transcripts"][0]["result"], "passed");

    let source = std::fs::read_to_string(project.join("plugin.py")).unwrap();
    std::fs::write(project.join("plugin.py"), source.replace("\"/last\"", "\"/latest\"")).unwrap();
    let ended = played(&desk.build(&project), &recording);
    assert_eq!(ended.code, 1, "{ended:?}");
    let found = ended.json()["transcripts"][0].clone();
    assert_eq!(
        (&found["line"], &found["field"]),
        (&Value::from(answered + 1), &Value::from("status")),
        "{found}"
    );
}

/// A recording at a daemon that has begun.
fn recording(daemon: &Daemon, plugin: &str, file: &Path) -> Following {
    let mut command = daemon.command(&["--json", "plugin", "record", plugin, "--restart", "--out"]);
    command.arg(file);
    let recording = Following::start(command);
    eventually("the plugin was started again, and its channel is open", || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        (text.contains("\"status\":101") && text.contains("\"spawn\"")).then_some(())
    });
    daemon.wait_for(plugin, "running");
    recording
}

#[test]
fn what_was_recorded_at_a_daemon_is_played_back_and_the_recording_is_audited() {
    let daemon = Daemon::start_in(home_with_hello(), &[]);
    daemon.wait_for("hello", "running");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("hello.jsonl");
    let mut following = recording(&daemon, "hello", &file);
    daemon.json(&["deployment", "report", "--project", "my-app", "--state", "succeeded"]);
    eventually("the plugin has the event", || {
        asked(daemon.home.path(), &daemon.url, "/api/x/hello/events")
            .contains("deployment.succeeded")
            .then_some(())
    });
    signal_process(&following.process, Signal::INT);
    following.line_with("\"lost\": 0");
    let (code, said) = following.end();
    assert_eq!(code, 0, "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let ended = played(&built_binary("hello"), &file);
    assert_eq!(ended.code, 0, "{ended:?}");

    let ended = eventually("the end of the recording is in the trail", || {
        let trail = daemon.json(&["audit", "--kind", "recording.*"]);
        let items = trail["items"].as_array().unwrap().clone();
        (items.len() == 2).then_some(items)
    });
    assert_eq!(
        (&ended[0]["kind"], &ended[1]["kind"]),
        (&"recording.ended".into(), &"recording.started".into())
    );
    assert!(ended[0]["detail"]["steps"].as_u64().unwrap() >= 8, "{ended:?}");
    assert!(ended[1]["actor"].as_str().unwrap().contains("admin"), "{ended:?}");
}

#[test]
fn what_is_under_way_when_a_recording_is_told_to_end_is_in_it() {
    // It rests after each ack, so those of the last events come some time after these were sent.
    let order = Behaviour::sinful("slow", Sin::ReadsSlowly { per_frame_ms: 50 }).with_acks();
    let home = empty_home();
    let plugins = home.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    temps_testkit::unruly::install(&built_executable("temps-testkit", "unruly"), &plugins, "slow", &order)
        .unwrap();
    let daemon = Daemon::start_in(home, &[]);
    daemon.wait_for("slow", "running");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("slow.jsonl");
    let following = recording(&daemon, "slow", &file);
    // The text of a frame is a text within a line, and so are its quotes.
    let count = |kind: &str| {
        let recorded = std::fs::read_to_string(&file).unwrap();
        recorded.matches(&format!(r#"\"type\":\"{kind}\""#)).count()
    };
    for project in ["one", "two", "three"] {
        daemon.json(&["deployment", "report", "--project", project, "--state", "succeeded"]);
    }
    eventually("events of each report were sent", || (count("event") >= 3).then_some(()));
    signal_process(&following.process, Signal::INT);
    let (code, said) = following.end();
    assert_eq!(code, 0, "{said}");
    let (events, acks) = (count("event"), count("ack"));
    assert_eq!(events, acks, "{}", std::fs::read_to_string(&file).unwrap());
}

#[test]
fn no_secret_is_in_a_recording_and_a_viewer_makes_none() {
    let home = empty_home();
    put_plugin(home.path(), "keeper", &built_example("temps-plugin-sdk", "keeper"));
    let daemon = Daemon::start_in(home, &[]);
    daemon.wait_for("keeper", "held");
    let (code, said) = fed(&daemon, &["plugin", "config", "set", "keeper", "webhook_url"], SECRET);
    assert_eq!(code, 0, "{said}");
    daemon.wait_for("keeper", "running");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("keeper.jsonl");
    let following = recording(&daemon, "keeper", &file);
    let cookie = "cookie-of-a-caller";
    let address = daemon.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let token = std::fs::read_to_string(state(daemon.home.path(), "admin-token")).unwrap();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let body = format!("{{\"password\":\"pass-of-a-caller\",\"hook\":\"{}\"}}", SECRET.replace('/', "\\/"));
    write!(
        stream,
        "POST /api/x/keeper/unknown?token=token-of-a-caller HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         X-Api-Key: key-of-a-caller\r\nOrigin: http://{address}\r\nCookie: a={cookie}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token.trim(),
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 404 "), "{answer}");
    eventually("the request is in the recording", || {
        std::fs::read_to_string(&file).unwrap().contains("/unknown").then_some(())
    });
    signal_process(&following.process, Signal::TERM);
    assert_eq!(following.end().0, 0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("[masked]") && text.contains("\"body\":{"), "{text}");
    for secret in ["hunter2", "of-a-caller", token.trim()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }

    let viewer = daemon.json(&["token", "create", "looker", "--role", "viewer"]);
    let none = place.path().join("none.jsonl");
    let secret = viewer["secret"].as_str().unwrap_or_else(|| panic!("{viewer}"));
    let ended =
        daemon.run(&["--token", secret, "plugin", "record", "keeper", "--out", none.to_str().unwrap()]);
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(!none.exists());
}
