//! Headers: what of a request reaches the plugin, and what of its response reaches the caller.
//!
//! Pure functions over header maps. The plugin never sees the caller's credentials for the platform, and its
//! response never gets power over the origin that it is served from.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::bounds::MAX_CALLER_VALUE;
use super::redirect;
use crate::platform::{Caller, Role};

/// What keeps a plugin's page from acting as the console: it has no origin of its own.
pub(super) const SANDBOX: &str = "sandbox allow-scripts allow-forms allow-popups allow-downloads";

/// Headers that concern one connection only (RFC 9110, 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Headers of a request that never reach a plugin: the caller's credentials for the platform, and such as make some
/// frameworks serve another path than the one that was checked.
const NOT_FOR_PLUGINS: [&str; 9] = [
    "cookie",
    "cookie2",
    "authorization",
    "proxy-authorization",
    "expect",
    "forwarded",
    "x-original-url",
    "x-rewrite-url",
    "x-real-ip",
];

/// Headers that make some frameworks take a GET for another method.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Headers of a response by which a plugin would reach beyond its own page.
const NOT_FROM_PLUGINS: [&str; 13] = [
    "set-cookie",
    "set-cookie2",
    "clear-site-data",
    "service-worker-allowed",
    "strict-transport-security",
    "public-key-pins",
    "public-key-pins-report-only",
    "expect-ct",
    "alt-svc",
    "nel",
    "report-to",
    "reporting-endpoints",
    "proxy-authenticate",
];

/// What the host knows of a request beside its headers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// Name of the plugin.
    pub(super) plugin: &'a str,
    /// The secret of the plugin's start.
    pub(super) secret: &'a str,
    /// Id of this request.
    pub(super) request_id: &'a str,
    /// The verified caller.
    pub(super) caller: Option<&'a Caller>,
    /// Whether the caller's own Authorization is for the plugin: an anonymous caller on a public path.
    pub(super) forward_authorization: bool,
    /// Whether the body must come whole and not compressed, because the host puts its script into it.
    pub(super) plain_body: bool,
    /// The last event of a stream that is opened again, where the caller could not say it in a header.
    pub(super) last_event: Option<&'a str>,
    /// The host's name as the caller wrote it.
    pub(super) authority: Option<&'a str>,
    /// Address that the connection comes from.
    pub(super) peer: Option<IpAddr>,
    /// The protocol that the connection is to be changed to.
    pub(super) upgrade: Option<&'a HeaderValue>,
}

/// The headers for the plugin.
pub(super) fn for_plugin(given: &HeaderMap, facts: &Facts<'_>) -> HeaderMap {
    let named = named_in_connection(given);
    let mut out = HeaderMap::with_capacity(given.len() + 12);
    for (name, value) in given {
        if !drops_from_request(name.as_str(), &named, facts) && !carries_page_token(name, value) {
            out.append(name.clone(), value.clone());
        }
    }
    // With chunked encoding a length is a lie at best (RFC 9112, 6.3).
    if given.contains_key(header::TRANSFER_ENCODING) {
        out.remove(header::CONTENT_LENGTH);
    }
    out.insert(header::HOST, HeaderValue::from_static("localhost"));
    add_forwarded(&mut out, given, facts);
    add_trace(&mut out, given);
    add_identity(&mut out, given, facts);
    insert(&mut out, "last-event-id", facts.last_event);
    if let Some(protocol) = facts.upgrade {
        out.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        out.insert(header::UPGRADE, protocol.clone());
    }
    out
}

fn drops_from_request(name: &str, named: &[String], facts: &Facts<'_>) -> bool {
    // CGI, WSGI and their kin fold `_` and `-` into one, so a spelling with `_` would pass for the host's own.
    let folded = name.replace('_', "-");
    HOP_BY_HOP.contains(&name)
        || NOT_FOR_PLUGINS.contains(&folded.as_str())
        || folded.starts_with("x-temps-")
        || folded.starts_with("x-forwarded-")
        || matches!(name, "host" | "traceparent" | "tracestate")
        || (METHOD_OVERRIDES.contains(&folded.as_str())
            && facts.caller.is_none_or(|caller| caller.role != Role::Admin))
        || (facts.plain_body && matches!(name, "accept-encoding" | "range" | "if-range"))
        || (named.iter().any(|n| n == name) && name != "content-length")
}

