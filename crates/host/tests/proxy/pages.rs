//! Plugins' pages: the frame page around them, the bridge in them, their token, and what a page without an origin may read.

use crate::rig::{ADMIN, Rig, VIEWER, mirror, problem, request, seen};

const PAGE: &str = "<!doctype html><html><head><title>x</title></head></html>";
const TAG: &str = "<script src=\"/api/x/hello/_temps/bridge.js\"></script>";
const COOKIE: (&str, &str) = ("cookie", "session=viewer");
const NULL: (&str, &str) = ("origin", "null");

fn site() -> axum::Router {
    mirror().route("/ui/", axum::routing::get(async || axum::response::Html(PAGE)))
}

async fn page_token(rig: &Rig, plugin: &str, cookie: &str) -> String {
    let headers = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
    let response = rig.send(request("POST", &format!("/api/x/{plugin}/_temps/token"), &headers, "")).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert!(body["expires_in"].as_u64().unwrap() <= 15 * 60);
    body["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_tab_gets_the_frame_page_the_frame_gets_the_page_with_the_bridge_and_curl_gets_it_as_it_is() {
    let rig = Rig::start().await;
    rig.plugin("hello", site());
    let tab = rig
        .get("/api/x/hello/ui/", &[COOKIE, ("sec-fetch-dest", "document"), ("sec-fetch-site", "cross-site")])
        .await;
    assert_eq!(tab.status(), 200);
    let html = String::from_utf8(tab.body().to_vec()).unwrap();
    assert!(html.contains("_temps/frame.js") && !html.contains("bridge.js"), "{html}");
    assert_eq!(
        tab.headers()["content-security-policy"],
        "default-src 'none'; frame-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    );
    assert_eq!(tab.headers()["cache-control"], "no-store");

    let expected = PAGE.replace("<head>", &format!("<head>{TAG}"));
    for headers in [vec![("sec-fetch-dest", "iframe")], vec![("accept", "text/html,*/*")]] {
        let framed = rig.get("/api/x/hello/ui/", &headers).await;
        assert_eq!(framed.body(), expected.as_str());
        assert_eq!(framed.headers()["content-length"], expected.len().to_string());
        assert!(
            framed.headers().get_all("vary").iter().any(|v| v.to_str().unwrap().contains("Sec-Fetch-Dest"))
        );
        let head = rig.send(request("HEAD", "/api/x/hello/ui/", &headers, "")).await;
        assert_eq!(head.headers()["content-length"], expected.len().to_string());
    }
    for headers in [vec![], vec![("accept", "*/*")], vec![("sec-fetch-dest", "empty")]] {
        let plain = rig.get("/api/x/hello/ui/", &headers).await;
        assert_eq!(plain.body(), PAGE);
        assert!(plain.headers()["content-security-policy"].to_str().unwrap().starts_with("sandbox "));
    }
}

#[tokio::test]
async fn a_tab_of_somebody_who_is_not_signed_in_says_how_to_sign_in() {
    let rig = Rig::start().await;
    rig.plugin("hello", site());
    let tab = rig.get("/api/x/hello/ui/", &[("sec-fetch-dest", "document")]).await;
    assert_eq!(
        (tab.status().as_u16(), tab.headers()["content-type"].to_str().unwrap()),
        (401, "text/html; charset=utf-8")
    );
    assert!(String::from_utf8_lossy(tab.body()).contains("Sign in"));
}

#[tokio::test]
async fn a_shown_page_is_asked_for_whole_and_not_compressed() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    let wants = [("accept-encoding", "gzip"), ("range", "bytes=0-3"), ("sec-fetch-dest", "iframe")];
    let seen_by_plugin = seen(&rig.get("/api/x/hello/ui/x", &wants).await);
    assert!(seen_by_plugin["headers"].get("accept-encoding").is_none());
    assert!(seen_by_plugin["headers"].get("range").is_none());
    let seen_by_plugin = seen(&rig.get("/api/x/hello/ui/x", &wants[..2]).await);
    assert_eq!(seen_by_plugin["headers"]["accept-encoding"], "gzip");
    assert_eq!(seen_by_plugin["headers"]["range"], "bytes=0-3");
}

#[tokio::test]
async fn the_hosts_own_files_beside_a_page_never_come_from_the_plugin() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    for (file, kind) in [
        ("frame.js", "text/javascript; charset=utf-8"),
        ("frame.css", "text/css; charset=utf-8"),
        ("bridge.js", "text/javascript; charset=utf-8"),
    ] {
        let response = rig.get(&format!("/api/x/hello/_temps/{file}"), &[]).await;
        assert_eq!(
            (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
            (200, kind)
        );
        let etag = response.headers()["etag"].to_str().unwrap();
        let again = rig.get(&format!("/api/x/hello/_temps/{file}"), &[("if-none-match", etag)]).await;
        assert_eq!(again.status(), 304);
        assert_eq!(
            rig.send(request("POST", &format!("/api/x/hello/_temps/{file}"), &[ADMIN], "")).await.status(),
            405
        );
    }
    assert_eq!(rig.metric("proxy_connections_total", "hello", ""), 0);
    assert_eq!(rig.get("/api/x/nobody/_temps/bridge.js", &[]).await.status(), 404);
}

#[tokio::test]
async fn only_the_hosts_own_page_gets_a_token() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    let own = format!("http://{}", rig.front);
    for (headers, code) in [
        (vec![COOKIE], "foreign_origin"),
        (vec![COOKIE, NULL], "foreign_origin"),
        (vec![COOKIE, NULL, ("sec-fetch-site", "cross-site")], "foreign_origin"),
        (vec![COOKIE, ("origin", "https://evil.example")], "foreign_origin"),
        (vec![COOKIE, ("sec-fetch-site", "none")], "foreign_origin"),
        (vec![ADMIN, ("sec-fetch-site", "same-origin")], "foreign_origin"),
        (vec![("origin", own.as_str())], "sign_in_needed"),
    ] {
        let response = rig.send(request("POST", "/api/x/hello/_temps/token", &headers, "")).await;
        assert_eq!(problem(&response), code, "{headers:?}");
    }
    let get = rig.get("/api/x/hello/_temps/token", &[COOKIE, ("sec-fetch-site", "same-origin")]).await;
    assert_eq!(get.status(), 405);
    page_token(&rig, "hello", "session=viewer").await;
}

