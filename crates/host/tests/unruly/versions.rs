//! A platform whose events have a second major version, and plugins of both.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use temps_host::ApiVersions;
use temps_host::plugin::PluginState;
use temps_host::store::AttemptFilter;
use temps_host::versions::{AdaptError, Data};
use temps_testkit::Behaviour;

use crate::rig::{until, until_state};
use crate::scene::Scene;

/// What the platform did in its second version: the project's number became an object.
fn back_to_one(mut data: Data) -> Result<Data, AdaptError> {
    let deployment = data.remove("deployment").ok_or_else(|| AdaptError::new("it has no deployment"))?;
    data.insert("deployment_id".into(), deployment["id"].clone());
    Ok(data)
}

fn two() -> ApiVersions {
    ApiVersions::default()
        .adapter(2, "deployment.ready", back_to_one)
        .deprecate(1, "it ends on 2027-06-01; build the plugin anew for version 2")
}

fn of_version(name: &str, version: &str) -> Behaviour {
    Behaviour::honest(name).with_acks().manifest_field("api_version", version)
}

/// The payloads that a plugin got, without repetitions.
fn payloads(scene: &Scene, plugin: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(scene.data(plugin).join("events.jsonl")).unwrap_or_default();
    let data = |line| Some(serde_json::from_str::<Value>(line).ok()?["data"].to_string());
    text.lines().filter_map(data).collect()
}

async fn scene() -> Scene {
    let scene = Scene::with(|rig| rig.versions = two()).await;
    let filter = json!([{"path": "data.deployment_id", "any_of": [100]}]);
    scene.rig.put(&of_version("older", "1.0").manifest_field("filters", filter));
    scene.rig.put(&of_version("newer", "2.0"));
    for name in ["older", "newer"] {
        until_state(&scene.host, name, PluginState::Running).await;
    }
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_of_the_older_version_keeps_getting_the_shape_that_it_was_written_for() {
    let scene = scene().await;
    scene.publish_data("deployment.ready", json!({"deployment": {"id": 100}, "url": "http://a"})).await;
    // Only the shape that it knows passes its filter.
    let old = json!({"deployment_id": 100, "url": "http://a"}).to_string();
    let new = json!({"deployment": {"id": 100}, "url": "http://a"}).to_string();
    scene.until_seen("the old shape", || payloads(&scene, "older").contains(&old)).await;
    scene.until_seen("the new shape", || payloads(&scene, "newer").contains(&new)).await;
    assert_eq!((payloads(&scene, "older").len(), payloads(&scene, "newer").len()), (1, 1));
    // The journal has what was published.
    let entry = scene.host.store().events_after(0, 10).await.unwrap().pop().unwrap();
    assert_eq!(entry.event.data.to_string(), new);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_an_older_form_fails_with_the_reason_and_the_plugin_goes_on() {
    let scene = scene().await;
    let id = scene.publish_data("deployment.ready", json!({"news": true})).await;
    let reason = async {
        loop {
            let filter =
                AttemptFilter { plugin: Some("older".into()), limit: 10, ..AttemptFilter::default() };
            let attempts = scene.host.store().attempts(filter).await.unwrap();
            if let Some(answer) = attempts.into_iter().find_map(|attempt| attempt.answer) {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let reason = tokio::time::timeout(crate::rig::PATIENCE, reason).await.unwrap();
    assert_eq!(reason, "deployment.ready of version 2 has no form in version 1: it has no deployment");
    scene.until_seen("the new shape", || scene.events_of("newer").contains(&id)).await;
    let next = scene.publish_data("deployment.ready", json!({"deployment": {"id": 100}})).await;
    scene.until_seen("the next event", || scene.events_of("older").contains(&next)).await;
    assert!(!scene.events_of("older").contains(&id));
    let now = scene.host.plugin("older").unwrap();
    assert_eq!((now.starts, now.crashes), (1, 0));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deprecated_version_is_said_and_one_that_is_not_spoken_is_refused() {
    let scene = scene().await;
    let (old, new) = (scene.host.api_version("older").unwrap(), scene.host.api_version("newer").unwrap());
    assert_eq!((old.major, new.major, new.newest, new.deprecated), (1, 2, 2, None));
    assert!(old.deprecated.unwrap().contains("2027-06-01"));
    let (lines, _) = scene.host.logs("older", 50).unwrap();
    let warned = lines.iter().any(|line| line.level == "warn" && line.message.contains("2027-06-01"));
    assert!(warned, "{lines:?}");
    scene.rig.put(&of_version("sinner", "3.0"));
    let why = scene.refusal().await;
    assert!(why.contains("needs version 3.0, this host speaks 1 to 2"), "{why}");
    until(&scene.host, "older", |seen| seen.state == PluginState::Running).await;
    scene.end().await;
}
