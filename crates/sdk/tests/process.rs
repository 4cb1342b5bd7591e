//! The SDK as a process: a real executable, a real socket, real signals, and a host that speaks by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use temps_plugin_sdk::protocol::channel::AckStatus;
use temps_plugin_sdk::protocol::{Ack, Feature, PluginEvent};
use temps_plugin_sdk::testing::{PluginProcess, TestError, TestHost};
use temps_testkit::binaries::built_example;

fn unquiet() -> PathBuf {
    built_example("temps-plugin-sdk", "unquiet")
}

fn event(event_type: &str) -> PluginEvent {
    TestHost::event(event_type).into()
}

#[tokio::test]
async fn stray_prints_reach_the_log_and_never_standard_output() {
    let mut plugin = PluginProcess::start(unquiet()).await.unwrap();
    assert_eq!(plugin.manifest().name, "unquiet");
    assert_eq!(plugin.ready().known_features(), [Feature::Reconnect]);
    plugin.send_event(event("test.note")).await.unwrap();
    assert!(plugin.terminate().await.unwrap().success());
    assert_eq!(plugin.later_stdout().await.unwrap(), "");
    for place in ["manifest", "router", "start", "event", "shutdown"] {
        plugin.logged(&format!("babble from {place}")).await.unwrap();
    }
}

#[tokio::test]
async fn the_environment_of_other_hosts_and_the_argument_of_older_ones_do_no_harm() {
    let builder = PluginProcess::builder(unquiet())
        .argument("--database-url")
        .argument("postgres://nobody@localhost/none")
        .environment("TEMPS_API_VERSION", "1.9.0")
        .environment("TEMPS_FEATURES", "reconnect,teleport")
        .environment("TEMPS_PLUGIN_NAME", "unquiet");
    let plugin = builder.start().await.unwrap();
    assert_eq!(plugin.http().get("/well").await.unwrap().text(), "ok");
}

#[tokio::test]
async fn each_event_is_confirmed_with_how_its_handling_ended_in_order() {
    let builder = PluginProcess::builder(unquiet()).environment("TEMPS_FEATURES", "ack,reconnect");
    let mut plugin = builder.start().await.unwrap();
    assert_eq!(plugin.ready().known_features(), [Feature::Ack, Feature::Reconnect]);
    let events = ["test.slow", "test.panic", "test.note"].map(event);
    for event in events.clone() {
        plugin.send_event(event).await.unwrap();
    }
    for (event, status) in events.iter().zip([AckStatus::Ok, AckStatus::Error, AckStatus::Ok]) {
        let ack = plugin.ack().await.unwrap();
        assert_eq!((&ack.id, ack.status), (&event.id, status));
        assert_eq!(ack.error.is_some_and(|reason| reason.contains("as ordered")), status == AckStatus::Error);
    }

    // What came over a lost channel is not confirmed over the next one: the host sends it again there.
    let (lost, again) = (event("test.slow"), event("test.note"));
    plugin.send_event(lost).await.unwrap();
    plugin.connect_channel().await.unwrap();
    plugin.send_event(again.clone()).await.unwrap();
    assert_eq!(plugin.ack().await.unwrap().id, again.id);
}

#[tokio::test]
async fn events_that_wait_are_handled_and_confirmed_before_the_end() {
    let builder = PluginProcess::builder(unquiet()).environment("TEMPS_FEATURES", "ack");
    let mut plugin = builder.start().await.unwrap();
    let events = ["test.slow", "test.slow", "test.note"].map(event);
    for event in events.clone() {
        plugin.send_event(event).await.unwrap();
    }
    assert!(plugin.terminate().await.unwrap().success());
    for event in events {
        assert_eq!(plugin.ack().await.unwrap().id, event.id);
    }
}

