//! The daemon's own pages: a start page for a browser that is signed in, and one that says how to sign in.
//!
//! They are plain files in the binary that call the REST API. Nothing of a caller or a plugin goes into their HTML here.

use axum::Extension;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use super::answer::{Answer, Failure};
use super::extract::{Path, Query};
use crate::app::App;
use crate::auth::{Identity, SESSION_COOKIE, SESSION_LIFETIME};

const START: &str = include_str!("../../pages/start.html");
const SIGN_IN: &str = include_str!("../../pages/sign-in.html");

/// Where [`SIGN_IN`] takes a sentence in.
const NOTE_PLACE: &str = "<!-- note -->";

const NOTE_BAD_LINK: &str =
    "<p class=\"note\">This link was used already, or is older than 15 minutes. Make a new one:</p>";

/// Files of the pages: name, media type, content.
const ASSETS: [(&str, &str, &str); 3] = [
    ("page.css", "text/css; charset=utf-8", include_str!("../../pages/page.css")),
    ("start.js", "text/javascript; charset=utf-8", include_str!("../../pages/start.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../pages/icon.svg")),
];

/// What stands behind `/login?`.
#[derive(Debug, Deserialize)]
pub(super) struct LoginQuery {
    code: Option<String>,
}

/// The start page, or the way to sign in.
pub(super) async fn start(identity: Option<Extension<Identity>>) -> Response {
    match identity {
        Some(_) => Html(START).into_response(),
        None => Redirect::to("/login").into_response(),
    }
}

/// Signs a browser in with the code of a one-time link, or says how to get one.
pub(super) async fn login(
    State(app): State<App>,
    method: Method,
    Query(query): Query<LoginQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    // Programs that preview links ask with HEAD; that must not use the link up.
    let Some(code) = query.code.filter(|_| method == Method::GET) else {
        return Ok(Html(SIGN_IN).into_response());
    };
    let Some(session) = app.access().redeem(&code).await? else {
        let page = SIGN_IN.replace(NOTE_PLACE, NOTE_BAD_LINK);
        return Ok((StatusCode::UNAUTHORIZED, Html(page)).into_response());
    };
    app.host().record_audit("session.opened", None, "browser", serde_json::json!({}));
    let secure = if app.host_policy().is_secure(&headers) { "; Secure" } else { "" };
    let cookie = format!(
        "{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}{secure}",
        SESSION_LIFETIME.num_seconds()
    );
    let mut response = Redirect::to("/").into_response();
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| Failure::internal(&error))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// A file of the pages.
pub(super) async fn asset(Path(file): Path<String>) -> Answer<Response> {
    let found = ASSETS.iter().find(|(name, _, _)| *name == file);
    let (_, kind, content) = found.ok_or_else(|| Failure::not_found(format!("there is no file {file:?}")))?;
    Ok(([(header::CONTENT_TYPE, *kind)], *content).into_response())
}
