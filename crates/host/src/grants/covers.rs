//! Whether one grant takes in what another one is about: paths, patterns of events, hosts outside.

use temps_protocol::PluginManifest;
use temps_protocol::event::pattern_matches;

use super::HTTPS_PORT;

pub(super) fn path_covers(granted: &str, path: &str) -> bool {
    let granted = granted.trim_end_matches('/');
    path.strip_prefix(granted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether one event pattern takes in everything that another one does.
pub(super) fn pattern_covers(wide: &str, narrow: &str) -> bool {
    match narrow.strip_suffix('*') {
        Some("") => wide == "*",
        Some(prefix) => {
            wide == "*"
                || wide.strip_suffix('*').is_some_and(|wide| !wide.is_empty() && prefix.starts_with(wide))
        }
        None => pattern_matches(wide, narrow),
    }
}

/// Whether one egress target (`name:port`, `*.name:port`, `*:port`) takes in another one.
#[must_use]
pub fn target_covers(wide: &str, narrow: &str) -> bool {
    let (wide, narrow) = (with_port(wide), with_port(narrow));
    let (Some((wide, wide_port)), Some((narrow, narrow_port))) =
        (wide.rsplit_once(':'), narrow.rsplit_once(':'))
    else {
        return false;
    };
    let name_fits = wide == "*"
        || wide == narrow
        || wide.strip_prefix('*').is_some_and(|tail| tail.len() > 1 && narrow.ends_with(tail));
    wide_port == narrow_port && name_fits
}

pub(super) fn with_port(target: &str) -> String {
    if target.contains(':') { target.to_owned() } else { format!("{target}:{HTTPS_PORT}") }
}

/// Whether this is `name:port`, without a wildcard.
pub(crate) fn is_exact_target(target: &str) -> bool {
    target.contains(':') && !target.contains('*') && is_target(target)
}

/// An operator's egress target is one that a manifest could ask for; the manifest's own check says so.
pub(super) fn is_target(target: &str) -> bool {
    PluginManifest::builder("a", "1").egress(target).build().check().is_ok()
}
