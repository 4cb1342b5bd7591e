//! Who may call what.

use chrono::{TimeDelta, Utc};
use reqwest::Method;
use serde_json::json;

use crate::rig::{Rig, problem, success};

/// Every route that the OpenAPI document describes, with something in place of its variables that does not exist.
fn routes() -> Vec<(Method, String)> {
    let document = serde_json::to_value(temps_server::openapi_document()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete"] {
            if item.get(method).is_some() {
                let path =
                    path.replace("{id}", "999999").replace("{name}", "nobody").replace("{project}", "nobody");
                routes.push((method.to_uppercase().parse().unwrap(), path));
            }
        }
    }
    assert!(routes.len() > 35, "the matrix has all routes: {}", routes.len());
    routes
}

#[tokio::test]
async fn nobody_gets_past_a_route_that_is_not_open() {
    let rig = Rig::start().await;
    for (method, path) in routes() {
        let answer = rig.anonymous(method.clone(), &path).send().await.unwrap();
        if matches!(path.as_str(), "/healthz" | "/readyz") {
            assert_eq!(answer.status(), 200, "{path}");
            continue;
        }
        assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{method} {path}");
        problem(answer, 401, "unauthenticated").await;
    }
    for path in ["/api/openapi.json", "/api/unknown", "/unknown", "/api/x/hello/settings"] {
        assert_eq!(rig.anonymous(Method::GET, path).send().await.unwrap().status(), 401, "{path}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_viewer_looks_and_does_nothing_else() {
    let rig = Rig::start().await;
    let secret = rig.token("looker", "viewer").await;
    for (method, path) in routes() {
        let answer = rig.anonymous(method.clone(), &path).bearer_auth(&secret).send().await.unwrap();
        let for_admins =
            ["/api/tokens", "/api/audit", "/api/login-links"].iter().any(|own| path.starts_with(own))
                || path.ends_with("/logs")
                || path.ends_with("/traffic")
                || path.contains("/storage");
        if path == "/api/session" || (method == Method::GET && !for_admins) {
            assert!(!matches!(answer.status().as_u16(), 401 | 403), "{method} {path}: {}", answer.status());
        } else {
            problem(answer, 403, "forbidden").await;
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn an_admin_is_refused_nowhere() {
    let rig = Rig::start().await;
    for (method, path) in routes() {
        let answer = rig.request(method.clone(), &path).send().await.unwrap();
        assert!(!matches!(answer.status().as_u16(), 401 | 403 | 405), "{method} {path}: {}", answer.status());
        assert!(answer.status().as_u16() < 500, "{method} {path}: {}", answer.status());
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_token_is_shown_once_and_good_until_it_is_revoked() {
    let rig = Rig::start().await;
    let made = rig.post("/api/tokens", &json!({ "name": "ci", "role": "viewer" })).await.1;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("tmp_") && secret.len() > 40);
    let listed = rig.get("/api/tokens").await;
    assert!(!listed.to_string().contains(secret), "no list shows it again");
    let look = || rig.anonymous(Method::GET, "/api/session").bearer_auth(secret).send();
    assert_eq!(success(look().await.unwrap()).await.1["role"], "viewer");
    let used = rig.get("/api/tokens").await["items"].as_array().unwrap().clone();
    assert!(used.iter().any(|token| token["name"] == "ci" && token["last_used_at"].is_string()));
    let again = json!({ "name": "ci", "role": "admin" });
    problem(rig.request(Method::POST, "/api/tokens").json(&again).send().await.unwrap(), 409, "name_taken")
        .await;
    let path = format!("/api/tokens/{}", made["token"]["id"]);
    assert_eq!(rig.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    problem(look().await.unwrap(), 401, "unauthenticated").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_token_ends_when_its_time_is_over() {
    let rig = Rig::start().await;
    let past = json!({ "name": "old", "role": "viewer", "expires_at": Utc::now() - TimeDelta::minutes(1) });
    problem(rig.request(Method::POST, "/api/tokens").json(&past).send().await.unwrap(), 422, "invalid").await;
    let soon =
        json!({ "name": "soon", "role": "viewer", "expires_at": Utc::now() + TimeDelta::milliseconds(1500) });
    let made = rig.post("/api/tokens", &soon).await.1;
    let secret = made["secret"].as_str().unwrap();
    let waiting = async {
        loop {
            let answer = rig.anonymous(Method::GET, "/api/session").bearer_auth(secret).send().await.unwrap();
            if answer.status() == 401 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::rig::PATIENCE, waiting).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn the_secrets_of_tokens_stand_in_no_file_but_the_admins_own() {
    let rig = Rig::start().await;
    let secret = rig.token("ci", "admin").await;
    let admin = rig.admin.clone();
    let home = rig.stop().await;
    for entry in std::fs::read_dir(home.path().join("state")).unwrap().flatten() {
        if !entry.path().is_file() {
            continue;
        }
        let content = std::fs::read(entry.path()).unwrap();
        let holds = |secret: &str| content.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!holds(&secret), "{:?}", entry.path());
        assert_eq!(holds(&admin), entry.file_name() == "admin-token", "{:?}", entry.path());
    }
}
