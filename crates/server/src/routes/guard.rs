//! The doors of the daemon's own routes: who may pass, which hosts are ours, how long a request may take.
//!
//! What a caller needs is decided from method and path alone, and what is not listed needs a sign-in, so that a new
//! route is closed until somebody opens it.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use temps_host::Role;

use super::answer::Failure;
use crate::app::App;

/// How long the daemon works on one request of its own API, beyond the time that a plugin has to stop (a request may wait
/// for that). Streams have begun by then and go on.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What a page of ours may load and do: its own files and API, nothing inline, nothing foreign, in nobody's frame.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Anybody.
    Nobody,
    /// A caller who is signed in.
    Viewer,
    /// A caller who may do everything.
    Admin,
}

/// Who may call a route of ours.
pub(crate) fn needed(method: &Method, path: &str, metrics_public: bool) -> Needed {
    match path {
        "/" | "/login" | "/healthz" | "/readyz" => return Needed::Nobody,
        "/metrics" if metrics_public => return Needed::Nobody,
        "/api/session" => return Needed::Viewer,
        "/api/tokens" | "/api/audit" | "/api/login-links" => return Needed::Admin,
        _ if path.starts_with("/api/audit/") => return Needed::Admin,
        _ if path.starts_with("/assets/") => return Needed::Nobody,
        _ if path.starts_with("/api/tokens/") => return Needed::Admin,
        _ if path.starts_with("/api/plugins/") && path.ends_with("/logs") => return Needed::Admin,
        _ if path.starts_with("/api/plugins/") && path.ends_with("/traffic") => return Needed::Admin,
        // What a plugin keeps is its own; a viewer has no part in it.
        _ if path.starts_with("/api/plugins/") && path.contains("/storage") => return Needed::Admin,
        _ => {}
    }
    if method.is_safe() { Needed::Viewer } else { Needed::Admin }
}

/// Refuses requests for hosts that are not ours and acts that foreign pages began. Around everything, the plugins'
/// routes too.
pub(crate) async fn own_hosts(State(app): State<App>, request: Request, next: Next) -> Response {
    if let Err(error) = app.host_policy().check(request.method(), request.uri(), request.headers()) {
        return app.metrics().counted(Failure::from(error).into_response());
    }
    let response = next.run(request).await;
    app.metrics().counted(response)
}

/// Lets callers pass who may, and tells the handler who they are.
pub(crate) async fn signed_in(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let needed = needed(request.method(), request.uri().path(), app.config().metrics_public);
    let identity = match app.access().identify(request.headers()).await {
        Ok(identity) => identity,
        Err(_) if needed == Needed::Nobody => None,
        Err(error) => return Failure::from(error).into_response(),
    };
    let role = identity.as_ref().map(|identity| identity.role);
    match (needed, role) {
        (Needed::Nobody, _) | (Needed::Viewer, Some(_)) | (Needed::Admin, Some(Role::Admin)) => {}
        (_, None) => return unauthenticated().into_response(),
        (Needed::Admin, Some(Role::Viewer)) => return forbidden().into_response(),
    }
    if let Some(identity) = identity {
        request.extensions_mut().insert(identity);
    }
    next.run(request).await
}

fn unauthenticated() -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, "unauthenticated", "the request is not signed in")
        .hint("send Authorization: Bearer with an API token; `temps login-link` signs a browser in")
}

fn forbidden() -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "forbidden", "the token may look, but not do this")
        .hint("use a token with the role admin")
}

/// Ends requests that take too long.
pub(crate) async fn in_time(State(app): State<App>, request: Request, next: Next) -> Response {
    let limit = REQUEST_TIMEOUT + app.config().stop_grace;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("the request took longer than {} s", limit.as_secs());
            Failure::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail)
                .hint("what it began may still be done; look before you repeat it")
                .into_response()
        }
    }
}

/// Tells browsers how to treat what we serve.
pub(crate) async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_needs_a_sign_in() {
        for path in ["/api/plugins", "/api/anything-new", "/unknown", "/metrics", "/api/openapi.json"] {
            assert_eq!(needed(&Method::GET, path, false), Needed::Viewer, "{path}");
            assert_eq!(needed(&Method::POST, path, false), Needed::Admin, "{path}");
        }
    }

    #[test]
    fn secrets_and_logs_are_for_admins_only() {
        for path in [
            "/api/tokens",
            "/api/tokens/1",
            "/api/audit",
            "/api/audit/export",
            "/api/audit/stream",
            "/api/audit/verify",
            "/api/login-links",
            "/api/plugins/a/logs",
            "/api/plugins/a/traffic",
        ] {
            assert_eq!(needed(&Method::GET, path, false), Needed::Admin, "{path}");
        }
    }

    #[test]
    fn anybody_may_ask_whether_the_daemon_lives() {
        for path in ["/healthz", "/readyz", "/login", "/", "/assets/start.js"] {
            assert_eq!(needed(&Method::GET, path, false), Needed::Nobody, "{path}");
        }
        assert_eq!(needed(&Method::GET, "/metrics", true), Needed::Nobody);
    }
}
