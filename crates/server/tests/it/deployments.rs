//! Deployments: reported, repeated, moved on, listed; and what plugins are told.

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::{Rig, problem};

#[tokio::test]
async fn the_first_report_makes_what_is_missing_and_tells_all_of_it() {
    let rig = Rig::start().await;
    let body = json!({
        "project": "shop", "environment": "staging", "commit_sha": "a1b2c3d", "branch": "main",
        "message": "Fix the basket\n\nIt lost things.", "author": "Ada",
    });
    let (status, made) = rig.post("/api/deployments", &body).await;
    assert_eq!(status, 201);
    assert_eq!(made["state"], "pending");
    assert_eq!(made["commit_message"], "Fix the basket");
    assert_eq!(rig.event_types().await, ["project.created", "environment.created", "deployment.created"]);
    let events = rig.get("/api/events?after=0").await["items"].clone();
    let (project, environment) = (&made["project_id"], &made["environment_id"]);
    assert_eq!(events[0]["data"], json!({ "project_id": project, "project_name": "shop" }));
    assert_eq!(
        events[1]["data"],
        json!({ "project_id": project, "environment_id": environment, "environment_name": "staging" })
    );
    assert_eq!(
        events[2]["data"],
        json!({
            "deployment_id": made["id"], "project_id": project, "environment_id": environment,
            "environment_name": "staging", "commit_sha": "a1b2c3d", "branch": "main",
        })
    );
    assert_eq!(events[2]["project_id"], *project);
    rig.stop().await;
}

