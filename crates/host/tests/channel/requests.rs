//! Requests: what is answered, what is refused, and with which words.

use std::sync::Arc;

use serde_json::{Value, json};
use temps_host::protocol::data::Method;
use tokio::sync::Semaphore;

use crate::rig::{Mood, Rig};

#[tokio::test]
async fn every_method_gives_what_the_platform_has() {
    let rig = Rig::new(Mood::Honest);
    let (_channel, mut plugin) = rig.open().await;
    for (method, params, pointer, wanted) in [
        ("get_project", json!({"project_id": 1}), "/id", json!(1)),
        ("list_projects", json!({}), "/1/id", json!(2)),
        ("list_projects", Value::Null, "/0/id", json!(1)),
        ("list_projects", json!({"limit": 1}), "/1/id", Value::Null),
        ("get_environment", json!({"environment_id": 20}), "/project_id", json!(2)),
        ("list_environments", json!({"project_id": 1}), "/0/id", json!(10)),
        ("get_deployment", json!({"deployment_id": 150}), "/state", json!("succeeded")),
        ("get_last_deployment", json!({"project_id": 2}), "/id", json!(200)),
        ("get_last_deployment", json!({"project_id": 2, "environment_id": null}), "/id", json!(200)),
        ("get_last_deployment", json!({"project_id": 2, "environment_id": 10}), "/code", json!("not_found")),
        ("get_project", json!({"project_id": 3}), "/code", json!("not_found")),
    ] {
        let answer = plugin.ask(method, params).await;
        assert_eq!(answer.pointer(pointer).unwrap_or(&Value::Null), &wanted, "{method}: {answer}");
    }
    assert_eq!(rig.metric("temps_channel_calls_total{plugin=\"tried\",kind=\"ok\"}"), 9);
    assert_eq!(rig.metric("temps_channel_calls_total{plugin=\"tried\",kind=\"not_found\"}"), 2);
}

#[tokio::test]
async fn deployments_are_twenty_by_default_and_a_hundred_at_most() {
    let rig = Rig::new(Mood::Honest);
    let (_channel, mut plugin) = rig.open().await;
    for (limit, wanted) in
        [(Value::Null, 20), (json!(3), 3), (json!(100), 100), (json!(4_000_000_000_000u64), 100)]
    {
        let answer = plugin.ask("list_deployments", json!({"project_id": 1, "limit": limit})).await;
        assert_eq!(answer.as_array().unwrap().len(), wanted, "{limit}");
    }
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let rig = Rig::new(Mood::Honest);
    let (_channel, mut plugin) = rig.open().await;
    for (method, params, words) in [
        ("get_project", json!({}), "\"project_id\" is missing"),
        (
            "get_project",
            json!({"project_id": "1"}),
            "\"project_id\" must be an integer of 32 bits, found \"1\"",
        ),
        ("get_project", json!({"project_id": 4_000_000_000u32}), "32 bits, found 4000000000"),
        ("get_deployment", json!({"deployment_id": 1.5}), "found 1.5"),
        (
            "list_deployments",
            json!({"project_id": 1, "limit": 0}),
            "\"limit\" must be an integer of at least 1",
        ),
        ("list_deployments", json!({"project_id": 1, "limit": -1}), "found -1"),
        ("list_deployments", json!({"project_id": 1, "environment_id": []}), "\"environment_id\""),
    ] {
        let answer = plugin.ask(method, params).await;
        assert_eq!(answer["code"], "invalid_params", "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{answer}");
    }
    let answer = plugin.ask("drop_database", json!({})).await;
    assert_eq!(answer["code"], "method_not_found");
    assert!(answer["message"].as_str().unwrap().contains("get_project"), "{answer}");
}

#[tokio::test]
async fn ids_come_back_as_they_were_and_a_request_without_a_type_is_one() {
    let rig = Rig::new(Mood::Honest);
    let (_channel, mut plugin) = rig.open().await;
    for id in [json!("5f0c-uuid"), json!(18_446_744_073_709_551_615u64), json!([1, {"a": null}]), json!(-1)] {
        plugin.send(json!({"id": id, "method": "get_project", "params": {"project_id": 1}})).await;
        let answer = plugin.frame().await;
        assert_eq!((&answer["id"], &answer["result"]["id"]), (&id, &json!(1)));
    }
    // Something is wrong with these, and somebody waits for an answer.
    for (frame, id) in [
        (r#"{"type":"call","id":"a","method":"get_project"}"#, json!("a")),
        (r#"{"type":"request","method":"get_project"}"#, Value::Null),
    ] {
        plugin.send(frame).await;
        let answer = plugin.frame().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!("invalid_params")));
    }
}

