//! Browsers: one-time links, sessions, and what the pages are served with.

use reqwest::{Method, StatusCode};

use crate::rig::{Rig, success};

/// Follows a sign-in link and returns the cookie, as a browser would send it.
pub(crate) async fn sign_in(rig: &Rig, link: &str) -> String {
    let answer = rig.client.get(link).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/");
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    for word in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=604800"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_link_signs_one_browser_in_once() {
    let rig = Rig::start().await;
    let link = rig.started.login_link.url.clone();
    let preview = rig.client.head(&link).send().await.unwrap();
    assert!(preview.headers().get("set-cookie").is_none(), "a preview does not use it up");
    let cookie = sign_in(&rig, &link).await;
    let second = rig.client.get(&link).send().await.unwrap();
    assert_eq!(second.status(), 401);
    assert!(second.headers().get("set-cookie").is_none());
    assert!(second.text().await.unwrap().contains("was used already"));
    let page = rig.anonymous(Method::GET, "/").header("cookie", &cookie).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("Plugins"));
    let session = rig.anonymous(Method::GET, "/api/session").header("cookie", &cookie).send().await.unwrap();
    assert_eq!(success(session).await.1["role"], "admin");
    rig.stop().await;
}

#[tokio::test]
async fn a_browser_that_signs_out_is_out() {
    let rig = Rig::start().await;
    let cookie = sign_in(&rig, &rig.started.login_link.url).await;
    let with_cookie = |method| {
        rig.anonymous(method, "/api/session")
            .header("cookie", &cookie)
            .header("origin", &rig.started.url)
            .send()
    };
    assert_eq!(with_cookie(Method::DELETE).await.unwrap().status(), 204);
    assert_eq!(with_cookie(Method::GET).await.unwrap().status(), 401);
    rig.stop().await;
}

#[tokio::test]
async fn an_admin_makes_further_links_and_a_start_makes_a_fresh_one() {
    let rig = Rig::start().await;
    let link = rig.post("/api/login-links", &serde_json::Value::Null).await.1;
    sign_in(&rig, link["url"].as_str().unwrap()).await;
    let first = rig.started.login_link.url.clone();
    let rig = Rig::start_in(rig.stop().await, |_| {}).await;
    assert_ne!(first.split("code=").nth(1), rig.started.login_link.url.split("code=").nth(1));
    sign_in(&rig, &rig.started.login_link.url).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_session_survives_a_restart_of_the_daemon() {
    let rig = Rig::start().await;
    let cookie = sign_in(&rig, &rig.started.login_link.url).await;
    let rig = Rig::start_in(rig.stop().await, |_| {}).await;
    let session = rig.anonymous(Method::GET, "/api/session").header("cookie", &cookie).send().await.unwrap();
    assert_eq!(session.status(), 200);
    rig.stop().await;
}

#[tokio::test]
async fn a_stranger_is_told_how_to_sign_in_and_sees_nothing() {
    let rig = Rig::start().await;
    let start = rig.anonymous(Method::GET, "/").send().await.unwrap();
    assert_eq!((start.status().as_u16(), start.headers()["location"].to_str().unwrap()), (303, "/login"));
    let login = rig.anonymous(Method::GET, "/login").send().await.unwrap();
    assert_eq!(login.status(), 200);
    let text = login.text().await.unwrap();
    assert!(text.contains("temps login-link") && !text.contains("was used"));
    rig.stop().await;
}

#[tokio::test]
async fn pages_load_nothing_foreign_and_stand_in_no_frame() {
    let rig = Rig::start().await;
    for path in ["/login", "/assets/start.js", "/assets/page.css", "/api/version", "/unknown"] {
        let answer = rig.request(Method::GET, path).send().await.unwrap();
        let headers = answer.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
    }
    let page = rig.anonymous(Method::GET, "/login").send().await.unwrap().text().await.unwrap();
    assert!(!page.contains("<style") && !page.contains("onclick") && !page.contains("https://"));
    rig.stop().await;
}
