//! The two plugins in plain Python do what the specification asks of a plugin, as seen by a host played by hand.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use temps_testkit::PlayedHost;

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plain-python").join(file)
}

async fn start(file: &str, dir: &Path) -> PlayedHost {
    let mut host = PlayedHost::start(&example(file), dir).unwrap();
    let manifest = host.line().await.unwrap().unwrap();
    temps_protocol::parse_manifest_line(&manifest).unwrap();
    let ready = host.line().await.unwrap().unwrap();
    temps_protocol::parse_ready_line(&ready).unwrap();
    host
}

fn event(number: u64, text: &str) -> Value {
    json!({"id": format!("event-{number}"), "event_type": "deployment.succeeded",
        "timestamp": "2026-06-06T12:00:00Z", "project_id": 42, "data": {"text": text}})
}

#[test]
fn they_are_as_short_as_they_claim_to_be() {
    for (file, most) in [("minimal.py", 25), ("with-channel.py", 80)] {
        let lines = std::fs::read_to_string(example(file)).unwrap().lines().count();
        assert!(lines <= most, "{file} has {lines} lines");
    }
}

#[tokio::test]
async fn the_minimal_one_takes_events_by_post_and_has_no_channel() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("plugin.sock"), "what an earlier start left behind").unwrap();
    let mut host = start("minimal.py", dir.path()).await;
    assert_eq!(host.get("/health").await.unwrap().status, 200);
    assert_eq!(host.channel().await.unwrap().unwrap_err(), 404);
    let posted = host.request("POST", "/_events", event(1, "ä").to_string().as_bytes()).await.unwrap();
    assert_eq!(posted.status, 200);
    assert_eq!(host.get("/events").await.unwrap().json(), json!([event(1, "ä")]));
    assert_eq!(host.get("/else").await.unwrap().status, 404);
    host.terminate().unwrap();
    host.ended().await.unwrap();
}

#[tokio::test]
async fn the_other_one_asks_over_the_channel_and_takes_a_second_one_after_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = start("with-channel.py", dir.path()).await;
    for round in 1..=2 {
        let mut channel = host.channel().await.unwrap().unwrap();
        // Lengths on both sides of WebSocket's three ways to write one.
        for (number, length) in [(1, 10), (2, 1_000), (3, 100_000)] {
            let event = event(round * 10 + number, &"x".repeat(length));
            channel.send(&json!({"type": "event", "event": event})).await.unwrap();
        }
        channel.send(&json!({"type": "of a later version", "id": 1})).await.unwrap();
        channel.ping().await.unwrap();
        let seen = host.get("/events").await.unwrap().json();
        assert_eq!(seen.as_array().unwrap().len(), usize::try_from(round * 3).unwrap());

        let asked = host.get("/project?id=42");
        let answered = async {
            let request = channel.receive().await.unwrap();
            assert_eq!(request["method"], "get_project");
            assert_eq!(request["params"], json!({"project_id": 42}));
            let frame = json!({"type": "response", "id": request["id"], "result": {"name": "my-app", "slug": "my-app"}});
            channel.send(&frame).await.unwrap();
        };
        let (project, ()) = tokio::join!(asked, answered);
        assert_eq!(project.unwrap().json()["name"], "my-app");

        let asked = host.get("/project?id=7");
        let refused = async {
            let request = channel.receive().await.unwrap();
            let error = json!({"code": "not_found", "message": "there is no project 7"});
            channel.send(&json!({"type": "response", "id": request["id"], "error": error})).await.unwrap();
        };
        let (project, ()) = tokio::join!(asked, refused);
        assert_eq!(project.unwrap().status, 404);
        channel.close().await.unwrap();
        assert_eq!(channel.receive_text().await.unwrap(), None);
    }
    host.terminate().unwrap();
    host.ended().await.unwrap();
}
