//! Grants: what runs at once, what waits for an operator, and that a revocation works at once and for good.

use temps_host::config::GrantsDefault;
use temps_host::plugin::PluginState;
use temps_testkit::Behaviour;

use crate::rig::{Rig, trail, until, until_state};

fn pair(kind: &str, value: &str) -> (String, String) {
    (kind.to_owned(), value.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_beyond_the_default_is_held_until_an_operator_grants_it() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("asker").manifest_field("public_paths", vec!["/hook"]));
    let held = until_state(&host, "asker", PluginState::Held).await;
    assert!(held.reason.as_ref().unwrap().contains("public_path /hook"), "{held:?}");
    assert!(held.allowed_actions.contains(&"grant"));
    let (given, missing) = host.grants("asker").await.unwrap();
    assert_eq!(given, [], "nothing is given before everything is");
    assert!(missing.contains(&pair("public_path", "/hook")), "{missing:?}");
    host.grant("asker", vec![pair("public_path", "/hook")], "ada").await.unwrap();
    until_state(&host, "asker", PluginState::Running).await;
    let (given, missing) = host.grants("asker").await.unwrap();
    assert_eq!(missing, []);
    let by =
        |kind: &str| given.iter().find(|grant| grant.kind == kind).map(|grant| grant.granted_by.as_str());
    assert_eq!((by("public_path"), by("method")), (Some("ada"), Some("default")));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_that_asks_for_more_waits_while_the_old_one_runs_on() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    let old = until_state(&host, "hello", PluginState::Running).await;
    rig.put(
        &Behaviour::honest("hello")
            .manifest_field("version", "2.0.0")
            .manifest_field("public_paths", vec!["/hook"]),
    );
    let waiting = until(&host, "hello", |s| s.reason.is_some()).await;
    assert_eq!((waiting.state, waiting.pid, &waiting.hash), (PluginState::Running, old.pid, &old.hash));
    assert!(waiting.reason.as_ref().unwrap().contains("version 2.0.0"), "{waiting:?}");
    assert!(waiting.allowed_actions.contains(&"grant"));
    host.grant("hello", Vec::new(), "ada").await.unwrap();
    let new = until(&host, "hello", |s| s.state == PluginState::Running && s.hash != old.hash).await;
    assert_eq!((new.reason.as_deref(), new.crashes), (None, 0));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_works_at_once_and_does_not_come_back_with_the_next_host() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    until_state(&host, "hello", PluginState::Running).await;
    host.revoke("hello", vec![pair("method", "get_project")], "ada").await.unwrap();
    let (_, missing) = host.grants("hello").await.unwrap();
    assert_eq!(missing, [pair("method", "get_project")]);
    assert!(trail(&host, "hello").await.contains(&"grant.revoked".to_owned()));
    assert_eq!(host.plugin("hello").unwrap().state, PluginState::Running);
    host.shutdown().await;
    let host = rig.host().await;
    until_state(&host, "hello", PluginState::Running).await;
    let (_, missing) = host.grants("hello").await.unwrap();
    assert_eq!(missing, [pair("method", "get_project")]);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_policy_to_hold_nothing_is_given_by_itself() {
    let mut rig = Rig::new();
    rig.config.grants_default = GrantsDefault::Hold;
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    until_state(&host, "hello", PluginState::Held).await;
    let error = host.start_plugin("hello", "ada").await.unwrap_err().to_string();
    assert!(error.contains("temps plugin grant hello"), "{error}");
    host.grant("hello", Vec::new(), "ada").await.unwrap();
    until_state(&host, "hello", PluginState::Running).await;
    let error = host.grant("hello", vec![pair("method", "drop_database")], "ada").await.unwrap_err();
    assert!(error.to_string().contains("drop_database"), "{error}");
    host.shutdown().await;
}
