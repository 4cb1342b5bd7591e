//! What is asked for, given, held and taken in.

use super::*;
use proptest::prelude::*;
use temps_protocol::{Permissions, Resources};

fn manifest() -> temps_protocol::PluginManifestBuilder {
    PluginManifest::builder("hello", "1.0.0")
}

fn granted(wishes: &[Wish]) -> Vec<GrantRecord> {
    wishes
        .iter()
        .map(|wish| GrantRecord {
            plugin: "hello".into(),
            kind: wish.kind.into(),
            value: wish.value.clone(),
            granted_by: "default".into(),
            granted_at: chrono::Utc::now(),
        })
        .collect()
}

fn texts(wishes: &[Wish]) -> Vec<String> {
    wishes.iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_plugin_and_slack_notifier_run_at_once() {
    let slack = manifest()
        .event("deployment.succeeded")
        .egress("hooks.slack.com")
        .permissions(Permissions { methods: vec!["get_project".into()], projects: None })
        .build();
    for asks in [manifest().event("deployment.*").build(), slack.clone()] {
        let verdict = judge(&asks, None, &[], GrantsDefault::Allow);
        assert_eq!(verdict.missing, [], "{asks:?}");
    }
    let given = judge(&slack, None, &[], GrantsDefault::Allow).by_default;
    assert_eq!(
        texts(&given),
        ["egress hooks.slack.com:443", "event deployment.succeeded", "method get_project", "project *"]
    );
    let grants = Grants::from_records(&granted(&given));
    assert!(grants.allows_method(Method::GetProject) && !grants.allows_method(Method::ListProjects));
    assert!(grants.allows_event("deployment.succeeded") && !grants.allows_event("deployment.failed"));
    assert!(grants.allows_project(42) && !grants.allows_public_path("/"));
}

#[test]
fn nothing_is_given_when_the_policy_is_to_hold() {
    let verdict = judge(&manifest().event("a.b").build(), None, &[], GrantsDefault::Hold);
    assert_eq!(verdict.by_default, []);
    assert!(texts(&verdict.missing).contains(&"event a.b".to_owned()));
}

#[test]
fn a_database_is_a_file_by_default_and_a_revoked_one_is_waited_for() {
    let asks = manifest().requires_db(true).permissions(Permissions::default()).egress("x.example").build();
    let given = judge(&asks, None, &[], GrantsDefault::Allow).by_default;
    assert!(texts(&given).contains(&"database own".to_owned()), "{given:?}");
    let rest: Vec<Wish> = given.into_iter().filter(|wish| wish.kind != "database").collect();
    let verdict = judge(&asks, Some(&asks), &granted(&rest), GrantsDefault::Allow);
    assert_eq!(texts(&verdict.missing), ["database own"]);
    assert_eq!(Grants::from_records(&granted(&rest)).database, None);
    let server = [rest, vec![Wish::parse("database", "postgres").unwrap()]].concat();
    assert_eq!(judge(&asks, Some(&asks), &granted(&server), GrantsDefault::Allow), Verdict::default());
    let both = [server, vec![Wish::parse("database", "own").unwrap()]].concat();
    assert_eq!(Grants::from_records(&granted(&both)).database, Some(Engine::Postgres));
}

#[test]
fn what_goes_beyond_the_default_waits_for_an_operator() {
    let asks = manifest()
        .egress("db.example.com:5432")
        .public_path("/hook")
        .requires_db(true)
        .resources(Resources {
            memory_max: Some("512M".into()),
            cpu_quota: Some("25%".into()),
            ..Default::default()
        })
        .build();
    let verdict = judge(&asks, None, &[], GrantsDefault::Allow);
    assert_eq!(
        texts(&verdict.missing),
        ["egress db.example.com:5432", "limit memory_max=512M", "public_path /hook"]
    );
    let all = granted(&verdict.missing);
    assert_eq!(judge(&asks, None, &all, GrantsDefault::Allow).missing, []);
}

#[test]
fn a_new_version_gets_nothing_new_by_default_and_nothing_back_that_was_revoked() {
    let old = manifest().event("deployment.succeeded").egress("a.example.com").build();
    let mut grants = granted(&judge(&old, None, &[], GrantsDefault::Allow).by_default);
    grants.retain(|grant| grant.value != "get_project");
    assert_eq!(judge(&old, Some(&old), &grants, GrantsDefault::Allow), Verdict::default());
    assert_eq!(texts(&ungranted(&old, &grants)), ["method get_project"]);

    let new = manifest().event("deployment.*").egress("a.example.com").egress("b.example.com").build();
    let verdict = judge(&new, Some(&old), &grants, GrantsDefault::Allow);
    assert_eq!(verdict.by_default, []);
    assert_eq!(texts(&verdict.missing), ["egress b.example.com:443", "event deployment.*"]);
}

#[test]
fn a_wide_grant_takes_in_a_narrow_wish_and_never_the_other_way_round() {
    for (kind, wide, narrow) in [
        ("event", "*", "deployment.*"),
        ("event", "deployment.*", "deployment.ready"),
        ("project", "*", "7"),
        ("egress", "*:443", "hooks.slack.com"),
        ("egress", "*.example.com", "api.example.com"),
        ("public_path", "/hooks", "/hooks/github"),
        ("limit", "memory_max=1G", "memory_max=512M"),
    ] {
        let wish = |value: &str| Wish::parse(kind, value).unwrap();
        let (wide, narrow) = (wish(wide), wish(narrow));
        assert!(narrow.is_covered_by(wide.kind, &wide.value), "{wide} should cover {narrow}");
        assert!(!wide.is_covered_by(narrow.kind, &narrow.value), "{narrow} should not cover {wide}");
    }
    let wish = Wish::parse("egress", "evilexample.com").unwrap();
    assert!(!wish.is_covered_by("egress", "*.example.com:443"));
}

#[test]
fn a_grant_that_makes_no_sense_is_refused_in_words() {
    for (kind, value) in [
        ("root", "x"),
        ("method", "drop_database"),
        ("event", "deployment"),
        ("project", "seven"),
        ("egress", "127.0.0.1"),
        ("public_path", "hook"),
        ("limit", "memory_max=much"),
    ] {
        assert!(Wish::parse(kind, value).is_err(), "{kind} {value}");
    }
}

#[test]
fn sizes_are_read_with_their_units() {
    assert_eq!(bytes("256M"), Some(256 << 20));
    assert_eq!(bytes("1GiB"), Some(1 << 30));
    assert_eq!(bytes("4096"), Some(4096));
    assert_eq!(bytes("12Q"), None);
    assert_eq!(bytes("99999999999999G"), None);
}

proptest! {
    #[test]
    fn a_grant_always_takes_in_the_wish_that_it_was_made_for(
        events in prop::collection::vec("[a-z]{1,5}\\.([a-z]{1,5}|\\*)", 0..5),
        paths in prop::collection::vec("/[a-z]{1,5}", 0..3),
        ids in prop::option::of(prop::collection::vec(0i32..9, 0..3)),
    ) {
        let mut asks = manifest().permissions(Permissions { methods: Vec::new(), projects: ids }).build();
        asks.events = events;
        asks.public_paths = paths;
        let everything = granted(&wishes(&asks));
        prop_assert_eq!(ungranted(&asks, &everything), []);
        prop_assert_eq!(judge(&asks, None, &everything, GrantsDefault::Hold), Verdict::default());
    }
}
