//! The unruly plugin does what it is told, as seen by a host played by hand. Without that, a test of the real host
//! could pass because the sin was never committed.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::Path;

use serde_json::{Value, json};
use temps_testkit::played_host::Channel;
use temps_testkit::{Behaviour, PlayedHost, Sin, Step, unruly};

fn start(dir: &Path, order: &Behaviour) -> PlayedHost {
    let program = unruly::install(Path::new(env!("CARGO_BIN_EXE_unruly")), dir, "plugin", order).unwrap();
    PlayedHost::start(&program, dir).unwrap()
}

async fn connect(host: &PlayedHost) -> Channel {
    host.channel().await.unwrap().unwrap()
}

fn event(number: u64) -> Value {
    json!({"id": format!("event-{number}"), "event_type": "deployment.succeeded",
        "timestamp": "2026-06-06T12:00:00Z", "project_id": 42, "data": {"deployment_id": number}})
}

#[tokio::test]
async fn without_a_sin_it_is_an_honest_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = start(dir.path(), &Behaviour::honest("honest").ready_field("features", json!(["ack"])));
    let (manifest, ready) = host.handshake().await.unwrap();
    temps_protocol::parse_manifest_line(&manifest.to_string()).unwrap();
    temps_protocol::parse_ready_line(&ready.to_string()).unwrap();
    assert_eq!(host.get("/health").await.unwrap().status, 200);
    assert_eq!(host.get("/trusted").await.unwrap().text(), "trusted");
    assert_eq!(
        host.request("POST", "/echo", b"\x00there and back").await.unwrap().body,
        b"\x00there and back"
    );
    assert_eq!(host.get("/stream?n=3&ms=1").await.unwrap().text(), "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    let chosen = host.get("/answer?status=302&header=Location:%2Fui%2F").await.unwrap();
    assert_eq!((chosen.status, chosen.header("location")), (302, Some("/ui/")));

    let mut channel = connect(&host).await;
    channel.send(&json!({"type": "event", "event": event(1)})).await.unwrap();
    assert_eq!(channel.receive().await.unwrap(), json!({"type": "ack", "id": "event-1", "status": "ok"}));
    assert_eq!(host.request("POST", "/_events", event(2).to_string().as_bytes()).await.unwrap().status, 200);
    assert_eq!(host.get("/events").await.unwrap().json(), json!([event(1), event(2)]));

    let answer = async {
        let asked = channel.receive().await.unwrap();
        assert_eq!((&asked["method"], &asked["params"]), (&json!("get_project"), &json!({"project_id": 42})));
        channel.send(&json!({"type": "response", "id": asked["id"], "result": {"name": "my-app"}})).await
    };
    let question = host.get("/ask?method=get_project&params=%7B%22project_id%22%3A42%7D");
    let (got, sent) = tokio::join!(question, answer);
    sent.unwrap();
    assert_eq!(got.unwrap().json()["result"], json!({"name": "my-app"}));

    host.terminate().unwrap();
    assert_eq!(host.ended().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn the_first_lines_are_as_bad_as_ordered() {
    for (sin, beginning) in [
        (Sin::Chatter, "Listening"),
        (Sin::WrongTypeFirst, r#"{"name":"unruly","type":"greeting"#),
        (Sin::ReadyBeforeManifest, r#"{"has_ui":false,"ready":true"#),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut host = start(dir.path(), &Behaviour::sinful("bad", sin.clone()));
        let line = host.line().await.unwrap().unwrap();
        let sorted = serde_json::from_str::<Value>(&line).map_or(line.clone(), |value| value.to_string());
        assert!(sorted.starts_with(beginning), "{sin:?}: {line}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut host = start(dir.path(), &Behaviour::sinful("bad", Sin::ReadyFalse));
    assert_eq!(host.handshake().await.unwrap().1["ready"], false);
    let dir = tempfile::tempdir().unwrap();
    let mut host = start(dir.path(), &Behaviour::sinful("bad", Sin::HugeLine { megabytes: 2 }));
    assert!(host.line().await.unwrap().unwrap().len() > 2_000_000);
}

#[tokio::test]
async fn it_exits_at_the_ordered_step() {
    for step in [Step::Start, Step::Manifest, Step::Ready, Step::Channel] {
        let dir = tempfile::tempdir().unwrap();
        let mut host = start(dir.path(), &Behaviour::sinful("quitter", Sin::ExitAt { step, code: 7 }));
        let wanted = match step {
            Step::Start => 0,
            Step::Manifest => 1,
            Step::Ready | Step::Channel => 2,
        };
        for _ in 0..wanted {
            assert!(host.line().await.unwrap().is_some());
        }
        if step == Step::Channel {
            let _ = host.channel().await;
        }
        assert_eq!(host.line().await.unwrap(), None, "{step:?}");
        assert_eq!(host.ended().await.unwrap().code(), Some(7), "{step:?}");
    }
}

#[tokio::test]
async fn no_two_manifests_of_a_changing_one_are_alike() {
    let dir = tempfile::tempdir().unwrap();
    let order = Behaviour::sinful("chameleon", Sin::ChangingManifest);
    let (first, _) = start(dir.path(), &order).handshake().await.unwrap();
    let (second, _) = start(dir.path(), &order).handshake().await.unwrap();
    assert_ne!(first, second);
    assert!(temps_protocol::parse_manifest_line(&second.to_string()).is_ok());
}

#[tokio::test]
async fn its_channel_is_as_bad_as_ordered() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = start(dir.path(), &Behaviour::sinful("mute", Sin::ChannelRefused { status: 404 }));
    host.handshake().await.unwrap();
    assert_eq!(host.channel().await.unwrap().unwrap_err(), 404);

    let dir = tempfile::tempdir().unwrap();
    let mut host = start(dir.path(), &Behaviour::sinful("flood", Sin::ChannelFloods { requests: 100 }));
    host.handshake().await.unwrap();
    let mut channel = connect(&host).await;
    for number in 0..100 {
        assert_eq!(channel.receive().await.unwrap()["id"], format!("flood-{number}"));
    }

    let dir = tempfile::tempdir().unwrap();
    let mut host = start(dir.path(), &Behaviour::sinful("garbage", Sin::GarbageFrames));
    host.handshake().await.unwrap();
    let mut channel = connect(&host).await;
    assert!(temps_protocol::PluginFrame::parse(&channel.receive_text().await.unwrap().unwrap()).is_err());

    let dir = tempfile::tempdir().unwrap();
    let mut host = start(dir.path(), &Behaviour::sinful("giant", Sin::GiantFrame { megabytes: 3 }));
    host.handshake().await.unwrap();
    assert!(connect(&host).await.receive_text().await.unwrap().unwrap().len() > 3_000_000);

    let dir = tempfile::tempdir().unwrap();
    let mut host = start(dir.path(), &Behaviour::sinful("dropper", Sin::DropsChannel { after_ms: 1 }));
    host.handshake().await.unwrap();
    assert_eq!(connect(&host).await.receive_text().await.unwrap(), None);
}

#[tokio::test]
async fn it_is_unwell_when_ordered() {
    let dir = tempfile::tempdir().unwrap();
    let sin = Sin::HealthStatus { status: 500, after_ms: 0 };
    let mut host = start(dir.path(), &Behaviour::sinful("ill", sin));
    host.handshake().await.unwrap();
    assert_eq!(host.get("/health").await.unwrap().status, 500);
}

#[tokio::test]
async fn it_dies_of_the_event_that_it_is_told_to_die_of() {
    let dir = tempfile::tempdir().unwrap();
    let sin = Sin::CrashOnEvent { event_type: "deployment.succeeded".into() };
    let mut host = start(dir.path(), &Behaviour::sinful("fragile", sin));
    host.handshake().await.unwrap();
    let other =
        json!({"id": "e", "event_type": "project.created", "timestamp": "2026-06-06T12:00:00Z", "data": {}});
    assert_eq!(host.request("POST", "/_events", other.to_string().as_bytes()).await.unwrap().status, 200);
    assert!(host.request("POST", "/_events", event(1).to_string().as_bytes()).await.is_err());
    assert_eq!(host.ended().await.unwrap().code(), None);
}

#[tokio::test]
async fn it_ignores_sigterm_and_leaves_a_daemon_that_beats() {
    let dir = tempfile::tempdir().unwrap();
    let order = Behaviour::sinful("clinger", Sin::IgnoresSigterm).and(Sin::Daemonises);
    let mut host = start(dir.path(), &order);
    host.handshake().await.unwrap();
    host.terminate().unwrap();
    assert_eq!(host.get("/health").await.unwrap().status, 200);
    let read = |name: &str| std::fs::read_to_string(host.data_dir().join(name)).unwrap_or_default();
    let deadline = tokio::time::Instant::now() + temps_testkit::played_host::PATIENCE;
    while read("daemon.beat").is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "no daemon");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let pid: i32 = read("daemon.pid").parse().unwrap();
    let group = rustix::process::getpgid(rustix::process::Pid::from_raw(pid)).unwrap();
    assert_ne!(Some(group), rustix::process::Pid::from_raw(host.pid().unwrap().cast_signed()));
    assert_ne!(group, rustix::process::getpgrp());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

/// What it says to two events, until it says nothing more or ends.
async fn confirmations(dir: &Path, order: Behaviour) -> Vec<(String, String)> {
    let mut host = start(dir, &order.with_acks());
    host.handshake().await.unwrap();
    let mut channel = connect(&host).await;
    for number in [1, 2] {
        // A plugin that dies of the first does not read the second.
        let _ = channel.send(&json!({"type": "event", "event": event(number)})).await;
    }
    let _ = channel.close().await;
    let mut said = Vec::new();
    while let Ok(frame) = channel.receive().await {
        let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
        said.push((text("id"), text("status")));
    }
    said
}

#[tokio::test]
async fn it_confirms_as_wrongly_as_ordered() {
    let one = || "event-1".to_owned();
    let cases: [(Sin, &[(&str, &str)]); 7] = [
        (Sin::NeverAcks, &[]),
        (Sin::AcksWithError, &[("event-1", "error"), ("event-2", "error")]),
        (Sin::AcksWithErrorFor { event: one() }, &[("event-1", "error"), ("event-2", "ok")]),
        (Sin::AcksTwice, &[("event-1", "ok"), ("event-1", "ok"), ("event-2", "ok"), ("event-2", "ok")]),
        (
            Sin::AcksUnknown,
            &[
                ("never-sent-event-1", "ok"),
                ("event-1", "ok"),
                ("never-sent-event-2", "ok"),
                ("event-2", "ok"),
            ],
        ),
        (Sin::AcksThenCrashes { event: one() }, &[("event-1", "ok")]),
        (Sin::CrashOnEventId { id: "event-2".into() }, &[("event-1", "ok")]),
    ];
    for (sin, wanted) in cases {
        let dir = tempfile::tempdir().unwrap();
        let said = confirmations(dir.path(), Behaviour::sinful("liar", sin.clone())).await;
        let said: Vec<_> = said.iter().map(|(id, status)| (&**id, &**status)).collect();
        assert_eq!(said, wanted, "{sin:?}");
    }
}

#[tokio::test]
async fn what_it_confirms_before_a_crash_was_not_handled() {
    let dir = tempfile::tempdir().unwrap();
    let sin = Sin::AcksThenCrashes { event: "deployment.succeeded".into() };
    let mut host = start(dir.path(), &Behaviour::sinful("liar", sin).with_acks());
    host.handshake().await.unwrap();
    let mut channel = connect(&host).await;
    channel.send(&json!({"type": "event", "event": event(1)})).await.unwrap();
    assert_eq!(channel.receive().await.unwrap()["id"], "event-1");
    assert_eq!(host.ended().await.unwrap().code(), None);
    assert!(!host.data_dir().join("events.jsonl").exists());
}

#[tokio::test]
async fn it_confirms_late_and_reads_slowly_when_ordered() {
    for sin in [Sin::AcksLate { after_ms: 300 }, Sin::ReadsSlowly { per_frame_ms: 300 }] {
        let dir = tempfile::tempdir().unwrap();
        let mut host = start(dir.path(), &Behaviour::sinful("slow", sin).with_acks());
        host.handshake().await.unwrap();
        let mut channel = connect(&host).await;
        let begun = std::time::Instant::now();
        for number in [1, 2] {
            channel.send(&json!({"type": "event", "event": event(number)})).await.unwrap();
        }
        for number in [1, 2] {
            assert_eq!(channel.receive().await.unwrap()["id"], format!("event-{number}"));
        }
        assert!(begun.elapsed() >= std::time::Duration::from_millis(300));
    }
}
