//! Every failure is a problem with its status, its code and what to do.

use reqwest::Method;
use serde_json::json;

use crate::rig::{Rig, problem};

#[tokio::test]
async fn whatever_is_wrong_with_a_request_is_said_as_a_problem() {
    let rig = Rig::start().await;
    let send = |method: Method, path: &str| rig.request(method, path).send();
    problem(send(Method::GET, "/api/nothing").await.unwrap(), 404, "not_found").await;
    problem(send(Method::GET, "/nothing").await.unwrap(), 404, "not_found").await;
    problem(send(Method::PUT, "/api/projects").await.unwrap(), 405, "method_not_allowed").await;
    problem(send(Method::GET, "/api/projects/nobody").await.unwrap(), 404, "not_found").await;
    problem(send(Method::GET, "/api/deployments/7").await.unwrap(), 404, "not_found").await;
    problem(send(Method::GET, "/api/deployments/seven").await.unwrap(), 404, "not_found").await;
    problem(send(Method::GET, "/api/plugins/nobody").await.unwrap(), 404, "not_found").await;
    problem(send(Method::POST, "/api/plugins/nobody/restart").await.unwrap(), 404, "not_found").await;
    problem(send(Method::GET, "/api/events/nothing").await.unwrap(), 404, "not_found").await;
    problem(send(Method::GET, "/api/projects?limit=0").await.unwrap(), 400, "invalid_query").await;
    problem(send(Method::GET, "/api/projects?limit=x").await.unwrap(), 400, "invalid_query").await;
    problem(send(Method::GET, "/api/projects?cursor=x").await.unwrap(), 400, "invalid_cursor").await;
    problem(send(Method::GET, "/api/deployments?sate=ready").await.unwrap(), 400, "invalid_query").await;
    problem(send(Method::GET, "/api/events?type=Deployment").await.unwrap(), 422, "invalid").await;
    rig.stop().await;
}

#[tokio::test]
async fn bodies_are_checked_and_bounded() {
    let rig = Rig::start().await;
    let post = |body: String, kind: &'static str| {
        rig.request(Method::POST, "/api/projects").header("content-type", kind).body(body).send()
    };
    let json = "application/json";
    problem(post("{".into(), json).await.unwrap(), 400, "invalid_json").await;
    problem(post("{}".into(), json).await.unwrap(), 422, "invalid_body").await;
    problem(post(r#"{"name":"a","colour":"red"}"#.into(), json).await.unwrap(), 422, "invalid_body").await;
    problem(post(r#"{"name":"a"}"#.into(), "text/plain").await.unwrap(), 415, "not_json").await;
    problem(post(r#"{"name":""}"#.into(), json).await.unwrap(), 422, "invalid").await;
    problem(post(r#"{"name":"a","slug":"42"}"#.into(), json).await.unwrap(), 422, "invalid").await;
    let large = json!({ "name": "a".repeat(1024 * 1024) }).to_string();
    problem(post(large, json).await.unwrap(), 413, "body_too_large").await;
    assert_eq!(rig.get("/api/projects").await["items"], json!([]));
    rig.stop().await;
}

#[tokio::test]
async fn an_event_that_breaks_a_rule_is_refused_in_words() {
    let rig = Rig::start().await;
    for body in [
        json!({ "event_type": "Deployment" }),
        json!({ "event_type": "a.b", "data": [1] }),
        json!({ "event_type": "a.b", "id": "" }),
        json!({ "event_type": "a.b", "data": { "x": "x".repeat(300 * 1024) } }),
    ] {
        let answer = rig.request(Method::POST, "/api/events").json(&body).send().await.unwrap();
        problem(answer, 422, "invalid").await;
    }
    assert!(rig.event_types().await.is_empty());
    rig.stop().await;
}
