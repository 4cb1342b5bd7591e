//! The rules that a manifest must keep, checked all at once and told in words that its author can act on.

use super::{ManifestError, ManifestProblem, PluginManifest};
use crate::data::Method;
use crate::event::is_pattern;
use crate::limits::{MAX_MANIFEST_ENTRIES, MAX_MANIFEST_TEXT};
use crate::name::PluginName;
use crate::storage::OwnMethod;

impl PluginManifest {
    /// Checks every rule of the manifest.
    ///
    /// # Errors
    /// [`ManifestError`] lists all broken rules at once, so that an author mends them in one go.
    pub fn check(&self) -> Result<(), ManifestError> {
        let mut found = Problems(Vec::new());
        self.check_identity(&mut found);
        self.check_paths(&mut found);
        self.check_wishes(&mut found);
        if found.0.is_empty() { Ok(()) } else { Err(ManifestError { problems: found.0 }) }
    }

    fn check_identity(&self, found: &mut Problems) {
        if let Err(error) = PluginName::new(self.name.as_str()) {
            found.add("name", error.to_string());
        }
        if self.version.is_empty()
            || self.version.len() > 64
            || !self.version.bytes().all(|b| b.is_ascii_graphic())
        {
            let message = format!(
                "{:?} is not a version; use a semantic version like \"1.0.0\"",
                shorten(&self.version)
            );
            found.add("version", message);
        }
        found.text("display_name", self.display_name.as_deref().unwrap_or_default());
        found.text("description", self.description.as_deref().unwrap_or_default());
        if let Some(wanted) = &self.api_version {
            // Which versions are spoken is for each host to say: a platform may have later ones of its own events.
            if parse_api_version(wanted).is_none() {
                found.add("api_version", format!("{:?} is not a version like \"1.0\"", shorten(wanted)));
            }
        }
    }

    fn check_paths(&self, found: &mut Problems) {
        if let Err(why) = check_route_path(&self.health_path) {
            found.add("health_path", why);
        }
        found.count("nav", self.nav.len());
        for (index, entry) in self.nav.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
            found.text(&format!("nav[{index}].label"), &entry.label);
            found.text(&format!("nav[{index}].icon"), &entry.icon);
            if entry.label.trim().is_empty() {
                found.add(&format!("nav[{index}].label"), "must not be empty".into());
            }
            if !entry.path.starts_with('/') || entry.path.contains("..") || entry.path.contains('\\') {
                found.add(
                    &format!("nav[{index}].path"),
                    "must begin with \"/\" and stay inside the plugin".into(),
                );
            }
            found.text(&format!("nav[{index}].path"), &entry.path);
        }
        found.count("public_paths", self.public_paths.len());
        for (index, path) in self.public_paths.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
            if let Err(why) = check_route_path(path) {
                found.add(&format!("public_paths[{index}]"), why);
            }
        }
    }

    fn check_wishes(&self, found: &mut Problems) {
        found.count("events", self.events.len());
        for (index, pattern) in self.events.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
            if !is_pattern(pattern) {
                let message = format!(
                    "{:?} is neither an event type like \"deployment.succeeded\" nor a pattern like \"deployment.*\"",
                    shorten(pattern)
                );
                found.add(&format!("events[{index}]"), message);
            }
        }
        if let Some(permissions) = &self.permissions {
            found.count("permissions.methods", permissions.methods.len());
            for (index, method) in permissions.methods.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
                if Method::parse(method).is_none() {
                    let known = Method::ALL.map(Method::as_str).join(", ");
                    let message = if OwnMethod::parse(method).is_some() {
                        format!("{method:?} needs no permission; leave it out")
                    } else {
                        format!("{:?} is not a method; known are {known}", shorten(method))
                    };
                    found.add(&format!("permissions.methods[{index}]"), message);
                }
            }
        }
        if let Some(egress) = &self.egress {
            found.count("egress", egress.len());
            for (index, target) in egress.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
                if !is_egress_target(target) {
                    found.add(&format!("egress[{index}]"), format!("{:?} is not a public host name, with an optional port; IP addresses are not allowed", shorten(target)));
                }
            }
        }
        if let Some(config) = &self.config
            && !config.is_object()
        {
            found.add("config", "must be a JSON Schema, that is an object".into());
        }
        found.count("filters", self.filters.len());
        for (index, filter) in self.filters.iter().enumerate().take(MAX_MANIFEST_ENTRIES) {
            let known = matches!(filter.path.as_str(), "project_id" | "environment_id")
                || filter.path.starts_with("data.");
            if !known {
                found.add(
                    &format!("filters[{index}].path"),
                    "must be project_id, environment_id, or begin with \"data.\"".into(),
                );
            }
        }
    }
}