#[tokio::test]
async fn only_the_secret_opens_the_plugins_own_routes() {
    let plugin = PluginProcess::start(unquiet()).await.unwrap();
    let open = plugin.http().with_authorization(None);
    let wrong = plugin.http().with_authorization(Some("Bearer wrong"));
    assert_eq!(plugin.http().get("/handled").await.unwrap().status(), 200);
    for stranger in [&open, &wrong] {
        for path in ["/handled", "/no-such-route", "/health"] {
            let refused = stranger.get(path).await.unwrap();
            assert_eq!((refused.status(), refused.header("content-type")), (401, "application/problem+json"));
        }
    }
    assert_eq!(wrong.get("/well").await.unwrap().status(), 200);

    // What the host itself calls is open to hosts that send no secret, and closed to a wrong one.
    let body = serde_json::to_value(event("test.note")).unwrap();
    assert_eq!(open.send("POST", "/_events", Some(&body)).await.unwrap().status(), 200);
    assert_eq!(wrong.send("POST", "/_events", Some(&body)).await.unwrap().status(), 401);
    assert_eq!(wrong.get("/_temps/channel").await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_lost_channel_is_made_again_and_a_new_one_takes_the_place_of_the_old() {
    let mut plugin = PluginProcess::start(unquiet()).await.unwrap();
    plugin.platform().knows_project(7, "seven");
    let question = "/project?id=7&wait_ms=30000";
    for _ in 0..3 {
        assert_eq!(plugin.http().get(question).await.unwrap().text(), "seven");
        plugin.cut_channel();
        plugin.connect_channel().await.unwrap();
    }
    // The old channel is open when the new one comes; `connect_channel` waits until the plugin has ended it.
    plugin.connect_channel().await.unwrap();
    assert_eq!(plugin.http().get(question).await.unwrap().text(), "seven");
    plugin.send_event(event("test.note")).await.unwrap();
    assert!(plugin.terminate().await.unwrap().success());
    assert_eq!(std::fs::read_to_string(plugin.data_dir().join("ended")).unwrap(), "1");
}

#[tokio::test]
async fn without_a_channel_the_plugin_serves_and_says_what_it_waited_for() {
    let mut plugin = PluginProcess::builder(unquiet()).without_channel().start().await.unwrap();
    let text = plugin.http().get("/project?id=7&wait_ms=50").await.unwrap().text();
    assert!(text.contains("the host made no channel within 0.05 s"), "{text}");
    assert_eq!(plugin.post_event(event("test.note")).await.unwrap().status(), 200);

    // A question that waits is answered once there is a channel.
    plugin.platform().knows_project(7, "seven");
    let client = plugin.http().clone();
    let waiting = tokio::spawn(async move { client.get("/project?id=7&wait_ms=30000").await });
    plugin.connect_channel().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().text(), "seven");
}

#[tokio::test]
async fn garbage_on_the_channel_is_passed_over_and_a_giant_frame_ends_only_the_channel() {
    let mut plugin = PluginProcess::start(unquiet()).await.unwrap();
    for frame in [
        "",
        "[]",
        "{",
        r#"{"type":"news"}"#,
        r#"{"type":"event","event":{}}"#,
        r#"{"type":"response","id":99}"#,
    ] {
        plugin.send_frame(frame.to_owned()).await.unwrap();
    }
    plugin.send_event(event("test.note")).await.unwrap();
    assert!(plugin.send_frame("x".repeat(2 * 1024 * 1024)).await.is_err());
    plugin.connect_channel().await.unwrap();
    plugin.send_event(event("test.note")).await.unwrap();
    assert!(plugin.terminate().await.unwrap().success());
    assert_eq!(std::fs::read_to_string(plugin.data_dir().join("ended")).unwrap(), "2");
}

#[tokio::test]
async fn a_panic_or_an_error_in_a_handler_is_told_and_the_plugin_goes_on() {
    let plugin = PluginProcess::start(unquiet()).await.unwrap();
    for (event_type, wanted) in
        [("test.panic", "panicked: as ordered"), ("test.fail", "not handled: as ordered")]
    {
        let answer = plugin.post_event(event(event_type)).await.unwrap();
        assert_eq!(answer.status(), 500);
        assert!(answer.text().contains(wanted), "{}", answer.text());
    }
    assert_eq!(plugin.post_event(event("test.note")).await.unwrap().status(), 200);
    plugin.logged(r#""message":"panic: as ordered""#).await.unwrap();
}

#[tokio::test]
async fn at_the_end_events_that_wait_are_handled_and_acked_before_the_channel_closes() {
    let builder = PluginProcess::builder(unquiet()).environment("TEMPS_FEATURES", "ack,reconnect");
    let mut plugin = builder.start().await.unwrap();
    let events: Vec<_> = ["test.slow"; 3].into_iter().chain(["test.note"; 61]).map(event).collect();
    for event in &events {
        plugin.send_event(event.clone()).await.unwrap();
    }
    assert!(plugin.terminate().await.unwrap().success());
    for event in &events {
        assert_eq!(plugin.ack().await.unwrap(), Ack::new(&event.id, Ok(())));
    }
    assert!(plugin.ack().await.is_err());
}

#[tokio::test]
async fn a_handler_that_blocks_keeps_neither_routes_nor_answers_waiting() {
    let plugin = PluginProcess::start(unquiet()).await.unwrap();
    plugin.platform().knows_project(7, "seven");
    let (blocking, next) = (event("test.block"), event("test.note"));
    plugin.send_event(blocking.clone()).await.unwrap();
    plugin.send_event(next.clone()).await.unwrap();
    plugin.logged("babble from event").await.unwrap();
    assert_eq!(plugin.http().get("/well").await.unwrap().status(), 200);
    assert_eq!(plugin.http().get("/project?id=7&wait_ms=30000").await.unwrap().text(), "seven");
    assert_eq!(plugin.http().get("/handled").await.unwrap().json::<Vec<String>>().unwrap().len(), 0);
    plugin.http().send("POST", "/open-gate", None).await.unwrap();
    // A posted event is answered after those before it, so by then all three were handled, in order.
    let last = event("test.note");
    assert_eq!(plugin.post_event(last.clone()).await.unwrap().status(), 200);
    let handled: Vec<String> = plugin.http().get("/handled").await.unwrap().json().unwrap();
    assert_eq!(handled, [blocking.id, next.id, last.id]);
}

#[tokio::test]
async fn a_handler_may_ask_the_platform() {
    let plugin = PluginProcess::start(unquiet()).await.unwrap();
    plugin.platform().knows_project(7, "seven");
    plugin.send_event(TestHost::event("test.ask").project(7)).await.unwrap();
    plugin.logged("the project is seven").await.unwrap();
    assert_eq!(plugin.platform().asked(), [("get_project".to_owned(), serde_json::json!({"project_id": 7}))]);
}

#[tokio::test]
async fn a_posted_event_that_is_not_one_is_refused_with_the_right_status() {
    let plugin = PluginProcess::start(unquiet()).await.unwrap();
    let post = async |body: &str| {
        let bytes = body.as_bytes().to_vec();
        plugin.http().send_bytes("POST", "/_events", None, bytes).await.unwrap().status()
    };
    assert_eq!(post("{").await, 400);
    assert_eq!(post(r#"{"id":"1"}"#).await, 422);
    assert_eq!(post(r#"["1","test.x","2026-06-06T12:00:00Z",null,{}]"#).await, 422);
    assert_eq!(post(r#"{"id":"1","event_type":"test.x","timestamp":"noon","data":{}}"#).await, 422);
    assert_eq!(post(&"x".repeat(300 * 1024)).await, 413);
    assert_eq!(post(r#"{"id":"1","event_type":"test.x","timestamp":"2026-06-06T12:00:00Z"}"#).await, 200);
}

#[tokio::test]
async fn sigterm_and_sigint_finish_waiting_events_run_the_hook_and_remove_the_socket() {
    for interrupt in [false, true] {
        let mut plugin = PluginProcess::start(unquiet()).await.unwrap();
        for event_type in ["test.slow"; 3].into_iter().chain(["test.note"; 97]) {
            plugin.send_event(event(event_type)).await.unwrap();
        }
        assert!(plugin.socket_path().exists());
        let status = if interrupt { plugin.interrupt().await } else { plugin.terminate().await };
        assert_eq!(status.unwrap().code(), Some(0));
        assert_eq!(std::fs::read_to_string(plugin.data_dir().join("ended")).unwrap(), "100");
        assert!(!plugin.socket_path().exists());
    }
}

#[tokio::test]
async fn a_start_that_fails_is_told_at_once_and_ends_with_status_one() {
    let told_panic = "the plugin panicked while it told about itself: as ordered";
    for (wish, said_not_ready, wanted) in [
        ("bad-name", false, "the manifest breaks rules"),
        ("manifest-panic", false, told_panic),
        ("overlap", true, "the plugin's router panicked"),
        ("openapi-panic", true, told_panic),
    ] {
        let builder = PluginProcess::builder(unquiet()).environment("UNQUIET", wish);
        let Err(TestError::Start(message)) = builder.start().await else { panic!("{wish}: started") };
        assert!(message.contains(wanted), "{wish}: {message}");
        assert_eq!(message.contains("said ready:false"), said_not_ready, "{wish}: {message}");
    }
    let builder = PluginProcess::builder(unquiet()).environment("UNQUIET", "no-start").without_channel();
    let mut plugin = builder.start().await.unwrap();
    assert_eq!(plugin.exit().await.unwrap().code(), Some(1));
    plugin.logged("the start hook failed: as ordered").await.unwrap();
}

#[test]
fn started_by_hand_it_says_what_it_is() {
    let output = Command::new(unquiet()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("temps plugin list"));
    let output = Command::new(unquiet()).arg("--of-a-later-version").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown argument --of-a-later-version"));
}

#[test]
fn a_plugin_whose_host_is_killed_ends_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, data) = (directory.path().join("p.sock"), directory.path().join("data"));
    // The shell plays the host: it is the plugin's parent, and knows no way to end it.
    let mut host = Command::new("sh")
        .args(["-c", r#""$@" & echo "plugin $!"; wait"#, "host"])
        .arg(unquiet())
        .arg("--socket-path")
        .arg(&socket)
        .args(["--auth-secret", "s", "--data-dir"])
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(host.stdout.take().unwrap());
    let mut lines: Vec<String> = (0..3).map(|_| line_of(&mut stdout)).collect();
    lines.retain(|line| !line.contains("\"type\":"));
    let pid: i32 = lines[0].strip_prefix("plugin ").unwrap().parse().unwrap();

    // The plugin's own routes wait for the start hook, so after this answer it has started.
    let mut request = UnixStream::connect(&socket).unwrap();
    let head =
        "GET /handled HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s\r\nConnection: close\r\n\r\n";
    request.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    request.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    host.kill().unwrap();
    host.wait().unwrap();
    // The pipe ends when the last process that holds it, the plugin, has ended.
    let (told, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut rest = String::new();
        let _ = told.send(stdout.read_to_string(&mut rest).map(|_| rest));
    });
    let Ok(rest) = ended.recv_timeout(Duration::from_secs(30)) else {
        let plugin = rustix::process::Pid::from_raw(pid).unwrap();
        let _ = rustix::process::kill_process(plugin, rustix::process::Signal::KILL);
        panic!("the plugin lived on without its host");
    };
    assert_eq!(rest.unwrap(), "");
    assert!(data.join("ended").exists());
    assert!(!socket.exists());
}

fn line_of(stdout: &mut impl BufRead) -> String {
    stdout.lines().next().and_then(Result::ok).unwrap_or_default()
}
