//! `hello` as a host sees it: its built executable over a real socket.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use temps_plugin_sdk::prelude::serde_json::Value;
use temps_plugin_sdk::testing::{PluginProcess, TestHost};

async fn hello() -> PluginProcess {
    PluginProcess::start(env!("CARGO_BIN_EXE_hello")).await.unwrap()
}

async fn events_of(plugin: &PluginProcess) -> Vec<Value> {
    let mut answer: Value = plugin.http().get("/events").await.unwrap().json().unwrap();
    match answer["events"].take() {
        Value::Array(events) => events,
        other => panic!("no list: {other}"),
    }
}

#[tokio::test]
async fn it_asks_for_deployments_and_projects_and_for_nothing_else() {
    let plugin = hello().await;
    let manifest = plugin.manifest();
    assert_eq!(manifest.name, "hello");
    assert_eq!(manifest.events, ["deployment.*", "project.*"]);
    assert_eq!(manifest.egress.as_deref(), Some(&[][..]));
    assert!(manifest.permissions.as_ref().unwrap().methods.is_empty());
    assert!(plugin.ready().has_ui);
}

#[tokio::test]
async fn it_greets_by_name() {
    let answer: Value = hello().await.http().get("/greeting").await.unwrap().json().unwrap();
    assert_eq!(answer["plugin"], "hello");
}

#[tokio::test]
async fn it_keeps_the_last_fifty_events_however_they_come() {
    let plugin = hello().await;
    for number in 0..30 {
        let event = TestHost::event("deployment.ready").data(serde_json::json!({"number": number}));
        plugin.send_event(event).await.unwrap();
    }
    for number in 30..60 {
        let event =
            TestHost::event("project.created").project(number).data(serde_json::json!({"number": number}));
        assert_eq!(plugin.post_event(event).await.unwrap().status(), 200);
    }
    let events = events_of(&plugin).await;
    let numbers: Vec<i64> = events.iter().map(|event| event["data"]["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (10..60).rev().collect::<Vec<i64>>());
    assert_eq!((&events[0]["event_type"], &events[0]["project_id"]), (&"project.created".into(), &59.into()));
}

#[tokio::test]
async fn an_event_that_comes_twice_is_kept_once() {
    let plugin = hello().await;
    let event = TestHost::event("deployment.ready");
    for _ in 0..3 {
        plugin.post_event(event.clone()).await.unwrap();
    }
    assert_eq!(events_of(&plugin).await.len(), 1);
}

#[tokio::test]
async fn the_stream_tells_the_past_and_then_the_present() {
    let mut plugin = hello().await;
    plugin.post_event(TestHost::event("project.created")).await.unwrap();
    let mut stream = plugin.http().stream("/events/stream").await.unwrap();
    stream.until("project.created").await.unwrap();
    plugin.send_event(TestHost::event("deployment.succeeded")).await.unwrap();
    let text = stream.until("deployment.succeeded").await.unwrap();
    assert!(text.contains("data:") && text.contains("id:"), "{text}");
    // An open page does not hold up the end.
    assert!(plugin.terminate().await.unwrap().success());
    assert_eq!(stream.next().await.unwrap(), None);
}

#[tokio::test]
async fn the_page_is_served_with_relative_addresses_only() {
    let plugin = hello().await;
    let moved = plugin.http().get("/ui").await.unwrap();
    assert_eq!((moved.status(), moved.header("location")), (301, "ui/"));

    let page = plugin.http().with_authorization(None).get("/ui/").await.unwrap();
    assert_eq!((page.status(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), "no-cache");
    for name in ["page.js", "style.css"] {
        assert!(page.text().contains(&format!("\"{name}\"")), "the page does not use {name}");
        let file = plugin.http().get(&format!("/ui/{name}")).await.unwrap();
        assert_eq!(file.status(), 200);
        for absolute in ["\"/", "'/", "http://", "https://"] {
            assert!(!file.text().contains(absolute), "{name} has an absolute address");
        }
    }
    assert!(!page.text().contains("=\"/"));

    // A page of the application is the application; a file that is missing is missing.
    assert_eq!(plugin.http().get("/ui/settings").await.unwrap().text(), page.text());
    assert_eq!(plugin.http().get("/ui/missing.js").await.unwrap().status(), 404);
    assert_eq!(plugin.http().get("/ui/%2e%2e/Cargo.toml").await.unwrap().status(), 404);
}

#[tokio::test]
async fn what_it_greets_with_is_a_setting() {
    let schema = hello().await.manifest().config.clone().unwrap();
    assert_eq!(schema["properties"]["greeting"]["default"], "Hello from a plugin");
}
