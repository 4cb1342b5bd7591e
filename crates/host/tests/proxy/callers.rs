//! Who may call what.

use std::sync::Arc;

use temps_host::grants::Grants;

use crate::rig::{ADMIN, Rig, VIEWER, mirror, problem, request, seen};

#[tokio::test]
async fn an_anonymous_caller_is_told_to_sign_in() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    for headers in [vec![], vec![("authorization", "Bearer wrong")], vec![("cookie", "session=old")]] {
        let response = rig.get("/api/x/hello/a", &headers).await;
        assert_eq!((response.status().as_u16(), problem(&response).as_str()), (401, "sign_in_needed"));
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"temps\"");
    }
    let unknown = rig.get("/api/x/nobody/a", &[]).await;
    assert_eq!(unknown.status(), 401, "which plugins there are is not for strangers");
    let unknown = rig.get("/api/x/nobody/a", &[ADMIN]).await;
    assert_eq!((unknown.status().as_u16(), problem(&unknown).as_str()), (404, "unknown_plugin"));
}

#[tokio::test]
async fn a_viewer_only_reads() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    assert_eq!(rig.get("/api/x/hello/a", &[VIEWER]).await.status(), 200);
    assert_eq!(rig.send(request("HEAD", "/api/x/hello/a", &[VIEWER], "")).await.status(), 200);
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let response = rig.send(request(method, "/api/x/hello/a", &[VIEWER], "")).await;
        assert_eq!((response.status().as_u16(), problem(&response).as_str()), (403, "viewer_may_only_read"));
    }
}

#[tokio::test]
async fn nobody_can_have_the_secret_sent_back() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    let response = rig.send(request("TRACE", "/api/x/hello/a", &[ADMIN], "")).await;
    assert_eq!((response.status().as_u16(), problem(&response).as_str()), (405, "method_not_allowed"));
}

#[tokio::test]
async fn a_granted_public_path_is_open_and_only_there_the_callers_own_authorization_goes_on() {
    let rig = Rig::start().await;
    let knobs = rig.plugin("hello", mirror());
    let own = ("authorization", "Bearer the-callers-own");
    assert_eq!(rig.get("/api/x/hello/hook", &[own]).await.status(), 401);
    let grants = Grants { public_paths: vec!["/hook".into()], ..Grants::default() };
    knobs.grants.send(Arc::new(grants)).unwrap();

    let response = rig.send(request("POST", "/api/x/hello/hook/in", &[own], "{}")).await;
    let headers = &seen(&response)["headers"];
    assert_eq!(headers["x-temps-forwarded-authorization"], "Bearer the-callers-own");
    assert!(headers.get("x-temps-user-id").is_none());
    // A caller whom the platform knows brought the platform's credential, which is nobody else's.
    let response = rig.send(request("POST", "/api/x/hello/hook", &[VIEWER], "{}")).await;
    let headers = &seen(&response)["headers"];
    assert!(headers.get("x-temps-forwarded-authorization").is_none());
    assert_eq!(headers["x-temps-user-role"], "viewer");
    assert_eq!(rig.get("/api/x/hello/hooks", &[own]).await.status(), 401);

    knobs.grants.send(Arc::new(Grants::default())).unwrap();
    assert_eq!(rig.get("/api/x/hello/hook", &[own]).await.status(), 401, "a revocation works at once");
}

#[tokio::test]
async fn page_files_need_no_sign_in_but_only_to_be_read() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    assert_eq!(rig.get("/api/x/hello/ui/app.js", &[]).await.status(), 200);
    assert_eq!(rig.send(request("POST", "/api/x/hello/ui/app.js", &[], "")).await.status(), 401);
    assert_eq!(rig.get("/api/x/hello/uix", &[]).await.status(), 401);
    assert_eq!(rig.get("/api/x/hello//ui/app.js", &[]).await.status(), 401);
}

#[tokio::test]
async fn a_cookie_does_not_count_in_a_request_that_another_site_made() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    let cookie = ("cookie", "session=admin");
    let own = format!("http://{}", rig.front);
    for (method, extra, status) in [
        ("GET", vec![], 200),
        ("GET", vec![("sec-fetch-site", "none")], 200),
        ("GET", vec![("sec-fetch-site", "cross-site")], 403),
        ("GET", vec![("sec-fetch-site", "same-site")], 403),
        ("GET", vec![("origin", "null")], 403),
        ("POST", vec![], 403),
        ("POST", vec![("origin", "https://evil.example")], 403),
        ("POST", vec![("origin", own.as_str())], 200),
        ("POST", vec![("sec-fetch-site", "same-origin"), ("origin", own.as_str())], 200),
        ("GET", vec![("connection", "upgrade"), ("upgrade", "websocket")], 403),
    ] {
        let mut headers = vec![cookie];
        headers.extend(extra);
        let response = rig.send(request(method, "/api/x/hello/a", &headers, "")).await;
        assert_eq!(response.status(), status, "{method} {headers:?}");
    }
}
