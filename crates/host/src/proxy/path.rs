//! Paths: which plugin a request is for, what of its path goes on, and which paths never do.
//!
//! Everything here is pure and works on the text as it came. Nothing is decoded on its way to the plugin; decoding
//! is only for the checks, and those assume the most lenient plugin: one that decodes more than once, folds case,
//! merges slashes, takes backslashes for slashes and drops `;parameters`.

use temps_protocol::PluginName;

/// Where the plugins' routes begin.
pub(super) const PREFIX: &str = "/api/x/";

/// First segments that belong to the protocol between host and plugin, in upper case.
const RESERVED: [&str; 2] = ["_TEMPS", "_EVENTS"];

/// How often a path may be percent-encoded over itself. Nobody honest needs more than two.
const MAX_ENCODING_ROUNDS: usize = 4;

/// The query parameter that carries a page's token where a header cannot be set.
pub(super) const TOKEN_PARAMETER: &str = "_temps_token";

/// The query parameter that carries `Last-Event-ID` when the bridge opens an event stream again.
pub(super) const LAST_EVENT_PARAMETER: &str = "_temps_last_event_id";

/// A request's path, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Name of the plugin, checked.
    pub(super) plugin: &'a str,
    /// The path at the plugin, as it came; begins with a slash.
    pub(super) path: &'a str,
    /// The query, as it came, without its question mark.
    pub(super) query: Option<&'a str>,
    /// What the path is for.
    pub(super) place: Place,
}

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A route of the plugin.
    Route,
    /// A file of the plugin's page: `/ui` and everything below.
    Ui,
    /// The host's own files and doors beside a plugin's page: `/_temps/<what>`.
    Host(HostPlace),
}

/// The host's own places beside a plugin's page. The plugin never sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostPlace {
    /// The page around the plugin's page.
    Frame,
    /// Its script.
    FrameScript,
    /// Its style.
    FrameStyle,
    /// The script that is put into the plugin's page.
    Bridge,
    /// Where the frame page gets a token for the plugin's page.
    Token,
}

/// Why a path goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    /// No plugin can have this name, or the path is not below the prefix.
    #[error("there is no such plugin")]
    NoPlugin,
    /// It is the protocol's own.
    #[error("this path is not served to callers")]
    Reserved,
    /// It could leave the plugin's prefix.
    #[error("the path has `.` or `..` as a segment; send the path that you mean")]
    DotSegment,
    /// It cannot be checked.
    #[error("the path is encoded in a way that cannot be checked; encode it once, as UTF-8")]
    Encoding,
}

impl<'a> Target<'a> {
    /// Takes a path with its query apart, and refuses what must not reach a plugin.
    pub(super) fn parse(path_and_query: &'a str) -> Result<Self, PathError> {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let below = path.strip_prefix(PREFIX).ok_or(PathError::NoPlugin)?;
        let (plugin, path) = match below.find('/') {
            Some(slash) => below.split_at(slash),
            None => (below, "/"),
        };
        if PluginName::new(plugin).is_err() {
            return Err(PathError::NoPlugin);
        }
        let place = match host_place(path) {
            Some(place) => Place::Host(place),
            None => {
                check(path)?;
                if path == "/ui" || path.starts_with("/ui/") { Place::Ui } else { Place::Route }
            }
        };
        Ok(Self { plugin, path, query, place })
    }

    /// Path and query for the plugin: as they came, but without the parameters that the host reads itself.
    pub(super) fn onward(&self) -> String {
        match self.query {
            None => self.path.to_owned(),
            Some(query) if !query.contains("_temps_") => format!("{}?{query}", self.path),
            Some(query) => {
                let ours = [TOKEN_PARAMETER, LAST_EVENT_PARAMETER];
                let kept: Vec<&str> =
                    query.split('&').filter(|pair| !ours.contains(&parameter(pair).0)).collect();
                if kept.is_empty() {
                    self.path.to_owned()
                } else {
                    format!("{}?{}", self.path, kept.join("&"))
                }
            }
        }
    }