fn carries_page_token(name: &HeaderName, value: &HeaderValue) -> bool {
    name == header::REFERER
        && value
            .as_bytes()
            .windows(super::path::TOKEN_PARAMETER.len())
            .any(|w| w == super::path::TOKEN_PARAMETER.as_bytes())
}

fn named_in_connection(given: &HeaderMap) -> Vec<String> {
    given
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| !token.is_empty())
        .collect()
}

/// Says where the request came from. What the caller says of it counts only when it comes from this machine, where
/// a reverse proxy in front of the host would run.
fn add_forwarded(out: &mut HeaderMap, given: &HeaderMap, facts: &Facts<'_>) {
    let from_here = facts.peer.is_some_and(|peer| peer.is_loopback());
    let said = |name: &str| given.get(name).and_then(|v| v.to_str().ok()).filter(|_| from_here);
    let chain = match (said("x-forwarded-for"), facts.peer) {
        (Some(before), Some(peer)) => Some(format!("{before}, {peer}")),
        (None, Some(peer)) => Some(peer.to_string()),
        _ => None,
    };
    let proto = said("x-forwarded-proto").filter(|p| matches!(*p, "http" | "https")).unwrap_or("http");
    insert(out, "x-forwarded-for", chain.as_deref());
    insert(out, "x-forwarded-proto", Some(proto));
    insert(out, "x-forwarded-host", facts.authority);
    insert(out, "x-forwarded-prefix", Some(&format!("{}{}", super::path::PREFIX, facts.plugin)));
}

fn add_identity(out: &mut HeaderMap, given: &HeaderMap, facts: &Facts<'_>) {
    if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", facts.secret)) {
        value.set_sensitive(true);
        out.insert(header::AUTHORIZATION, value);
    }
    insert(out, "x-temps-plugin", Some(facts.plugin));
    insert(out, "x-temps-request-id", Some(facts.request_id));
    if let Some(caller) = facts.caller {
        insert(out, "x-temps-user-id", Some(&caller_value(&caller.id)));
        insert(out, "x-temps-user-name", Some(&caller_value(&caller.name)));
        insert(out, "x-temps-user-email", caller.email.as_deref().map(caller_value).as_deref());
        insert(out, "x-temps-user-role", Some(caller.role.as_str()));
    }
    if facts.forward_authorization
        && let Some(own) = given.get(header::AUTHORIZATION)
    {
        out.insert(HeaderName::from_static("x-temps-forwarded-authorization"), own.clone());
    }
}

fn insert(out: &mut HeaderMap, name: &'static str, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        out.insert(HeaderName::from_static(name), value);
    }
}