#[tokio::test]
async fn each_station_of_a_life_tells_its_event_with_its_payload() {
    let rig = Rig::start().await;
    let made =
        rig.report(&json!({ "project": "shop", "url": "http://127.0.0.1:1/", "commit_sha": "abc" })).await;
    let path = format!("/api/deployments/{}", made["id"]);
    for state in ["building", "deploying", "ready", "succeeded"] {
        let moved = patch(&rig, &path, &json!({ "state": state })).await;
        assert_eq!(moved["state"], state);
    }
    let events = rig.get("/api/events?after=0&type=deployment.*").await["items"].clone();
    let types: Vec<_> = events.as_array().unwrap().iter().map(|event| event["event_type"].clone()).collect();
    assert_eq!(types, ["deployment.created", "deployment.ready", "deployment.succeeded"]);
    let ids = |more: Value| {
        let mut data = json!({
            "deployment_id": made["id"], "project_id": made["project_id"],
            "environment_id": made["environment_id"], "environment_name": "production",
        });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    assert_eq!(events[1]["data"], ids(json!({ "url": "http://127.0.0.1:1/" })));
    assert_eq!(events[2]["data"], ids(json!({ "url": "http://127.0.0.1:1/", "commit_sha": "abc" })));
    let done = rig.get(&path).await;
    for time in ["started_at", "ready_at", "finished_at"] {
        assert!(done[time].is_string(), "{time}");
    }
    let environment = rig.get(&format!("/api/environments/{}", made["environment_id"])).await;
    assert_eq!(environment["current_deployment_id"], made["id"], "it serves there now");
    rig.stop().await;
}

#[tokio::test]
async fn an_end_before_the_goal_tells_why() {
    let rig = Rig::start().await;
    let failed =
        rig.report(&json!({ "project": "shop", "state": "failed", "error_message": "no space" })).await;
    let cancelled = rig.report(&json!({ "project": "shop" })).await;
    patch(&rig, &format!("/api/deployments/{}", cancelled["id"]), &json!({ "state": "cancelled" })).await;
    let events = rig.get("/api/events?after=0&type=deployment.*").await["items"].clone();
    assert_eq!(events[0]["event_type"], "deployment.created");
    assert_eq!(events[1]["event_type"], "deployment.failed");
    assert_eq!(events[1]["data"]["error_message"], "no space");
    assert_eq!(events[1]["data"]["deployment_id"], failed["id"]);
    assert_eq!(events[3]["event_type"], "deployment.cancelled");
    assert_eq!(events[3]["data"]["environment_name"], "production");
    rig.stop().await;
}

#[tokio::test]
async fn reporting_twice_is_reporting_once() {
    let rig = Rig::start().await;
    let body = json!({ "project": "shop", "external_id": "run-7", "state": "building", "commit_sha": "abc" });
    let (first_status, first) = rig.post("/api/deployments", &body).await;
    let events = rig.event_types().await;
    let (second_status, second) = rig.post("/api/deployments", &body).await;
    assert_eq!((first_status.as_u16(), second_status.as_u16()), (201, 200));
    assert_eq!(first, second);
    assert_eq!(rig.event_types().await, events, "nothing was told again");
    rig.stop().await;
}

#[tokio::test]
async fn many_reports_at_once_make_one_deployment() {
    let rig = Rig::start().await;
    let body = json!({ "project": "shop", "external_id": "run-7", "state": "succeeded" });
    let reports = (0..20).map(|_| rig.request(Method::POST, "/api/deployments").json(&body).send());
    let answers = futures_util::future::join_all(reports).await;
    let made = answers.iter().filter(|answer| answer.as_ref().unwrap().status() == 201).count();
    assert_eq!(made, 1);
    assert_eq!(
        rig.event_types().await,
        ["project.created", "environment.created", "deployment.created", "deployment.succeeded"]
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_later_report_moves_on_and_a_late_one_changes_nothing() {
    let rig = Rig::start().await;
    let report = |state: &str| json!({ "project": "shop", "external_id": "run-7", "state": state });
    rig.report(&report("building")).await;
    let ready = rig.report(&report("ready")).await;
    assert_eq!(ready["state"], "ready");
    let late = rig.report(&report("building")).await;
    assert_eq!(late, ready, "what is past is past");
    let with_url = json!({ "project": "shop", "external_id": "run-7", "url": "http://127.0.0.1:1/" });
    let filled = rig.report(&with_url).await;
    assert_eq!(
        (filled["state"].as_str(), filled["url"].as_str()),
        (Some("ready"), Some("http://127.0.0.1:1/"))
    );
    rig.report(&report("succeeded")).await;
    let contrary =
        rig.request(Method::POST, "/api/deployments").json(&report("failed")).send().await.unwrap();
    problem(contrary, 409, "illegal_transition").await;
    assert_eq!(
        rig.event_types().await[2..],
        ["deployment.created", "deployment.ready", "deployment.succeeded"]
    );
    rig.stop().await;
}

#[tokio::test]
async fn moves_that_are_not_allowed_are_refused_and_told_to_nobody() {
    let rig = Rig::start().await;
    let made = rig.report(&json!({ "project": "shop", "state": "ready" })).await;
    let path = format!("/api/deployments/{}", made["id"]);
    let before = rig.event_types().await;
    for state in ["pending", "building", "deploying"] {
        let answer = rig.request(Method::PATCH, &path).json(&json!({ "state": state })).send().await.unwrap();
        let said = problem(answer, 409, "illegal_transition").await;
        assert!(said["detail"].as_str().unwrap().contains("is ready, it cannot become"), "{said}");
    }
    let same = patch(&rig, &path, &json!({ "state": "ready" })).await;
    assert_eq!(same, made, "where it stands already is no move");
    assert_eq!(rig.event_types().await, before);
    rig.stop().await;
}

#[tokio::test]
async fn a_report_that_cannot_be_leaves_nothing_behind() {
    let rig = Rig::start().await;
    for body in [
        json!({ "project": "Shop!" }),
        json!({ "project": "17" }),
        json!({ "project": "shop", "url": "file:///etc/passwd" }),
        json!({ "project": "shop", "probe": true }),
        json!({ "project": "shop", "probe": true, "url": "http://127.0.0.1:1/", "state": "succeeded" }),
        json!({ "project": "shop", "external_id": "" }),
        json!({ "project": "shop", "state": "done" }),
    ] {
        let answer = rig.request(Method::POST, "/api/deployments").json(&body).send().await.unwrap();
        assert!(matches!(answer.status().as_u16(), 404 | 422), "{body}: {}", answer.status());
    }
    assert_eq!(rig.get("/api/projects").await["items"], json!([]));
    assert!(rig.event_types().await.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn lists_are_given_page_by_page_without_gaps_or_doubles() {
    let rig = Rig::start().await;
    for number in 0..7 {
        let project = if number % 2 == 0 { "shop" } else { "blog" };
        rig.report(&json!({ "project": project, "external_id": format!("run-{number}") })).await;
    }
    for (path, count) in [
        ("/api/deployments?limit=3", 7),
        ("/api/deployments?project=shop&limit=3", 4),
        ("/api/events?limit=2", 11),
        ("/api/events?after=2&limit=2", 9),
        ("/api/projects?limit=1", 2),
        ("/api/environments?limit=1", 2),
    ] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = rig.get(&format!("{path}{cursor}")).await;
            seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].to_string()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let distinct: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), distinct.len()), (count, count), "{path}");
    }
    let ready = rig.get("/api/deployments?state=ready").await;
    assert_eq!(ready["items"], json!([]));
    rig.stop().await;
}

#[tokio::test]
async fn removing_a_project_tells_what_went() {
    let rig = Rig::start().await;
    let made = rig.report(&json!({ "project": "shop" })).await;
    assert_eq!(rig.request(Method::DELETE, "/api/projects/shop").send().await.unwrap().status(), 204);
    // The one that was still on its way is cancelled, and those who follow it learn that.
    let ends = ["deployment.cancelled", "environment.deleted", "project.deleted"];
    assert_eq!(rig.event_types().await[3..], ends);
    let gone = rig.request(Method::GET, &format!("/api/deployments/{}", made["id"])).send().await.unwrap();
    problem(gone, 404, "not_found").await;
    rig.stop().await;
}

async fn patch(rig: &Rig, path: &str, body: &Value) -> Value {
    crate::rig::success(rig.request(Method::PATCH, path).json(body).send().await.unwrap()).await.1
}
