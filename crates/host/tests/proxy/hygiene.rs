//! What reaches a plugin, and what of its answer reaches the caller.

use axum::routing::any;

use crate::rig::{ADMIN, Rig, SECRET, VIEWER, mirror, problem, request, seen};

#[tokio::test]
async fn path_query_method_and_body_reach_the_plugin_as_they_came() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    for (path, target) in [
        ("/api/x/hello", "/"),
        ("/api/x/hello/a%2Fb%20c//d/?q=%41&q=?x", "/a%2Fb%20c//d/?q=%41&q=?x"),
        ("/api/x/hello/%zz;p=1", "/%zz;p=1"),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            let response = rig.send(request(method, path, &[ADMIN], "a body")).await;
            let seen = seen(&response);
            assert_eq!((seen["method"].as_str(), seen["target"].as_str()), (Some(method), Some(target)));
            assert_eq!((seen["body"].as_str(), seen["version"].as_str()), (Some("a body"), Some("HTTP/1.1")));
        }
    }
}

#[tokio::test]
async fn the_plugin_learns_who_calls_and_never_the_callers_credentials() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let given = [
        VIEWER,
        ("cookie", "session=admin; other=1"),
        ("proxy-authorization", "Basic eDp5"),
        ("x-temps-user-role", "admin"),
        ("X_Temps_User_Id", "1"),
        ("x-temps-anything", "1"),
        ("x-forwarded-for", "10.1.1.1"),
        ("x_forwarded_for", "10.2.2.2"),
        ("x-original-url", "/_temps/channel"),
        ("x-http-method-override", "DELETE"),
        ("te", "trailers"),
        ("keep-alive", "timeout=5"),
        ("connection", "keep-alive, X-Private-Hop, content-length, authorization"),
        ("x-private-hop", "1"),
        ("expect", "100-continue"),
        ("referer", "http://x/?_temps_token=tpu_a"),
        ("traceparent", trace),
        ("x-kept", "yes"),
    ];
    let response = rig.get("/api/x/hello/a", &given).await;
    let seen = seen(&response);
    let headers = &seen["headers"];
    assert_eq!(headers["host"], "localhost");
    assert_eq!(headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(headers["x-temps-plugin"], "hello");
    assert_eq!(headers["x-temps-user-id"], "7");
    assert_eq!(headers["x-temps-user-role"], "viewer");
    assert_eq!(headers["x-temps-user-email"], "ada@example.com");
    assert_eq!(headers["x-temps-user-name"], "Ada%0D%0AX-Temps-User-Role: root");
    assert_eq!(headers["x-forwarded-for"], "10.1.1.1, 127.0.0.1");
    assert_eq!(headers["x-forwarded-host"], rig.front.to_string());
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-prefix"], "/api/x/hello");
    assert_eq!(headers["traceparent"], trace);
    assert_eq!(headers["x-kept"], "yes");
    let id: uuid::Uuid = headers["x-temps-request-id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    for gone in [
        "cookie",
        "proxy-authorization",
        "x_temps_user_id",
        "x-temps-anything",
        "x_forwarded_for",
        "x-original-url",
        "x-http-method-override",
        "te",
        "keep-alive",
        "connection",
        "x-private-hop",
        "expect",
        "referer",
        "transfer-encoding",
        "upgrade",
        "x-temps-forwarded-authorization",
    ] {
        assert!(headers.get(gone).is_none(), "{gone} reached the plugin");
    }
    assert!(!response.body().windows(12).any(|w| w == b"viewer-token"));
}

#[tokio::test]
async fn a_request_of_two_lengths_cannot_smuggle_another_one() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    let both = "POST /api/x/hello/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\nConnection: close\r\n\
        Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let back = rig.raw(both.as_bytes()).await;
    // Either the front refuses it, or the plugin gets the three bytes that the chunks are.
    assert!(back.starts_with("HTTP/1.1 400") || back.contains("\"body\":\"abc\""), "{back}");
    assert!(!back.contains("\"content-length\":\"5\""), "{back}");
}

#[tokio::test]
async fn what_the_plugin_may_not_say_is_removed_and_the_sandbox_is_added() {
    let rig = Rig::start().await;
    let app = axum::Router::new().fallback(any(async || {
        let mut response = http::Response::new(axum::body::Body::from("x"));
        for (name, value) in [
            ("set-cookie", "session=stolen"),
            ("clear-site-data", "\"*\""),
            ("service-worker-allowed", "/"),
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("strict-transport-security", "max-age=1"),
            ("public-key-pins", "x"),
            ("alt-svc", "h3=\":443\""),
            ("nel", "{}"),
            ("report-to", "{}"),
            ("x-temps-user-role", "admin"),
            ("connection", "x-private-hop"),
            ("x-private-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("content-security-policy", "default-src 'self'"),
            ("x-content-type-options", "sniff"),
            ("referrer-policy", "unsafe-url"),
            ("location", "http://localhost/ui/"),
            ("content-location", "/a"),
            ("x-kept", "yes"),
        ] {
            response.headers_mut().append(name, value.parse().unwrap());
        }
        response
    }));
    rig.plugin("hello", app);
    let response = rig.get("/api/x/hello/a", &[ADMIN]).await;
    let headers = response.headers();
    for gone in [
        "set-cookie",
        "clear-site-data",
        "service-worker-allowed",
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "strict-transport-security",
        "public-key-pins",
        "alt-svc",
        "nel",
        "report-to",
        "x-temps-user-role",
        "x-private-hop",
        "keep-alive",
        "connection",
    ] {
        assert!(!headers.contains_key(gone), "{gone} reached the caller");
    }
    let policies: Vec<_> = headers.get_all("content-security-policy").iter().collect();
    assert_eq!(
        policies,
        ["default-src 'self'", "sandbox allow-scripts allow-forms allow-popups allow-downloads"]
    );
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["location"], "/api/x/hello/ui/");
    assert_eq!(headers["content-location"], "/api/x/hello/a");
    assert_eq!(headers["x-kept"], "yes");
}

#[tokio::test]
async fn the_protocols_own_paths_are_not_reached() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    for path in [
        "_temps/channel",
        "_events",
        "%5Fevents",
        "_EVENTS",
        "/_temps/channel",
        "%255ftemps/x",
        "_events;a=b",
    ] {
        let response = rig.send(request("POST", &format!("/api/x/hello/{path}"), &[ADMIN], "{}")).await;
        assert_eq!((response.status().as_u16(), problem(&response).as_str()), (404, "not_found"), "{path}");
    }
    for path in ["../hello/a", "%2e%2e/a", "a/..%2f_events", "ui/%2e%2e/_temps/channel"] {
        let back = rig.raw(format!("GET /api/x/hello/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\nConnection: close\r\n\r\n").as_bytes()).await;
        assert!(back.starts_with("HTTP/1.1 400") && back.contains("bad_path"), "{path}: {back}");
    }
}