/// A text about a caller as a header value: printable ASCII as it is, everything else (and `%`) percent-encoded
/// UTF-8, cut at a whole character.
fn caller_value(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim().chars() {
        let mut encoded = String::new();
        if (' '..='~').contains(&c) && c != '%' {
            encoded.push(c);
        } else {
            let mut bytes = [0u8; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        if out.len() + encoded.len() > MAX_CALLER_VALUE {
            break;
        }
        out.push_str(&encoded);
    }
    out
}

/// Passes a valid trace on, and begins one otherwise (W3C Trace Context, level 1).
fn add_trace(out: &mut HeaderMap, given: &HeaderMap) {
    let mut parents = given.get_all("traceparent").iter();
    if let (Some(parent), None) = (parents.next(), parents.next())
        && parent.to_str().is_ok_and(is_traceparent)
    {
        out.insert(HeaderName::from_static("traceparent"), parent.clone());
        for state in given.get_all("tracestate") {
            out.append(HeaderName::from_static("tracestate"), state.clone());
        }
        return;
    }
    let trace = uuid::Uuid::new_v4().simple().to_string();
    let span = uuid::Uuid::new_v4().simple().to_string();
    insert(out, "traceparent", Some(&format!("00-{trace}-{}-00", &span[..16])));
}

fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    let mut parts = text.splitn(5, '-');
    let (Some(version), Some(trace), Some(span), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let rest = parts.next();
    hex(version, 2)
        && version != "ff"
        && (version != "00" || rest.is_none())
        && hex(trace, 32)
        && !zero(trace)
        && hex(span, 16)
        && !zero(span)
        && hex(flags, 2)
}

/// Makes a plugin's response headers fit to be served from the host's origin.
pub(super) fn clean_response(fields: &mut HeaderMap, plugin: &str, authority: Option<&str>, ui: bool) {
    let named = named_in_connection(fields);
    let drop: Vec<HeaderName> = fields
        .keys()
        .filter(|name| {
            let name = name.as_str();
            HOP_BY_HOP.contains(&name)
                || NOT_FROM_PLUGINS.contains(&name)
                || name.starts_with("access-control-")
                || name.starts_with("x-temps-")
                || (named.iter().any(|n| n == name) && name != "content-length")
        })
        .cloned()
        .collect();
    for name in drop {
        fields.remove(name);
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        rewrite(fields, &name, |value| redirect::under_prefix(value, plugin, authority));
    }
    rewrite(fields, &header::REFRESH, |value| redirect::refresh_under_prefix(value, plugin, authority));
    if ui {
        // A page without an origin is foreign to its own files; a stricter word of the plugin would hide its images.
        fields.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        );
        // The same address gives the host's frame page to a tab, and the plugin's page to the frame.
        fields.append(header::VARY, HeaderValue::from_static("Origin, Sec-Fetch-Dest"));
    }
    add_page_rules(fields);
}

/// Adds what no response below the prefix goes without: the sandbox, no guessing of types, no referrer.
pub(super) fn add_page_rules(fields: &mut HeaderMap) {
    // Appended: a policy of the plugin's own stays in force beside it, and both must allow.
    fields.append(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

fn rewrite(fields: &mut HeaderMap, name: &HeaderName, change: impl Fn(&str) -> Option<String>) {
    let changed = fields.get(name).and_then(|value| value.to_str().ok()).and_then(change);
    if let Some(value) = changed.and_then(|value| HeaderValue::from_str(&value).ok()) {
        fields.insert(name.clone(), value);
    }
}

/// Lets a page without an origin read a response. Cookies are never allowed with it.
pub(super) fn allow_null_origin(fields: &mut HeaderMap) {
    fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("null"));
    fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    if !fields.get_all(header::VARY).iter().any(|v| v.to_str().is_ok_and(|v| v.contains("Origin"))) {
        fields.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_name_cannot_break_out_of_its_header() {
        assert_eq!(caller_value("Ada Lovelace"), "Ada Lovelace");
        assert_eq!(caller_value("a\r\nX-Temps-User-Role: admin"), "a%0D%0AX-Temps-User-Role: admin");
        assert_eq!(caller_value("Zoë 100%"), "Zo%C3%AB 100%25");
        let long = caller_value(&"ë".repeat(1000));
        assert!(long.len() <= MAX_CALLER_VALUE && long.ends_with("%AB"));
    }

    #[test]
    fn only_a_valid_traceparent_is_passed_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        assert!(is_traceparent(&format!("cc{}-later", &good[2..])));
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-x"),
            &format!("ff{}", &good[2..]),
            &good.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_traceparent(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_made_trace_is_valid_and_a_callers_bad_one_is_dropped_with_its_state() {
        let mut given = HeaderMap::new();
        given.insert("traceparent", HeaderValue::from_static("junk"));
        given.insert("tracestate", HeaderValue::from_static("a=b"));
        let mut out = HeaderMap::new();
        add_trace(&mut out, &given);
        assert!(is_traceparent(out["traceparent"].to_str().unwrap()));
        assert!(!out.contains_key("tracestate"));
    }
}
