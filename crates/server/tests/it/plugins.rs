//! A real plugin, operated over REST.

use reqwest::Method;
use serde_json::{Value, json};
use temps_testkit::daemon;

use crate::rig::{PATIENCE, Rig, problem, success};

async fn with_hello() -> Rig {
    let rig = Rig::start_in(daemon::home_with_hello(), |_| {}).await;
    until(&rig, "running").await;
    rig
}

/// Waits until `hello` is in a state.
async fn until(rig: &Rig, state: &str) -> Value {
    let waiting = async {
        loop {
            let answer = rig.request(Method::GET, "/api/plugins/hello").send().await.unwrap();
            if answer.status() == 200 {
                let plugin: Value = answer.json().await.unwrap();
                if plugin["state"] == state {
                    return plugin;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(plugin) => plugin,
        Err(_) => panic!("hello is not {state}: {}", rig.get("/api/plugins").await),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_seen_stopped_started_and_turned_off() {
    let rig = with_hello().await;
    let seen = until(&rig, "running").await;
    assert_eq!(seen["display_name"], "Hello");
    assert_eq!((seen["has_ui"].clone(), seen["ui_url"].clone()), (json!(true), json!("/api/x/hello/ui/")));
    assert!(seen["pid"].is_u64() && seen["hash"].is_string() && seen["manifest"].is_object());
    let act = async |action: &str| rig.post(&format!("/api/plugins/hello/{action}"), &Value::Null).await.1;
    assert_eq!(act("stop").await["state"], "stopped");
    problem(
        rig.request(Method::GET, "/api/x/hello/greeting").send().await.unwrap(),
        503,
        "plugin_not_running",
    )
    .await;
    act("start").await;
    until(&rig, "running").await;
    assert_eq!(act("disable").await["state"], "disabled");
    problem(rig.request(Method::POST, "/api/plugins/hello/start").send().await.unwrap(), 409, "not_now")
        .await;
    act("enable").await;
    until(&rig, "running").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_seen_taken_back_and_given_again() {
    let rig = with_hello().await;
    let path = "/api/plugins/hello/grants";
    let grants = rig.get(path).await;
    let event = json!({ "kind": "event", "value": "deployment.*" });
    let has = |grants: &Value| {
        grants["given"]
            .as_array()
            .unwrap()
            .iter()
            .any(|grant| grant["kind"] == "event" && grant["value"] == "deployment.*")
    };
    assert!(has(&grants), "{grants}");
    let one = format!("{path}?kind=event&value=deployment.*");
    let after = success(rig.request(Method::DELETE, &one).send().await.unwrap()).await.1;
    assert!(!has(&after) && after["missing"].as_array().unwrap().contains(&event), "{after}");
    let given = rig.post(path, &json!({ "grants": [event] })).await.1;
    assert!(has(&given), "{given}");
    let by_whom = given["given"]
        .as_array()
        .unwrap()
        .iter()
        .any(|grant| grant["granted_by"].as_str().unwrap().contains("admin"));
    assert!(by_whom, "{given}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reported_deployment_reaches_the_plugin_and_its_log() {
    let rig = with_hello().await;
    let mut log = rig.request(Method::GET, "/api/plugins/hello/logs?follow=true").send().await.unwrap();
    assert_eq!(log.headers()["content-type"], "text/event-stream");
    rig.report(&json!({ "project": "shop", "state": "succeeded" })).await;
    let waiting = async {
        let mut text = String::new();
        while !text.contains("deployment.succeeded") {
            let chunk = log.chunk().await.unwrap().expect("the log goes on");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the plugin logs the event");
    let seen = rig.get("/api/x/hello/events").await;
    assert!(seen.to_string().contains("deployment.succeeded"), "{seen}");
    let lines = rig.get("/api/plugins/hello/logs?lines=5").await;
    assert!(lines["items"].as_array().unwrap().len() <= 5);
    let settled = async {
        loop {
            let deliveries = rig.get("/api/deliveries?plugin=hello&limit=1").await;
            if deliveries["items"].as_array().is_some_and(|items| !items.is_empty()) {
                assert!(deliveries["items"][0]["event_id"].is_string());
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("the delivery is recorded");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_a_crash_and_not_what_the_plugin_wrote() {
    let rig = with_hello().await;
    let pid = until(&rig, "running").await["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let viewer = rig.token("looker", "viewer").await;
    let waiting = async {
        loop {
            let plugin = rig.get("/api/plugins/hello").await;
            if plugin["last_crash"].is_object() {
                return plugin;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let admins = tokio::time::timeout(PATIENCE, waiting).await.expect("the crash is seen");
    assert_eq!(admins["last_crash"]["signal"], 9, "{admins}");
    assert_ne!(admins["last_crash"]["last_lines"], json!([]), "{admins}");
    let answer = rig.anonymous(Method::GET, "/api/plugins/hello").bearer_auth(viewer).send().await.unwrap();
    let viewers: Value = answer.json().await.unwrap();
    assert_eq!(viewers["last_crash"]["last_lines"], json!([]));
    assert_eq!(viewers["last_crash"]["cause"], admins["last_crash"]["cause"]);
    until(&rig, "running").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_of_a_plugin_ends_with_the_plugin_and_is_not_cut_off() {
    let rig = with_hello().await;
    let mut stream = rig.request(Method::GET, "/api/x/hello/events/stream").send().await.unwrap();
    rig.report(&json!({ "project": "shop" })).await;
    stream.chunk().await.unwrap().expect("the stream is open");
    rig.stop().await;
    // Whoever waits for the stream before the plugin is stopped has to cut it off in the end, and that is an error here.
    while stream.chunk().await.expect("the stream ends in order").is_some() {}
}