#[tokio::test]
async fn a_pages_token_is_good_for_its_plugin_and_its_caller_only() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    rig.plugin("other", mirror());
    let token = page_token(&rig, "hello", "session=viewer").await;
    let bearer = format!("Bearer {token}");
    let carries = [("authorization", bearer.as_str()), NULL];

    let response = rig.get("/api/x/hello/a", &carries).await;
    let seen_by_plugin = seen(&response);
    assert_eq!(seen_by_plugin["headers"]["x-temps-user-role"], "viewer");
    assert!(!String::from_utf8_lossy(response.body()).contains(&token), "the token reached the plugin");
    let write = rig.send(request("POST", "/api/x/hello/a", &carries, "")).await;
    assert_eq!(problem(&write), "viewer_may_only_read");

    let elsewhere = rig.get("/api/x/other/a", &carries).await;
    assert_eq!((elsewhere.status().as_u16(), problem(&elsewhere).as_str()), (401, "page_token_invalid"));
    assert!(elsewhere.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));

    let query = format!("/api/x/hello/a?x=%41&_temps_token={token}&_temps_last_event_id=a%20b");
    let seen_by_plugin = seen(&rig.get(&query, &[NULL]).await);
    assert_eq!(seen_by_plugin["target"], "/a?x=%41");
    assert_eq!(seen_by_plugin["headers"]["last-event-id"], "a b");
    let wrong = rig.get("/api/x/hello/a?_temps_token=tpu_wrong", &[COOKIE]).await;
    assert_eq!(problem(&wrong), "page_token_invalid", "no falling back to the cookie");
}

#[tokio::test]
async fn a_page_token_never_reaches_a_plugin_not_even_on_a_public_path() {
    let rig = Rig::start().await;
    let knobs = rig.plugin("hello", mirror());
    rig.plugin("other", mirror());
    let grants = temps_host::grants::Grants { public_paths: vec!["/hook".into()], ..Default::default() };
    knobs.grants.send(std::sync::Arc::new(grants)).unwrap();
    let token = format!("Bearer {}", page_token(&rig, "other", "session=admin").await);
    let response = rig.get("/api/x/hello/hook", &[("authorization", token.as_str())]).await;
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn a_pages_token_ends() {
    let bounds =
        temps_host::proxy::bounds::Bounds { page_token: std::time::Duration::ZERO, ..Default::default() };
    let rig = Rig::with_bounds(bounds).await;
    rig.plugin("hello", mirror());
    let token = format!("Bearer {}", page_token(&rig, "hello", "session=viewer").await);
    let response = rig.get("/api/x/hello/a", &[("authorization", token.as_str())]).await;
    assert_eq!(problem(&response), "page_token_invalid");
}

#[tokio::test]
async fn a_page_without_an_origin_may_read_and_no_other_origin_may() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    for path in ["/api/x/hello/ui/app.js", "/api/x/hello/a"] {
        let response = rig.get(path, &[NULL]).await;
        assert_eq!(response.headers()["access-control-allow-origin"], "null", "{path}");
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
        for origin in ["https://evil.example", "http://localhost:5173"] {
            let response = rig.get(path, &[("origin", origin), VIEWER]).await;
            assert!(!response.headers().contains_key("access-control-allow-origin"), "{path} {origin}");
        }
    }
    let file = rig.get("/api/x/hello/ui/app.js", &[]).await;
    assert!(!file.headers().contains_key("access-control-allow-origin"));
    assert_eq!(file.headers()["cross-origin-resource-policy"], "cross-origin");
    assert!(file.headers().get_all("vary").iter().any(|v| v.to_str().unwrap().contains("Origin")));
}

#[tokio::test]
async fn a_preflight_of_a_page_is_answered_by_the_host_and_of_another_site_not() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    let asks = [
        NULL,
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let response = rig.send(request("OPTIONS", "/api/x/hello/a", &asks, "")).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], "null");
    assert_eq!(response.headers()["access-control-allow-headers"], "authorization,content-type");
    assert!(response.headers()["access-control-allow-methods"].to_str().unwrap().contains("PUT"));
    assert!(!response.headers().contains_key("access-control-allow-credentials"));
    assert_eq!(rig.metric("proxy_connections_total", "hello", ""), 0);
    let foreign = [("origin", "https://evil.example"), asks[1], asks[2]];
    let response = rig.send(request("OPTIONS", "/api/x/hello/a", &foreign, "")).await;
    assert!(
        response.status().is_client_error()
            && !response.headers().contains_key("access-control-allow-origin")
    );
    for door in ["token", "frame"] {
        let response = rig.send(request("OPTIONS", &format!("/api/x/hello/_temps/{door}"), &asks, "")).await;
        assert_eq!(response.status(), 405, "{door}");
    }
}