/// Reads `1`, `1.0` or `1.0.0` as major and minor version.
#[must_use]
pub fn parse_api_version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().map_or(Ok(0), str::parse).ok()?;
    match parts.next().map(str::parse::<u64>) {
        None | Some(Ok(_)) if parts.next().is_none() => Some((major, minor)),
        _ => None,
    }
}

/// Checks a path that the host will ask for or open: absolute, plain, and not one of the host's own.
fn check_route_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("must begin with \"/\"".into());
    }
    if path.len() > 256
        || path.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'%' | b'?' | b'#' | b'\\'))
    {
        return Err("must be at most 256 plain characters, without % ? # \\ and spaces".into());
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err("must not have \".\" or \"..\" segments".into());
    }
    if path.split('/').nth(1).is_some_and(|first| first == "_temps" || first == "_events") {
        return Err("/_temps and /_events belong to the host".into());
    }
    Ok(())
}

/// Whether `target` is `name`, `name:port`, `*.name` or `*` (any public name).
fn is_egress_target(target: &str) -> bool {
    let (name, port) = match target.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (target, None),
    };
    let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let name = name.strip_prefix("*.").unwrap_or(name);
    let label_is_good = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    port_is_good
        && !is_address
        && name.len() <= 253
        && (name == "*" || (name.contains('.') && name.split('.').all(label_is_good)))
}

struct Problems(Vec<ManifestProblem>);

impl Problems {
    fn add(&mut self, field: &str, message: String) {
        self.0.push(ManifestProblem { field: field.to_owned(), message });
    }

    fn text(&mut self, field: &str, text: &str) {
        if text.len() > MAX_MANIFEST_TEXT {
            self.add(field, format!("has {} bytes; at most {MAX_MANIFEST_TEXT} are allowed", text.len()));
        }
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            self.add(field, "has control characters".into());
        }
    }

    fn count(&mut self, field: &str, count: usize) {
        if count > MAX_MANIFEST_ENTRIES {
            self.add(field, format!("has {count} entries; at most {MAX_MANIFEST_ENTRIES} are allowed"));
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Permissions;

    fn problems_of(manifest: &PluginManifest) -> Vec<String> {
        manifest.check().unwrap_err().problems.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn all_problems_are_listed_at_once() {
        let manifest = PluginManifest::builder("Bad Name", "")
            .event("deployment")
            .health_path("/_temps/x")
            .egress("127.0.0.1")
            .public_path("/a/../b")
            .permissions(Permissions { methods: vec!["drop".into()], projects: None })
            .build();
        assert_eq!(
            problems_of(&manifest),
            [
                "name",
                "version",
                "health_path",
                "public_paths[0]",
                "events[0]",
                "permissions.methods[0]",
                "egress[0]"
            ]
        );
    }

    #[test]
    fn a_later_major_version_is_refused_and_a_later_minor_is_not() {
        let with = |version: &str| PluginManifest::builder("a", "1.0.0").api_version(version).build();
        assert!(
            with("1").check().is_ok()
                && with("1.7").check().is_ok()
                && with("2.0").check().is_ok()
                && with("1.0.3").check().is_ok()
        );
        assert_eq!(problems_of(&with("one")), ["api_version"]);
    }

    #[test]
    fn egress_targets_are_public_names() {
        for good in ["hooks.slack.com", "*.example.com", "api.example.com:8443", "*"] {
            assert!(is_egress_target(good), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "10.0.0.1",
            "::1",
            "a.b:0",
            "a.b:99999",
            "*.*.com",
            "http://a.b",
            "a b.c",
            "-a.b",
        ] {
            assert!(!is_egress_target(bad), "{bad}");
        }
    }
}