#[tokio::test]
async fn a_method_that_is_not_granted_is_refused_and_audited() {
    let rig = Rig::new(Mood::Honest);
    rig.grant(|grants| grants.methods = vec![Method::GetProject]);
    let (channel, mut plugin) = rig.open().await;
    assert_eq!(plugin.code("get_project", json!({"project_id": 1})).await, "no error");
    for _ in 0..50 {
        assert_eq!(plugin.code("list_projects", json!({})).await, "permission_denied");
    }
    // The first is told at once, the others once a minute, or when the channel ends.
    let audited = rig.audited().await;
    assert_eq!(audited.len(), 1, "{audited:?}");
    assert_eq!((audited[0].kind.as_str(), audited[0].actor.as_str()), ("plugin.call_denied", "plugin:tried"));
    assert_eq!(audited[0].detail, json!({"method": "list_projects", "project_id": null, "count": 1}));
    drop(plugin);
    channel.closed.cancelled().await;
    assert_eq!(rig.audited().await[1].detail["count"], 49);
}

#[tokio::test]
async fn failed_calls_are_recorded_by_method_and_code_and_a_flood_of_them_is_a_few_records() {
    let rig = Rig::new(Mood::Fails);
    let (channel, mut plugin) = rig.open().await;
    for round in 0..50 {
        assert_eq!(plugin.code(&format!("secret-{round}"), json!({})).await, "method_not_found");
        assert_eq!(plugin.code("get_project", json!({"project_id": "hunter2"})).await, "invalid_params");
        assert_eq!(plugin.code("get_project", json!({"project_id": 1})).await, "internal");
    }
    drop(plugin);
    channel.closed.cancelled().await;
    let audited = rig.audited().await;
    assert_eq!(audited.len(), 6, "the first of each kind, and the rest of each: {audited:?}");
    for (method, code) in [
        (json!(null), "method_not_found"),
        (json!("get_project"), "invalid_params"),
        (json!("get_project"), "internal"),
    ] {
        let counts: Vec<_> = audited
            .iter()
            .filter(|record| record.detail["code"] == code && record.detail["method"] == method)
            .map(|record| record.detail["count"].as_u64().unwrap())
            .collect();
        assert_eq!(counts, [1, 49], "{code}");
    }
    assert!(
        audited.iter().all(|record| record.kind == "plugin.call_failed" && record.actor == "plugin:tried")
    );
    let told = format!("{audited:?}");
    assert!(
        !told.contains("hunter2") && !told.contains("secret-"),
        "what the plugin sent is not recorded: {told}"
    );
}

#[tokio::test]
async fn that_something_does_not_exist_is_an_answer_and_no_failure() {
    let rig = Rig::new(Mood::Honest);
    let (_channel, mut plugin) = rig.open().await;
    assert_eq!(plugin.code("get_project", json!({"project_id": 77})).await, "not_found");
    assert_eq!(rig.audited().await, []);
}

#[tokio::test]
async fn projects_that_are_not_granted_look_as_if_they_were_not_there() {
    let rig = Rig::new(Mood::Honest);
    rig.grant(|grants| grants.projects = Some(vec![1]));
    let (_channel, mut plugin) = rig.open().await;
    for (method, name, hidden, missing, granted) in [
        ("get_project", "project_id", 2, 3, 1),
        ("get_environment", "environment_id", 20, 30, 10),
        ("get_deployment", "deployment_id", 200, 300, 100),
    ] {
        let hidden_answer = plugin.ask(method, json!({name: hidden})).await;
        let missing_answer = plugin.ask(method, json!({name: missing})).await;
        assert_eq!(hidden_answer["code"], "not_found", "{method}");
        let same = hidden_answer.to_string().replace(&hidden.to_string(), &missing.to_string());
        assert_eq!(same, missing_answer.to_string(), "the answers tell which of the two is there");
        assert_eq!(plugin.code(method, json!({name: granted})).await, "no error");
    }
    for method in ["list_environments", "list_deployments", "get_last_deployment"] {
        assert_eq!(plugin.code(method, json!({"project_id": 2})).await, "not_found", "{method}");
        assert_eq!(plugin.code(method, json!({"project_id": 1})).await, "no error", "{method}");
    }
    let listed = plugin.ask("list_projects", json!({"limit": 5})).await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["id"], 1);
    let audited = rig.audited().await;
    let denied = json!({"method": "get_environment", "project_id": 2, "count": 1});
    assert!(audited.iter().any(|record| record.detail == denied), "{audited:?}");
}

