//! Pages: what the host itself serves around a plugin's page, and when.
//!
//! A tab gets the host's frame page; the frame inside it gets the plugin's page, with the bridge script in it. The
//! browser says which of the two it wants (`Sec-Fetch-Dest`). Other clients get the plugin's page as it is.

use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Body;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::caller::text;
use super::headers;
use super::path::{HostPlace, Place};
use super::refusal::Refusal;
use crate::platform::Caller;

const FRAME_HTML: &str = include_str!("assets/frame.html");
const SIGN_IN_HTML: &str = include_str!("assets/sign_in.html");

/// The policy of the host's own pages: their script, their style, and pages of this host in a frame.
const FRAME_POLICY: &str = "default-src 'none'; frame-src 'self'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'";

/// How long a browser may remember that a page without an origin may call, in seconds.
const PREFLIGHT_SECONDS: &str = "600";

/// Longest list of header names that is allowed to a page in one answer, in bytes.
const MAX_PREFLIGHT_HEADERS: usize = 1024;

/// A file of the host's own.
struct Asset {
    kind: &'static str,
    content: &'static str,
    etag: String,
}

impl Asset {
    fn new(kind: &'static str, content: &'static str) -> Self {
        let hash = Sha256::digest(content.as_bytes());
        let etag = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect::<String>();
        Self { kind, content, etag: format!("\"{etag}\"") }
    }
}

static FRAME_SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/javascript; charset=utf-8", include_str!("assets/frame.js")));
static FRAME_STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/css; charset=utf-8", include_str!("assets/frame.css")));
static BRIDGE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/javascript; charset=utf-8", include_str!("assets/bridge.js")));

/// Whether a tab is to be filled, which is the frame page's place.
pub(super) fn fills_tab(parts: &Parts, place: Place) -> bool {
    place == Place::Host(HostPlace::Frame)
        || (place == Place::Ui
            && reads(&parts.method)
            && text(&parts.headers, "sec-fetch-dest") == Some("document"))
}

/// Whether a browser is to show the answer as a page, so that the bridge goes into it.
pub(super) fn is_shown(parts: &Parts, place: Place) -> bool {
    let shown = match text(&parts.headers, "sec-fetch-dest") {
        Some(dest) => matches!(dest, "document" | "iframe" | "frame" | "embed" | "object"),
        // Browsers leave it out on plain HTTP to other machines, but say that they would like HTML.
        None => text(&parts.headers, "accept").is_some_and(|accept| accept.contains("text/html")),
    };
    place == Place::Ui && reads(&parts.method) && shown
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The frame page, or the page that says how to sign in.
pub(super) fn frame(
    method: &Method,
    plugin: &str,
    title: &str,
    signed_in: bool,
) -> Result<Response<Body>, Refusal> {
    if !reads(method) {
        return Err(Refusal::MethodNotAllowed("GET, HEAD"));
    }
    let (status, template) =
        if signed_in { (StatusCode::OK, FRAME_HTML) } else { (StatusCode::UNAUTHORIZED, SIGN_IN_HTML) };
    let html = template.replace("{{plugin}}", plugin).replace("{{title}}", &escaped(title));
    let mut response = own(method, "text/html; charset=utf-8", html.into());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(FRAME_POLICY));
    fields.insert(header::VARY, HeaderValue::from_static("Origin, Sec-Fetch-Dest"));
    if !signed_in {
        fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"temps\""));
    }
    Ok(response)
}

/// A script or style of the host's own. They hold no secrets, so everybody may have them.
pub(super) fn asset(place: HostPlace, parts: &Parts) -> Result<Response<Body>, Refusal> {
    if !reads(&parts.method) {
        return Err(Refusal::MethodNotAllowed("GET, HEAD"));
    }
    let asset = match place {
        HostPlace::FrameScript => &*FRAME_SCRIPT,
        HostPlace::FrameStyle => &*FRAME_STYLE,
        _ => &*BRIDGE,
    };
    let known = text(&parts.headers, "if-none-match").is_some_and(|tags| tags.contains(&asset.etag));
    let content = if known { Body::empty() } else { Body::from(asset.content) };
    let mut response = own(&parts.method, asset.kind, content);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&asset.etag) {
        fields.insert(header::ETAG, etag);
    }
    fields.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
    fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(headers::SANDBOX));
    Ok(response)
}

/// The answer that carries a page's token.
pub(super) fn token(token: &str, lifetime: Duration, caller: &Caller) -> Response<Body> {
    let body = serde_json::json!({
        "token": token,
        "expires_in": lifetime.as_secs(),
        "user": { "id": caller.id, "name": caller.name, "role": caller.role.as_str() },
    });
    let mut response = own(&Method::POST, "application/json", body.to_string().into());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(headers::SANDBOX));
    response
}

/// The answer to a browser that asks whether a page without an origin may call, if that is what it asks.
pub(super) fn preflight(parts: &Parts) -> Option<Response<Body>> {
    let asks = parts.method == Method::OPTIONS
        && super::caller::has_null_origin(&parts.headers)
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let fields = response.headers_mut();
    fields.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"),
    );
    if let Some(names) = asked_headers(&parts.headers) {
        fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    fields.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
    fields.insert(header::VARY, HeaderValue::from_static("Origin, Access-Control-Request-Headers"));
    headers::add_page_rules(fields);
    Some(response)
}

/// The header names that a page wants to send; `*` would leave out Authorization.
fn asked_headers(fields: &HeaderMap) -> Option<HeaderValue> {
    let asked = fields.get(header::ACCESS_CONTROL_REQUEST_HEADERS)?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b',' | b' ' | b'.');
    (asked.len() <= MAX_PREFLIGHT_HEADERS && asked.as_bytes().iter().all(plain)).then(|| asked.clone())
}

fn own(method: &Method, kind: &'static str, content: Body) -> Response<Body> {
    let mut response = Response::new(if method == Method::HEAD { Body::empty() } else { content });
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_name_cannot_add_markup_to_the_frame_page() {
        let response = frame(&Method::GET, "hello", "</title><script>\"'&", true).unwrap();
        let body =
            futures_util::FutureExt::now_or_never(axum::body::to_bytes(response.into_body(), usize::MAX));
        let html = String::from_utf8(body.unwrap().unwrap().to_vec()).unwrap();
        assert!(html.contains("&lt;/title&gt;&lt;script&gt;&quot;&#39;&amp;"), "{html}");
        assert_eq!(html.matches("<script").count(), 1);
    }
}
