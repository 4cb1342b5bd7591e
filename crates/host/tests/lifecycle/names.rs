//! Names: who holds one, who claims one, and how an operator gives it to another file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use temps_host::plugin::PluginState;
use temps_testkit::Behaviour;

use crate::rig::{Rig, trail, until, until_state};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_file_with_the_name_is_held_until_it_is_adopted() {
    let rig = Rig::new();
    let host = rig.host().await;
    let first = rig.put_as("first", &Behaviour::honest("hello"));
    until_state(&host, "hello", PluginState::Running).await;
    let second = rig.put_as("second", &Behaviour::honest("hello").manifest_field("version", "2.0.0"));
    let held = until_state(&host, "second", PluginState::Held).await;
    assert!(held.reason.as_ref().unwrap().contains("temps plugin adopt hello"), "{held:?}");
    assert_eq!(held.allowed_actions, ["adopt"]);
    assert_eq!(host.plugin("hello").unwrap().file, first);

    let revoked = ("method".to_owned(), "get_project".to_owned());
    host.revoke("hello", vec![revoked.clone()], "ada").await.unwrap();
    host.adopt("hello", Some("second"), "ada").await.unwrap();
    let adopted = until(&host, "hello", |s| s.state == PluginState::Running && s.file == second).await;
    let version = |s: &temps_host::PluginSnapshot| s.manifest.as_ref().map(|m| m.version.clone());
    until(&host, "hello", |s| version(s).as_deref() == Some("2.0.0")).await;
    assert_eq!(adopted.name, "hello");
    until_state(&host, "first", PluginState::Held).await;
    assert!(host.plugin("second").is_none());
    assert!(trail(&host, "hello").await.contains(&"plugin.adopted".to_owned()));

    // The new holder is remembered, and what was revoked stays revoked.
    assert_eq!(host.grants("hello").await.unwrap().1, [revoked]);
    host.shutdown().await;
    let host = rig.host().await;
    let running = until_state(&host, "hello", PluginState::Running).await;
    assert_eq!(running.file, second);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_bears_a_plugins_name_and_is_another_one_hides_nothing() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put_as("one", &Behaviour::honest("two"));
    rig.put_as("two", &Behaviour::honest("one"));
    let one = until_state(&host, "one", PluginState::Running).await;
    let two = until_state(&host, "two", PluginState::Running).await;
    assert!(one.file.ends_with("two") && two.file.ends_with("one"), "{one:?} {two:?}");
    assert_eq!(host.plugins().len(), 2);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_breaks_the_rules_is_refused_with_the_rule() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put_as("bad", &Behaviour::honest("plugins"));
    let refused = until_state(&host, "bad", PluginState::Refused).await;
    assert!(refused.reason.as_ref().unwrap().contains("kept for the host"), "{refused:?}");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_name_is_no_text_is_refused_and_the_next_one_is_taken_up() {
    let rig = Rig::new();
    let host = rig.host().await;
    let file = rig.put_as(".hidden", &Behaviour::honest("odd"));
    let odd = rig.plugins().join(OsStr::from_bytes(b"odd-\xff\xfe"));
    std::fs::rename(file, &odd).unwrap();
    let refused = until_state(&host, &String::from_utf8_lossy(b"odd-\xff\xfe"), PluginState::Refused).await;
    assert!(refused.reason.as_ref().unwrap().contains("is not UTF-8; rename it"), "{refused:?}");
    rig.put(&Behaviour::honest("hello"));
    until_state(&host, "hello", PluginState::Running).await;
    std::fs::rename(&odd, rig.plugins().join("odd")).unwrap();
    until_state(&host, "odd", PluginState::Running).await;
    host.shutdown().await;
}