    /// The value of a query parameter, as it came; the first one counts.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.query?.split('&').map(parameter).find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

/// Decodes a query parameter's value, as far as it is text.
pub(super) fn decoded(value: &str) -> Option<String> {
    let value = value.replace('+', " ");
    String::from_utf8(decode_once(value.as_bytes()).unwrap_or(value.into_bytes())).ok()
}

fn parameter(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

fn host_place(path: &str) -> Option<HostPlace> {
    match path {
        "/_temps/frame" => Some(HostPlace::Frame),
        "/_temps/frame.js" => Some(HostPlace::FrameScript),
        "/_temps/frame.css" => Some(HostPlace::FrameStyle),
        "/_temps/bridge.js" => Some(HostPlace::Bridge),
        "/_temps/token" => Some(HostPlace::Token),
        _ => None,
    }
}

/// Refuses reserved first segments and dot segments, however they are written.
fn check(path: &str) -> Result<(), PathError> {
    let mut decoded = path.as_bytes().to_vec();
    let mut rounds = 0;
    loop {
        check_decoded(&decoded)?;
        match decode_once(&decoded) {
            None => return Ok(()),
            Some(_) if rounds == MAX_ENCODING_ROUNDS => return Err(PathError::Encoding),
            Some(next) => decoded = next,
        }
        rounds += 1;
    }
}

fn check_decoded(path: &[u8]) -> Result<(), PathError> {
    // 0xC0 and 0xC1 only occur in overlong UTF-8, which lenient decoders take for plain ASCII.
    if path.iter().any(|byte| matches!(byte, 0 | 0xC0 | 0xC1)) {
        return Err(PathError::Encoding);
    }
    let mut first = true;
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let segment = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        let segment = String::from_utf8_lossy(segment);
        let segment = segment.trim_matches(|c: char| c.is_whitespace() || c.is_control());
        if matches!(segment, "." | "..") {
            return Err(PathError::DotSegment);
        }
        if segment.is_empty() {
            continue;
        }
        if first && RESERVED.contains(&segment.to_uppercase().as_str()) {
            return Err(PathError::Reserved);
        }
        first = false;
    }
    Ok(())
}

/// Decodes each `%XX` once; `None` when there is none. What is malformed stays as it is.
fn decode_once(path: &[u8]) -> Option<Vec<u8>> {
    let hex = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16)).map(|d| d as u8);
    let mut out = Vec::with_capacity(path.len());
    let (mut at, mut changed) = (0, false);
    while at < path.len() {
        match (path[at], hex(path.get(at + 1)), hex(path.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                changed = true;
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn path_and_query_go_on_as_they_came() {
        for (given, onward) in [
            ("/api/x/hello", "/"),
            ("/api/x/hello?a=b", "/?a=b"),
            ("/api/x/hello/", "/"),
            ("/api/x/hello/a//b/?", "/a//b/?"),
            ("/api/x/hello/a%2Fb%20c/%zz;p=1?q=%41&q=?x", "/a%2Fb%20c/%zz;p=1?q=%41&q=?x"),
            ("/api/x/hello//evil.example/x", "//evil.example/x"),
            ("/api/x/hello/..a/b..", "/..a/b.."),
            ("/api/x/hello/s?_temps_token=tpu_1", "/s"),
            ("/api/x/hello/s?a=1&_temps_token=tpu_1&b=%26", "/s?a=1&b=%26"),
            ("/api/x/hello/s?a=_temps_token", "/s?a=_temps_token"),
            ("/api/x/hello/s?_temps_last_event_id=4&_temps_token=t&_temps_other=1", "/s?_temps_other=1"),
        ] {
            assert_eq!(Target::parse(given).map(|t| t.onward()), Ok(onward.to_owned()), "{given}");
        }
    }

    #[test]
    fn what_belongs_to_the_protocol_is_not_reached_however_it_is_written() {
        for path in [
            "_temps/channel",
            "_events",
            "_temps",
            "_events/",
            "_TEMPS/channel",
            "_Events",
            "/_events",
            "//_temps/x",
            "%5ftemps/channel",
            "%5Fevents",
            "_%74emps",
            "%255ftemps",
            "%25255ftemps/x",
            "\\_temps",
            "%5c_events",
            "%2f_events",
            "_events%2f",
            "_temps%2Fchannel",
            "_temps;a=b/channel",
            ";x/_temps/channel",
            "_event%c5%bf",
            "_temps%20/channel",
            "%20_temps",
            "_temps%09",
            "_temps/frame.js/",
            "_temps//frame.js",
            "_temps/Bridge.js",
        ] {
            assert_eq!(Target::parse(&format!("/api/x/hello/{path}")), Err(PathError::Reserved), "{path}");
        }
        for path in ["events", "temps", "a/_events", "_eventsx", "ui/_temps"] {
            assert!(Target::parse(&format!("/api/x/hello/{path}")).is_ok(), "{path}");
        }
    }

    #[test]
    fn dot_segments_and_what_cannot_be_checked_are_refused() {
        for path in [
            "..",
            ".",
            "a/../b",
            "a/./b",
            "%2e%2e/x",
            "a/%2E./b",
            "a%2f..%2fb",
            "a\\..\\b",
            "a/..%5cb",
            "..;/x",
            "a/..;v=1/b",
            "%252e%252e/x",
            "ui/../_temps/channel",
            "ui/%2e%2e/_events",
            "a/..%20/b",
        ] {
            assert_eq!(Target::parse(&format!("/api/x/hello/{path}")), Err(PathError::DotSegment), "{path}");
        }
        for path in ["_temps%00", "a%00b", "%c1%9ftemps", "%c0%ae%c0%ae/x", "%252525252561"] {
            assert_eq!(Target::parse(&format!("/api/x/hello/{path}")), Err(PathError::Encoding), "{path}");
        }
    }

    #[test]
    fn only_a_plugins_name_is_a_plugin() {
        for path in [
            "/api/x/",
            "/api/x//a",
            "/api/x/%68ello/a",
            "/api/x/Hello/a",
            "/api/x/../a",
            "/api/x/plugins/a",
            "/x",
        ] {
            assert_eq!(Target::parse(path), Err(PathError::NoPlugin), "{path}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_below_the_plugin_when_a_browser_resolves_it(tail in "[./\\\\%25efu_Ti;a-z]{0,24}") {
            if let Ok(target) = Target::parse(&format!("/api/x/hello/{tail}")) {
                prop_assert!(!matches!(target.place, Place::Host(_)) || tail.starts_with("_temps/"));
                // As the URL standard has it: a backslash is a slash, and `%2e` is a dot.
                let mut segments = tail.split(['/', '\\']).map(|s| s.to_lowercase().replace("%2e", "."));
                prop_assert!(segments.all(|s| s != "." && s != ".."), "{tail}");
            }
        }
    }
}
