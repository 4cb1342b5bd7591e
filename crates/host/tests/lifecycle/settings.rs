//! Configuration: what holds a plugin, what lets it start, and that no secret is anywhere but in the vault.

use serde_json::{Value, json};
use temps_host::PluginHost;
use temps_host::configuration::{ConfigChange, ConfigError, ConfigView};
use temps_host::plugin::PluginState;
use temps_testkit::Behaviour;

use crate::rig::{Rig, trail, until, until_state};

const SECRET: &str = "hunter2-is-no-password";

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "webhook_url": {"type": "string", "minLength": 5, "writeOnly": true},
            "channel": {"type": "string", "pattern": "^#", "default": "#ops"},
        },
        "required": ["webhook_url"],
        "additionalProperties": false,
    })
}

fn asker(schema: Value) -> Behaviour {
    Behaviour::honest("asker").manifest_field("config", schema)
}

async fn set(host: &PluginHost, values: Value) -> Result<ConfigView, ConfigError> {
    let set = values.as_object().expect("settings are an object").clone();
    host.configure_plugin("asker", ConfigChange { set, ..ConfigChange::default() }, "ada").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_held_until_what_it_needs_is_set_and_then_starts_by_itself() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&asker(schema()));
    let held = until_state(&host, "asker", PluginState::Held).await;
    let reason = held.reason.clone().unwrap();
    assert!(reason.contains("it needs a setting: webhook_url"), "{reason}");
    assert!(reason.contains("temps plugin config set asker webhook_url"), "{reason}");
    assert_eq!(held.starts, 0, "it never ran");
    assert!(held.allowed_actions.contains(&"configure"));
    let error = host.start_plugin("asker", "ada").await.unwrap_err().to_string();
    assert!(error.contains("webhook_url"), "{error}");

    for (wrong, says) in [
        (json!({"webhook_url": 7}), "webhook_url: "),
        (json!({"channel": "ops"}), "channel: \"ops\""),
        (json!({"webhook": "x"}), "there is no such setting"),
    ] {
        let error = set(&host, wrong).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let view = set(&host, json!({"webhook_url": SECRET})).await.unwrap();
    assert_eq!((view.revision, view.problems.len()), (1, 0));
    let running = until_state(&host, "asker", PluginState::Running).await;
    assert_eq!((running.crashes, running.reason.as_deref()), (0, None));
    let shown = format!("{view:?} {:?}", host.plugin_config("asker").await.unwrap());
    assert!(shown.contains("#ops") && !shown.contains(SECRET), "{shown}");
    assert!(trail(&host, "asker").await.contains(&"config.changed".to_owned()));
    host.shutdown().await;

    let host = rig.host().await;
    until_state(&host, "asker", PluginState::Running).await;
    host.shutdown().await;
    let key = rig.config.state_dir.join("config.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let host = rig.host().await;
    let held = until_state(&host, "asker", PluginState::Held).await;
    let reason = held.reason.clone().unwrap();
    assert!(reason.contains("config.key is missing") && reason.contains("backup"), "{reason}");
    host.shutdown().await;
    std::fs::write(&key, kept).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let host = rig.host().await;
    until_state(&host, "asker", PluginState::Running).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_plugin_needs_is_unset_only_by_force_and_then_it_is_held() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&asker(schema()));
    until_state(&host, "asker", PluginState::Held).await;
    set(&host, json!({"webhook_url": SECRET})).await.unwrap();
    until_state(&host, "asker", PluginState::Running).await;
    let refused = set(&host, json!({"webhook_url": null})).await.unwrap_err();
    assert!(
        matches!(&refused, ConfigError::Needed { settings, .. } if settings == &["webhook_url"]),
        "{refused}"
    );
    let stale = ConfigChange { expected: Some(0), ..ConfigChange::default() };
    let conflict = host.configure_plugin("asker", stale, "ada").await.unwrap_err();
    assert!(matches!(conflict, ConfigError::Conflict { current: 1 }), "{conflict}");
    let replace = ConfigChange {
        replace: true,
        set: json!({"channel": "#a"}).as_object().unwrap().clone(),
        ..ConfigChange::default()
    };
    host.configure_plugin("asker", replace, "ada").await.unwrap();
    assert_eq!(host.plugin("asker").unwrap().state, PluginState::Running, "a secret that is not named stays");

    let set_null = json!({"webhook_url": null}).as_object().unwrap().clone();
    let force = ConfigChange { set: set_null, force: true, ..ConfigChange::default() };
    host.configure_plugin("asker", force, "ada").await.unwrap();
    let held = until(&host, "asker", |s| s.state == PluginState::Held && s.pid.is_none()).await;
    assert_eq!(held.crashes, 0);
    set(&host, json!({"webhook_url": "another"})).await.unwrap();
    until_state(&host, "asker", PluginState::Running).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_needs_a_new_setting_waits_while_the_old_one_runs_on() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&asker(schema()));
    until_state(&host, "asker", PluginState::Held).await;
    set(&host, json!({"webhook_url": SECRET})).await.unwrap();
    let old = until_state(&host, "asker", PluginState::Running).await;
    let mut wider = schema();
    wider["properties"]["region"] = json!({"type": "string"});
    wider["properties"]["team"] = json!({"type": "string"});
    wider["required"] = json!(["webhook_url", "region", "team"]);
    rig.put(&asker(wider).manifest_field("version", "2.0.0"));
    let waiting = until(&host, "asker", |s| s.reason.is_some()).await;
    assert_eq!((waiting.state, waiting.pid), (PluginState::Running, old.pid));
    let reason = waiting.reason.clone().unwrap();
    assert!(reason.contains("version 2.0.0") && reason.contains("region, team"), "{reason}");
    let view = set(&host, json!({"region": "eu"})).await.unwrap();
    assert_eq!(view.problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), ["team"]);
    assert_eq!(host.plugin("asker").unwrap().pid, old.pid, "one of two is not enough");
    set(&host, json!({"team": "web"})).await.unwrap();
    let new = until(&host, "asker", |s| s.state == PluginState::Running && s.hash != old.hash).await;
    assert_eq!((new.reason.as_deref(), new.crashes), (None, 0));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_cannot_be_used_refuses_the_plugin_and_says_why() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&asker(json!({"type": "object", "properties": {"a": {"$ref": "https://example.com/x"}}})));
    let refused = until_state(&host, "asker", PluginState::Refused).await;
    assert!(refused.reason.as_ref().unwrap().contains("nothing else is fetched"), "{refused:?}");
    host.shutdown().await;
}
