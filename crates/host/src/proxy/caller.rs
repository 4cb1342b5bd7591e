//! Callers: what a request is signed in with, and whether that is enough for where it goes.
//!
//! Pure. A browser attaches cookies to requests that any page makes, so what comes with a cookie counts only when the
//! browser says that one of the host's own pages made it. A token in a header has no such trouble.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};

use super::path::{Place, TOKEN_PARAMETER, Target};
use super::refusal::Refusal;
use super::token::TOKEN_PREFIX;
use crate::platform::{Caller, Role};

/// What a request is signed in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// A token that the frame page gave to the plugin's page.
    Page(&'a str),
    /// Something that the platform understands, or nothing.
    Platform,
    /// Perhaps a cookie, but another site's page made the request: it counts as not signed in.
    Foreign,
}

impl<'a> Credential<'a> {
    /// Reads it from a request.
    pub(super) fn of(parts: &'a Parts, target: &Target<'a>) -> Self {
        let bearer = bearer(&parts.headers);
        if let Some(token) = bearer.filter(|token| token.starts_with(TOKEN_PREFIX)) {
            return Self::Page(token);
        }
        if bearer.is_some() {
            return Self::Platform;
        }
        // Event streams, WebSockets, links and forms cannot set a header.
        if let Some(token) = target.parameter(TOKEN_PARAMETER) {
            return Self::Page(token);
        }
        if made_elsewhere(parts) { Self::Foreign } else { Self::Platform }
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether the browser says that one of the host's own pages made this request.
pub(super) fn made_here(parts: &Parts) -> bool {
    let says = |name| parts.headers.contains_key(name);
    (says("sec-fetch-site") || says("origin"))
        && text(&parts.headers, "sec-fetch-site") != Some("none")
        && !made_elsewhere(parts)
}

/// Whether a page of another origin made this request, or may have made it.
pub(super) fn made_elsewhere(parts: &Parts) -> bool {
    let headers = &parts.headers;
    // Only browsers send it, pages cannot change it, and it is right behind a proxy that changes names, too.
    match text(headers, "sec-fetch-site") {
        Some("same-origin") => return false,
        Some("none") | None => {}
        Some(_) => return true,
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        return !is_own_origin(origin, authority(parts));
    }
    let safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    headers.contains_key(header::COOKIE) && (!safe || headers.contains_key(header::UPGRADE))
}

fn is_own_origin(origin: &HeaderValue, authority: Option<&str>) -> bool {
    let (Ok(origin), Some(authority)) = (origin.to_str(), authority) else { return false };
    let (rest, port) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
        (Some(rest), _) => (rest, ":80"),
        (_, Some(rest)) => (rest, ":443"),
        _ => return false,
    };
    let plain = |name: &str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    plain(rest) == plain(authority)
}

/// The host's name and port as the caller wrote it.
pub(super) fn authority(parts: &Parts) -> Option<&str> {
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| parts.uri.authority().map(|authority| authority.as_str()))
}

/// Whether the request comes from a page that has no origin, as all plugins' pages.
pub(super) fn has_null_origin(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes() == b"null")
}

/// A header as text, if it is there once at least and readable.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Who may go on, and how the plugin is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Admission {
    /// The verified caller, if there is one.
    pub(super) caller: Option<Caller>,
    /// Whether the caller's own Authorization is for the plugin.
    pub(super) forward_authorization: bool,
}

/// Decides whether a request may go to the plugin.
pub(super) fn admit(
    method: &Method,
    place: Place,
    public: bool,
    foreign: bool,
    caller: Option<Caller>,
) -> Result<Admission, Refusal> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    // TRACE would send the plugin's secret back; CONNECT is no request to a route.
    if matches!(*method, Method::TRACE | Method::CONNECT) {
        return Err(Refusal::MethodNotAllowed("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    if public {
        let forward_authorization = caller.is_none();
        return Ok(Admission { caller, forward_authorization });
    }
    match &caller {
        Some(caller) if caller.role == Role::Viewer && !reads => Err(Refusal::ViewerMayOnlyRead),
        None if place == Place::Ui && reads => Ok(Admission { caller, forward_authorization: false }),
        None if foreign => Err(Refusal::ForeignOrigin),
        None => Err(Refusal::SignInNeeded),
        Some(_) => Ok(Admission { caller, forward_authorization: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/api/x/hello/a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_cookie_counts_only_when_an_own_page_made_the_request() {
        let host = ("host", "Temps.local:3000");
        let cookie = ("cookie", "s=1");
        for (method, headers, elsewhere) in [
            ("GET", vec![host, cookie], false),
            ("POST", vec![host, cookie], true),
            ("POST", vec![host], false),
            ("GET", vec![host, cookie, ("upgrade", "websocket")], true),
            ("POST", vec![host, cookie, ("origin", "http://temps.local:3000")], false),
            ("POST", vec![host, cookie, ("origin", "http://temps.local")], true),
            ("POST", vec![host, cookie, ("origin", "http://temps.local:3000.evil.example")], true),
            ("GET", vec![host, cookie, ("origin", "null")], true),
            ("GET", vec![host, cookie, ("sec-fetch-site", "cross-site")], true),
            ("GET", vec![host, cookie, ("sec-fetch-site", "same-site")], true),
            ("GET", vec![host, cookie, ("sec-fetch-site", "none")], false),
            (
                "POST",
                vec![host, cookie, ("sec-fetch-site", "same-origin"), ("origin", "https://tls.example")],
                false,
            ),
            ("POST", vec![("host", "temps.local"), cookie, ("origin", "https://temps.local:443")], false),
        ] {
            assert_eq!(made_elsewhere(&parts(method, &headers)), elsewhere, "{method} {headers:?}");
        }
    }

    #[test]
    fn who_may_do_what() {
        let caller = |role| Some(Caller { id: "1".into(), name: "n".into(), email: None, role });
        let code = |method: &str, place, public, foreign, caller| {
            let method: Method = method.parse().unwrap();
            admit(&method, place, public, foreign, caller).err().map(|r| r.code().1)
        };
        assert_eq!(code("GET", Place::Route, false, false, caller(Role::Viewer)), None);
        assert_eq!(code("HEAD", Place::Route, false, false, caller(Role::Viewer)), None);
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            let refused = code(method, Place::Route, false, false, caller(Role::Viewer));
            assert_eq!(refused, Some("viewer_may_only_read"), "{method}");
            assert_eq!(code(method, Place::Route, false, false, caller(Role::Admin)), None);
            assert_eq!(code(method, Place::Route, true, false, None), None);
            assert_eq!(code(method, Place::Ui, false, false, None), Some("sign_in_needed"));
        }
        assert_eq!(code("GET", Place::Ui, false, true, None), None);
        assert_eq!(code("GET", Place::Route, false, false, None), Some("sign_in_needed"));
        assert_eq!(code("GET", Place::Route, false, true, None), Some("foreign_origin"));
        assert_eq!(code("TRACE", Place::Route, true, false, caller(Role::Admin)), Some("method_not_allowed"));
    }
}
