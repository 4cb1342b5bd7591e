//! Redirects: a plugin names its own paths as if it were alone; they are put back under its prefix.

use super::path::PREFIX;

/// The place that a plugin's `Location` names, under the plugin's prefix; `None` when it needs no change.
///
/// Changed are absolute paths, and absolute addresses of the host itself: `localhost`, which the plugin was given as
/// its name, or the name that the caller used, which the plugin may know from `X-Forwarded-Host`. Relative places
/// resolve under the prefix by themselves, and other hosts are left alone.
pub(super) fn under_prefix(location: &str, plugin: &str, authority: Option<&str>) -> Option<String> {
    let location = location.trim();
    let path = own_path(location, authority)?;
    let prefix = format!("{PREFIX}{plugin}");
    let (path, tail) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    let path = without_dot_segments(path);
    let inside = path.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let full = if inside { format!("{path}{tail}") } else { format!("{prefix}{path}{tail}") };
    (full != location).then_some(full)
}

/// The same for the address in a `Refresh` header (`5; url=/ui/`).
pub(super) fn refresh_under_prefix(value: &str, plugin: &str, authority: Option<&str>) -> Option<String> {
    let at = value.to_ascii_lowercase().find("url=")? + "url=".len();
    let (head, location) = value.split_at(at);
    let location = location.trim().trim_matches(['"', '\'']);
    Some(format!("{head}{}", under_prefix(location, plugin, authority)?))
}

/// The absolute path that `location` names on this host, or `None` when it names something else.
fn own_path<'a>(location: &'a str, authority: Option<&str>) -> Option<&'a str> {
    let after_scheme = ["http://", "https://", "//"]
        .iter()
        .find_map(|scheme| location.get(..scheme.len()).filter(|s| s.eq_ignore_ascii_case(scheme)))
        .map(|scheme| &location[scheme.len()..]);
    let Some(rest) = after_scheme else {
        return location.starts_with('/').then_some(location);
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let given_name = ["localhost", "localhost:80", "localhost:443"];
    let ours = given_name.iter().copied().chain(authority).any(|name| name.eq_ignore_ascii_case(host));
    ours.then_some(if path.is_empty() { "/" } else { path })
}

/// Resolves `.` and `..` as a browser would, so that a path cannot look as if it were inside and then leave.
fn without_dot_segments(path: &str) -> String {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let plain = path.replace('\\', "/");
    let is_dot = |s: &str| matches!(s.to_ascii_lowercase().as_str(), "." | "%2e");
    let is_up = |s: &str| matches!(s.to_ascii_lowercase().as_str(), ".." | ".%2e" | "%2e." | "%2e%2e");
    if !plain.split('/').any(|s| is_dot(s) || is_up(s)) {
        return path;
    }
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = plain.split('/').skip(1).collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        if is_up(segment) {
            kept.pop();
        } else if !is_dot(segment) {
            kept.push(segment);
            continue;
        }
        if last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_redirects_are_put_back_under_the_prefix() {
        for (given, expected) in [
            ("/ui/", Some("/api/x/hello/ui/")),
            ("/", Some("/api/x/hello/")),
            ("/ui/?a=/b#c", Some("/api/x/hello/ui/?a=/b#c")),
            ("http://localhost/ui/", Some("/api/x/hello/ui/")),
            ("HTTP://LOCALHOST:80/ui/", Some("/api/x/hello/ui/")),
            ("http://localhost", Some("/api/x/hello/")),
            ("http://localhost?x", Some("/api/x/hello/?x")),
            ("//localhost/ui", Some("/api/x/hello/ui")),
            ("https://console.example:8443/ui/", Some("/api/x/hello/ui/")),
            ("/api/x/other/ui/", Some("/api/x/hello/api/x/other/ui/")),
            ("/api/x/hello2/", Some("/api/x/hello/api/x/hello2/")),
            ("/api/x/hello/../../plugins", Some("/api/x/hello/api/plugins")),
            ("/api/x/hello/%2e%2e/%2E./plugins/..", Some("/api/x/hello/api/")),
            ("/api/x/hello\\..\\..\\plugins", Some("/api/x/hello/api/plugins")),
            ("/\\evil.example", Some("/api/x/hello/\\evil.example")),
            ("/api/x/hello/ui/", None),
            ("/api/x/hello", None),
            ("ui/", None),
            ("../x", None),
            ("https://example.com/ui/", None),
            ("http://localhost.example.com/", None),
            ("http://localhost:3000/", None),
            ("//example.com/", None),
            ("mailto:a@b", None),
            ("", None),
        ] {
            assert_eq!(
                under_prefix(given, "hello", Some("console.example:8443")).as_deref(),
                expected,
                "{given}"
            );
        }
    }

    #[test]
    fn a_refresh_is_put_back_too() {
        assert_eq!(
            refresh_under_prefix("5; URL='/ui/'", "hello", None).as_deref(),
            Some("5; URL=/api/x/hello/ui/")
        );
        assert_eq!(refresh_under_prefix("5", "hello", None), None);
        assert_eq!(refresh_under_prefix("5;url=https://example.com/", "hello", None), None);
    }
}