#[tokio::test]
async fn a_revocation_works_at_once_even_for_a_request_in_flight() {
    let permits = Arc::new(Semaphore::new(0));
    let rig = Rig::new(Mood::Waits(Arc::clone(&permits)));
    let (_channel, mut plugin) = rig.open().await;
    plugin
        .send(json!({"type": "request", "id": 1, "method": "get_project", "params": {"project_id": 1}}))
        .await;
    // The second request is refused by the new grants, so the first was taken under the old ones.
    plugin.send(json!({"type": "request", "id": 2, "method": "nothing"})).await;
    assert_eq!(plugin.frame().await["id"], 2);
    rig.grant(|grants| grants.projects = Some(Vec::new()));
    permits.add_permits(1);
    let answer = plugin.frame().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!("not_found")));
    rig.grant(|grants| grants.methods.clear());
    assert_eq!(plugin.code("get_project", json!({"project_id": 1})).await, "permission_denied");
}

#[tokio::test]
async fn what_went_wrong_in_the_platform_stays_there() {
    for mood in [Mood::Fails, Mood::Panics] {
        let rig = Rig::new(mood);
        let (_channel, mut plugin) = rig.open().await;
        for _ in 0..2 {
            let answer = plugin.ask("get_project", json!({"project_id": 1})).await;
            assert_eq!(answer["code"], "internal");
            assert!(
                !answer.to_string().contains("hunter2") && !answer.to_string().contains("panic"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn thirty_two_requests_are_worked_on_and_the_others_are_told_to_wait() {
    let permits = Arc::new(Semaphore::new(0));
    let rig = Rig::new(Mood::Waits(Arc::clone(&permits)));
    let (_channel, mut plugin) = rig.open().await;
    for id in 0..40 {
        plugin
            .send(json!({"type": "request", "id": id, "method": "get_project", "params": {"project_id": 1}}))
            .await;
    }
    for id in 32..40 {
        let answer = plugin.frame().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!("busy")));
    }
    permits.add_permits(32);
    let mut answered = Vec::new();
    for _ in 0..32 {
        let answer = plugin.frame().await;
        assert_eq!(answer["result"]["id"], 1);
        answered.push(answer["id"].as_i64().unwrap());
    }
    answered.sort_unstable();
    assert_eq!(answered, (0..32).collect::<Vec<_>>());
    assert_eq!(rig.metric("temps_channel_calls_total{plugin=\"tried\",kind=\"busy\"}"), 8);
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_does_not_answer_in_time_is_given_up() {
    let rig = Rig::new(Mood::Waits(Arc::new(Semaphore::new(0))));
    let (_channel, mut plugin) = rig.open().await;
    assert_eq!(plugin.code("get_project", json!({"project_id": 1})).await, "timeout");
}

#[tokio::test]
async fn an_answer_that_fits_no_frame_is_an_error_and_not_a_frame() {
    let rig = Rig::new(Mood::Wordy(600_000));
    let (_channel, mut plugin) = rig.open().await;
    let answer = plugin.ask("list_projects", json!({})).await;
    assert_eq!(answer["code"], "internal");
    assert!(answer["message"].as_str().unwrap().contains("ask for less"), "{answer}");
    assert_eq!(plugin.ask("list_projects", json!({"limit": 1})).await.as_array().unwrap().len(), 1);
    // Nor is one whose id fills the frame.
    let id = "x".repeat(1_000_000);
    plugin
        .send(json!({"type": "request", "id": id, "method": "list_projects", "params": {"limit": 1}}))
        .await;
    let answer = plugin.frame().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!("internal")));
}
