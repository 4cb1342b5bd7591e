//! Requests for hosts that are not ours, and acts that foreign pages began.

use reqwest::Method;
use serde_json::json;

use crate::pages::sign_in;
use crate::rig::{Rig, problem, success};

#[tokio::test]
async fn a_host_that_is_not_ours_is_refused_on_every_kind_of_route() {
    let rig = Rig::start().await;
    for path in ["/", "/login", "/api/version", "/healthz", "/api/x/hello/ui/"] {
        let asked = rig.request(Method::GET, path).header("host", "evil.example").send().await.unwrap();
        problem(asked, 421, "foreign_host").await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn configured_hosts_are_ours() {
    let rig = Rig::start_with(|config| {
        config.public_url = Some("https://temps.example.com".into());
        config.allowed_hosts = vec!["temps.internal".into()];
    })
    .await;
    let version = format!("http://{}/api/version", rig.started.address);
    for host in ["temps.example.com", "temps.internal"] {
        let asked = rig.client.get(&version).bearer_auth(&rig.admin).header("host", host);
        success(asked.send().await.unwrap()).await;
    }
    assert!(rig.started.login_link.url.starts_with("https://temps.example.com/login?code="));
    rig.stop().await;
}

#[tokio::test]
async fn a_cookie_acts_only_for_our_own_pages() {
    let rig = Rig::start().await;
    let cookie = sign_in(&rig, &rig.started.login_link.url).await;
    let body = json!({ "name": "Shop" });
    let create = || rig.anonymous(Method::POST, "/api/projects").header("cookie", &cookie).json(&body);
    problem(create().send().await.unwrap(), 403, "foreign_origin").await;
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        problem(create().header("origin", origin).send().await.unwrap(), 403, "foreign_origin").await;
    }
    assert_eq!(rig.get("/api/projects").await["items"], json!([]), "nothing was made");
    success(create().header("origin", &rig.started.url).send().await.unwrap()).await;
    let upgrade = rig
        .anonymous(Method::GET, "/api/x/hello/socket")
        .header("cookie", &cookie)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("origin", "http://evil.example");
    problem(upgrade.send().await.unwrap(), 403, "foreign_origin").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_page_without_an_origin_reaches_the_proxy_and_nothing_else() {
    let rig = Rig::start().await;
    let send =
        |path: &str| rig.anonymous(Method::POST, path).header("origin", "null").bearer_auth("page").send();
    let proxied = send("/api/x/nobody/items").await.unwrap();
    assert_eq!(proxied.status(), 401, "the proxy answered, and knows no such token");
    problem(send("/api/projects").await.unwrap(), 401, "unauthenticated").await;
    rig.stop().await;
}
