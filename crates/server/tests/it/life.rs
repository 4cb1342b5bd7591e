//! The daemon's own life: what a restart keeps, what a reload changes, what is counted.

use reqwest::Method;
use serde_json::json;
use temps_server::{Config, Server, StartError};

use crate::rig::Rig;

#[tokio::test]
async fn a_restart_keeps_everything() {
    let rig = Rig::start().await;
    rig.report(&json!({ "project": "shop", "external_id": "run-1", "state": "ready" })).await;
    let secret = rig.token("ci", "viewer").await;
    let paths = ["/api/projects", "/api/environments", "/api/deployments", "/api/events", "/api/tokens"];
    let mut before = Vec::new();
    for path in paths {
        before.push(rig.get(path).await);
    }
    let admin = rig.admin.clone();
    let rig = Rig::start_in(rig.stop().await, |_| {}).await;
    assert_eq!(rig.admin, admin);
    for (path, before) in paths.into_iter().zip(before).filter(|(path, _)| *path != "/api/tokens") {
        assert_eq!(rig.get(path).await, before, "{path}");
    }
    let session = rig.anonymous(Method::GET, "/api/session").bearer_auth(secret).send().await.unwrap();
    assert_eq!(session.status(), 200);
    rig.stop().await;
}

#[tokio::test]
async fn a_second_daemon_on_the_same_state_does_not_start() {
    let rig = Rig::start().await;
    let second = Server::start(rig.config.clone()).await;
    assert!(matches!(second, Err(StartError::AlreadyRunning { .. })));
    rig.get("/api/version").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_reload_says_what_changed_and_what_waits_for_a_restart() {
    let rig = Rig::start().await;
    let ask = || rig.request(Method::GET, "/api/version").header("host", "temps.internal").send();
    assert_eq!(ask().await.unwrap().status(), 421);
    let mut new: Config = rig.config.clone();
    new.allowed_hosts = vec!["temps.internal".into()];
    new.listen = "127.0.0.1:1".parse().unwrap();
    let report = rig.handle.reload(new).await.unwrap();
    assert_eq!((report.changed, report.needs_restart), (vec!["allowed_hosts"], vec!["listen"]));
    assert_eq!(ask().await.unwrap().status(), 200);
    rig.stop().await;
}

#[tokio::test]
async fn metrics_are_for_callers_who_are_signed_in_unless_they_are_made_public() {
    let rig = Rig::start().await;
    assert_eq!(rig.anonymous(Method::GET, "/metrics").send().await.unwrap().status(), 401);
    let text = rig.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("temps_server_http_requests_total{status=\"4xx\"} 1"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    let rig = Rig::start_in(rig.stop().await, |config| config.metrics_public = true).await;
    assert_eq!(rig.anonymous(Method::GET, "/metrics").send().await.unwrap().status(), 200);
    rig.stop().await;
}

#[tokio::test]
async fn what_operators_do_stands_in_the_audit_trail_without_secrets() {
    let rig = Rig::start().await;
    let secret = rig.token("ci", "viewer").await;
    rig.post("/api/projects", &json!({ "name": "Shop" })).await;
    let trail = until_recorded(&rig, &["token.created", "project.created"]).await;
    assert!(!trail.to_string().contains(&secret));
    assert!(trail.to_string().contains("(admin)"), "{trail}");
    rig.stop().await;
}

#[tokio::test]
async fn who_was_not_let_in_is_counted_in_the_audit_trail_without_what_was_tried() {
    let rig = Rig::start().await;
    let tried = "tmp_not-a-token-of-ours";
    for path in ["/api/plugins", "/api/x/hello/", "/api/projects"] {
        let answer = rig.anonymous(Method::GET, path).bearer_auth(tried).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
    let stale = rig.anonymous(Method::GET, "/api/plugins").header("cookie", "temps_session=old");
    assert_eq!(stale.send().await.unwrap().status(), 401);
    let link = rig.anonymous(Method::GET, "/login?code=guessed").send().await.unwrap();
    assert_eq!(link.status(), 401);
    // Looking is no sign-in, and neither is a caller without anything.
    rig.anonymous(Method::GET, "/api/plugins").send().await.unwrap();
    let trail = until_recorded(&rig, &["session.refused"; 3]).await;
    let refused =
        trail["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "session.refused");
    let mut with: Vec<_> = refused.map(|entry| entry["detail"]["with"].as_str().unwrap()).collect();
    with.sort_unstable();
    assert_eq!(with, ["login link", "session", "token"], "the first of each at once");
    assert!(!trail.to_string().contains(tried) && !trail.to_string().contains("guessed"));
    rig.stop().await;
}

/// The trail, once it has these kinds, each as often as it is named.
async fn until_recorded(rig: &Rig, kinds: &[&str]) -> serde_json::Value {
    let waiting = async {
        loop {
            let trail = rig.get("/api/audit?limit=500").await;
            let items = trail["items"].as_array().unwrap();
            let count = |kind| items.iter().filter(|entry| entry["kind"] == kind).count();
            if kinds.iter().all(|kind| count(*kind) >= kinds.iter().filter(|one| *one == kind).count()) {
                return trail;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::rig::PATIENCE, waiting).await.expect("the trail has it")
}

#[tokio::test]
async fn the_state_directory_is_its_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::start().await;
    for dir in ["state", "run"] {
        let mode = std::fs::metadata(rig.home.path().join(dir)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{dir}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn the_demonstration_deploys_and_says_what_it_is() {
    let rig = Rig::start_with(|config| config.demo = true).await;
    let waiting = async {
        loop {
            let found = rig.get("/api/deployments?state=succeeded").await;
            if let Some(first) = found["items"].as_array().and_then(|items| items.first()) {
                assert_eq!(first["project"], "demo-shop");
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(crate::rig::PATIENCE, waiting).await.expect("a deployment must succeed");
    assert!(rig.event_types().await.contains(&"deployment.ready".to_owned()));
    rig.stop().await;
}

#[tokio::test]
async fn without_the_demonstration_nothing_is_made_up() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/api/projects").await["items"], json!([]));
    assert!(rig.event_types().await.is_empty());
    rig.stop().await;
}
