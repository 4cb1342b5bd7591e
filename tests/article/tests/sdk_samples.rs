//! The article's two SDK samples: compiled as printed, and run.

use temps_plugin_sdk::prelude::*;
use temps_plugin_sdk::testing::{PluginProcess, TestHost};

fn manifest_sample() -> PluginManifest {
    include!("../samples/manifest_builder.rust")
}

#[test]
fn the_manifest_builder_sample_makes_the_manifest_line_of_the_article() {
    let manifest = manifest_sample();
    manifest.check().unwrap();
    let line: serde_json::Value = serde_json::from_str(&manifest.to_line()).unwrap();
    // The line as the article prints it in its description of the handshake.
    let printed = json!({
        "type": "manifest",
        "name": "slack-notifier",
        "version": "1.0.0",
        "display_name": "Slack Notifier",
        "description": "Sends deployment notifications to Slack",
        "events": ["deployment.succeeded", "deployment.ready"],
        "health_path": "/health",
    });
    for (field, value) in printed.as_object().unwrap() {
        assert_eq!(line.get(field), Some(value), "{field}");
    }
    let nav = json!([
        {"label": "Slack", "icon": "message-square", "section": "settings", "path": "/slack", "order": 60}
    ]);
    assert_eq!(line["nav"], nav);
}

#[tokio::test]
async fn the_plugin_sample_runs_as_the_article_says() {
    let executable = env!("CARGO_BIN_EXE_article-slack-notifier");
    let mut plugin = PluginProcess::start(executable).await.unwrap();
    assert_eq!(plugin.manifest().name, "slack-notifier");
    assert_eq!(plugin.manifest().events, ["deployment.succeeded"]);
    assert!(plugin.ready().ready && !plugin.ready().has_ui);
    assert_eq!(plugin.http().get("/health").await.unwrap().status(), 200);

    // Its settings route.
    let settings = json!({"channel": "#deployments"});
    assert_eq!(plugin.http().send("PATCH", "/settings", Some(&settings)).await.unwrap().status(), 200);
    let read: serde_json::Value = plugin.http().get("/settings").await.unwrap().json().unwrap();
    assert_eq!(read, settings);

    // Its handler: it passes over other types, and logs the URL of a success. Events are handled in order.
    plugin
        .send_event(TestHost::event("deployment.ready").data(json!({"url": "https://other"})))
        .await
        .unwrap();
    let url = "https://myapp.example.com";
    let data = json!({"deployment_id": 100, "url": url, "commit_sha": "a1b2c3d"});
    plugin.send_event(TestHost::event("deployment.succeeded").project(42).data(data)).await.unwrap();
    plugin.logged("Deployment succeeded — notifying Slack").await.unwrap();
    assert!(plugin.log().contains(url) && !plugin.log().contains("https://other"));
    assert!(plugin.terminate().await.unwrap().success());
}
