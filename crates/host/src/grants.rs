//! Grants: what a plugin asks for, what the default policy gives, and what it may do now.
//!
//! Everything here is pure: a manifest and the grants that are there go in, a decision comes out. The plugin's actor acts on it.

use temps_protocol::PluginManifest;
use temps_protocol::data::Method;
use temps_protocol::event::{is_pattern, pattern_matches};
use temps_sandbox::Limits;
use temps_store::GrantRecord;

use crate::config::GrantsDefault;

/// The port of a declared host without a port, and the only one that the default policy gives.
const HTTPS_PORT: u16 = 443;

/// What one plugin may do, ready to be asked on every call. Shared as a watch, so a revocation works at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Data methods that it may call.
    pub methods: Vec<Method>,
    /// Event patterns that it may receive.
    pub events: Vec<String>,
    /// Projects that it may see; `None` for all.
    pub projects: Option<Vec<i32>>,
    /// Paths that it may serve to anonymous callers; a path covers itself and everything below it.
    pub public_paths: Vec<String>,
    /// Hosts that it may reach, as `name:port`, `*.name:port` or `*:port`.
    pub egress: Vec<String>,
    /// Limits beyond the defaults, as `memory_max=512M`.
    pub limits: Vec<String>,
    /// The database that it may have.
    pub database: Option<Engine>,
}

/// What a plugin's own database is made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A SQLite file in its data directory.
    Sqlite,
    /// A database on the operator's PostgreSQL server.
    Postgres,
}

/// Grants of a database: the plugin's own file, and one on the operator's server.
const OWN_FILE: &str = "own";
const ON_SERVER: &str = "postgres";

impl Grants {
    /// What these records allow together.
    #[must_use]
    pub fn from_records(records: &[GrantRecord]) -> Self {
        let of = |kind: &str| {
            let kind = kind.to_owned();
            records.iter().filter(move |record| record.kind == kind).map(|record| record.value.clone())
        };
        let all_projects = of("project").any(|value| value == "*");
        Self {
            methods: of("method").filter_map(|value| Method::parse(&value)).collect(),
            events: of("event").collect(),
            projects: (!all_projects).then(|| of("project").filter_map(|value| value.parse().ok()).collect()),
            public_paths: of("public_path").collect(),
            egress: of("egress").collect(),
            limits: of("limit").collect(),
            database: if of("database").any(|value| value == ON_SERVER) {
                Some(Engine::Postgres)
            } else {
                of("database").next().map(|_| Engine::Sqlite)
            },
        }
    }

    /// Whether the plugin may call `method`.
    #[must_use]
    pub fn allows_method(&self, method: Method) -> bool {
        self.methods.contains(&method)
    }

    /// Whether the plugin may see a project.
    #[must_use]
    pub fn allows_project(&self, project_id: i32) -> bool {
        self.projects.as_ref().is_none_or(|projects| projects.contains(&project_id))
    }

    /// Whether the plugin may receive events of a type.
    #[must_use]
    pub fn allows_event(&self, event_type: &str) -> bool {
        self.events.iter().any(|pattern| pattern_matches(pattern, event_type))
    }

    /// Whether the plugin may answer anonymous callers at `path`.
    #[must_use]
    pub fn allows_public_path(&self, path: &str) -> bool {
        self.public_paths.iter().any(|granted| path_covers(granted, path))
    }
}

/// One permission that a plugin asks for, in the words of a [`GrantRecord`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// Kind of permission, as in [`GrantRecord::kind`].
    pub kind: &'static str,
    /// What exactly, as in [`GrantRecord::value`].
    pub value: String,
}

/// A permission that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// There is no such kind.
    #[error(
        "{0:?} is not a kind of grant; known are method, event, project, egress, public_path, limit, database"
    )]
    UnknownKind(String),
    /// The value does not fit its kind.
    #[error("{value:?} is not a {kind}; {hint}")]
    BadValue {
        /// The kind.
        kind: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        hint: &'static str,
    },
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.value)
    }
}

impl Wish {
    /// Checks a permission that an operator wrote down.
    ///
    /// # Errors
    /// [`WishError`] says what would be right.
    pub fn parse(kind: &str, value: &str) -> Result<Self, WishError> {
        let (kind, good, hint) = match kind {
            "method" => ("method", Method::parse(value).is_some(), "use the name of a data method"),
            "event" => ("event", is_pattern(value), "use a type, `prefix.*` or `*`"),
            "project" => {
                ("project", value == "*" || value.parse::<i32>().is_ok(), "use a project's id or `*`")
            }
            "egress" => ("egress", is_target(value), "use `name`, `name:port` or `*.name`"),
            "public_path" => ("public_path", value.starts_with('/'), "use a path that begins with `/`"),
            "limit" => ("limit", limit_amount(value).is_some(), "use for example `memory_max=512M`"),
            "database" => (
                "database",
                value == OWN_FILE || value == ON_SERVER,
                "use `own` for a SQLite file or `postgres` for a database on the operator's server",
            ),
            _ => return Err(WishError::UnknownKind(kind.chars().take(40).collect())),
        };
        if !good {
            return Err(WishError::BadValue { kind, value: value.chars().take(120).collect(), hint });
        }
        let value = if kind == "egress" { with_port(value) } else { value.to_owned() };
        Ok(Self { kind, value })
    }

    /// Whether the default policy may give this without an operator.
    #[must_use]
    pub fn is_default(&self) -> bool {
        match self.kind {
            "event" | "method" | "project" => true,
            "egress" => self.value.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(HTTPS_PORT)),
            "limit" => limit_amount(&self.value).is_some_and(|(default, asked)| asked <= default),
            // A file in its own directory is no more than it has anyway.
            "database" => self.value == OWN_FILE,
            _ => false,
        }
    }

    /// Whether this is a limit whose amount cannot be read.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.kind == "limit" && limit_amount(&self.value).is_none()
    }

    /// Whether a grant of `kind` and `value` takes this in.
    fn is_covered_by(&self, kind: &str, value: &str) -> bool {
        if kind != self.kind {
            return false;
        }
        match self.kind {
            "event" => pattern_covers(value, &self.value),
            "project" => value == "*" || value == self.value,
            "egress" => target_covers(value, &self.value),
            "public_path" => path_covers(value, &self.value),
            // It asks for a database, whichever.
            "database" => true,
            "limit" => match (limit_amount(value), limit_amount(&self.value)) {
                (Some((_, granted)), Some((_, asked))) => {
                    limit_name(value) == limit_name(&self.value) && asked <= granted
                }
                _ => false,
            },
            _ => value == self.value,
        }
    }
}

/// Everything that a manifest asks for.
#[must_use]
pub fn wishes(manifest: &PluginManifest) -> Vec<Wish> {
    let mut wishes = Vec::new();
    let mut add = |kind: &'static str, value: String| wishes.push(Wish { kind, value });
    manifest.events.iter().for_each(|pattern| add("event", pattern.clone()));
    match &manifest.permissions {
        None => Method::ALL.iter().for_each(|method| add("method", method.as_str().to_owned())),
        Some(asked) => asked.methods.iter().for_each(|method| add("method", method.clone())),
    }
    match manifest.permissions.as_ref().and_then(|asked| asked.projects.as_ref()) {
        None => add("project", "*".to_owned()),
        Some(ids) => ids.iter().for_each(|id| add("project", id.to_string())),
    }
    match &manifest.egress {
        None => add("egress", format!("*:{HTTPS_PORT}")),
        Some(targets) => targets.iter().for_each(|target| add("egress", with_port(target))),
    }
    manifest.public_paths.iter().for_each(|path| add("public_path", path.clone()));
    if let Some(asked) = &manifest.resources {
        let limits = [
            ("memory_max", asked.memory_max.clone()),
            ("cpu_quota", asked.cpu_quota.clone()),
            ("tasks_max", asked.tasks_max.map(|n| n.to_string())),
            ("nofile", asked.nofile.map(|n| n.to_string())),
            ("disk_max", asked.disk_max.clone()),
        ];
        for (name, value) in limits {
            if let Some(value) = value {
                add("limit", format!("{name}={value}"));
            }
        }
    }
    if manifest.requires_db {
        add("database", OWN_FILE.to_owned());
    }
    wishes.sort();
    wishes.dedup();
    wishes
}

/// What to do with a manifest that wants to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// To be given by the default policy when the manifest is taken up.
    pub by_default: Vec<Wish>,
    /// What an operator must grant before the manifest may run.
    pub missing: Vec<Wish>,
}

/// Judges a manifest: `accepted` is the one that ran last (`None` when none ever did), `granted` what is there.
///
/// A wish of the accepted manifest that is not granted any more was revoked: it is neither given again nor waited for. A database
/// is waited for nevertheless, because a plugin that requires one cannot work without.
#[must_use]
pub fn judge(
    manifest: &PluginManifest,
    accepted: Option<&PluginManifest>,
    granted: &[GrantRecord],
    policy: GrantsDefault,
) -> Verdict {
    let known = accepted.map(wishes).unwrap_or_default();
    let mut verdict = Verdict::default();
    for wish in wishes(manifest) {
        let is_granted = granted.iter().any(|grant| wish.is_covered_by(&grant.kind, &grant.value));
        let was_there = known.iter().any(|old| wish.is_covered_by(old.kind, &old.value));
        if is_granted || (was_there && wish.kind != "database") {
            continue;
        }
        let first_sight = accepted.is_none();
        if first_sight && policy == GrantsDefault::Allow && wish.is_default() {
            verdict.by_default.push(wish);
        } else if wish.kind == "limit" && wish.is_default() {
            // Asking for no more than everybody has is not asking.
        } else {
            verdict.missing.push(wish);
        }
    }
    verdict
}

/// What a manifest asks for and does not have, also what was revoked.
#[must_use]
pub fn ungranted(manifest: &PluginManifest, granted: &[GrantRecord]) -> Vec<Wish> {
    let is_open = |wish: &Wish| {
        let is_granted = granted.iter().any(|grant| wish.is_covered_by(&grant.kind, &grant.value));
        let is_everybodys = wish.kind == "limit" && wish.is_default();
        !is_granted && !is_everybodys
    };
    wishes(manifest).into_iter().filter(is_open).collect()
}

fn path_covers(granted: &str, path: &str) -> bool {
    let granted = granted.trim_end_matches('/');
    path.strip_prefix(granted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether one event pattern takes in everything that another one does.
fn pattern_covers(wide: &str, narrow: &str) -> bool {
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

fn with_port(target: &str) -> String {
    if target.contains(':') { target.to_owned() } else { format!("{target}:{HTTPS_PORT}") }
}

/// Whether this is `name:port`, without a wildcard.
pub(crate) fn is_exact_target(target: &str) -> bool {
    target.contains(':') && !target.contains('*') && is_target(target)
}

/// An operator's egress target is one that a manifest could ask for; the manifest's own check says so.
fn is_target(target: &str) -> bool {
    PluginManifest::builder("a", "1").egress(target).build().check().is_ok()
}

fn limit_name(limit: &str) -> &str {
    limit.split_once('=').map_or(limit, |(name, _)| name)
}

/// The default and the asked amount of a limit `name=value`, in the limit's unit.
fn limit_amount(limit: &str) -> Option<(u64, u64)> {
    let (name, value) = limit.split_once('=')?;
    let default = Limits::default();
    match name {
        "memory_max" => Some((default.memory_max, bytes(value)?)),
        "disk_max" => Some((default.disk_max, bytes(value)?)),
        "cpu_quota" => Some((default.cpu_quota.into(), percent(value)?.into())),
        "tasks_max" => Some((default.tasks_max, value.parse().ok()?)),
        "nofile" => Some((default.nofile, value.parse().ok()?)),
        _ => None,
    }
}

/// Raises the limit that a grant is about, if the grant is for more than everybody has.
pub(crate) fn raise(limits: &mut Limits, grant: &str) {
    let Some((default, amount)) = limit_amount(grant) else { return };
    if amount <= default {
        return;
    }
    match limit_name(grant) {
        "memory_max" => limits.memory_max = limits.memory_max.max(amount),
        "disk_max" => limits.disk_max = limits.disk_max.max(amount),
        "cpu_quota" => limits.cpu_quota = limits.cpu_quota.max(u32::try_from(amount).unwrap_or(u32::MAX)),
        "tasks_max" => limits.tasks_max = limits.tasks_max.max(amount),
        "nofile" => limits.nofile = limits.nofile.max(amount),
        _ => {}
    }
}

/// Reads `25%`, in percent of one processor.
#[must_use]
pub fn percent(text: &str) -> Option<u32> {
    text.trim().strip_suffix('%')?.trim().parse().ok()
}

/// Reads `1048576`, `256M`, `1G`, `64K`, each also with `B` or `iB` behind the unit.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let factor = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use temps_protocol::{Permissions, Resources};

    fn manifest() -> temps_protocol::PluginManifestBuilder {
        PluginManifest::builder("hello", "1.0.0")
    }

    fn granted(wishes: &[Wish]) -> Vec<GrantRecord> {
        wishes
            .iter()
            .map(|wish| GrantRecord {
                plugin: "hello".into(),
                kind: wish.kind.into(),
                value: wish.value.clone(),
                granted_by: "default".into(),
                granted_at: chrono::Utc::now(),
            })
            .collect()
    }

    fn texts(wishes: &[Wish]) -> Vec<String> {
        wishes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_plugin_and_slack_notifier_run_at_once() {
        let slack = manifest()
            .event("deployment.succeeded")
            .egress("hooks.slack.com")
            .permissions(Permissions { methods: vec!["get_project".into()], projects: None })
            .build();
        for asks in [manifest().event("deployment.*").build(), slack.clone()] {
            let verdict = judge(&asks, None, &[], GrantsDefault::Allow);
            assert_eq!(verdict.missing, [], "{asks:?}");
        }
        let given = judge(&slack, None, &[], GrantsDefault::Allow).by_default;
        assert_eq!(
            texts(&given),
            ["egress hooks.slack.com:443", "event deployment.succeeded", "method get_project", "project *"]
        );
        let grants = Grants::from_records(&granted(&given));
        assert!(grants.allows_method(Method::GetProject) && !grants.allows_method(Method::ListProjects));
        assert!(grants.allows_event("deployment.succeeded") && !grants.allows_event("deployment.failed"));
        assert!(grants.allows_project(42) && !grants.allows_public_path("/"));
    }

    #[test]
    fn nothing_is_given_when_the_policy_is_to_hold() {
        let verdict = judge(&manifest().event("a.b").build(), None, &[], GrantsDefault::Hold);
        assert_eq!(verdict.by_default, []);
        assert!(texts(&verdict.missing).contains(&"event a.b".to_owned()));
    }

    #[test]
    fn a_database_is_a_file_by_default_and_a_revoked_one_is_waited_for() {
        let asks =
            manifest().requires_db(true).permissions(Permissions::default()).egress("x.example").build();
        let given = judge(&asks, None, &[], GrantsDefault::Allow).by_default;
        assert!(texts(&given).contains(&"database own".to_owned()), "{given:?}");
        let rest: Vec<Wish> = given.into_iter().filter(|wish| wish.kind != "database").collect();
        let verdict = judge(&asks, Some(&asks), &granted(&rest), GrantsDefault::Allow);
        assert_eq!(texts(&verdict.missing), ["database own"]);
        assert_eq!(Grants::from_records(&granted(&rest)).database, None);
        let server = [rest, vec![Wish::parse("database", "postgres").unwrap()]].concat();
        assert_eq!(judge(&asks, Some(&asks), &granted(&server), GrantsDefault::Allow), Verdict::default());
        let both = [server, vec![Wish::parse("database", "own").unwrap()]].concat();
        assert_eq!(Grants::from_records(&granted(&both)).database, Some(Engine::Postgres));
    }

    #[test]
    fn what_goes_beyond_the_default_waits_for_an_operator() {
        let asks = manifest()
            .egress("db.example.com:5432")
            .public_path("/hook")
            .requires_db(true)
            .resources(Resources {
                memory_max: Some("512M".into()),
                cpu_quota: Some("25%".into()),
                ..Default::default()
            })
            .build();
        let verdict = judge(&asks, None, &[], GrantsDefault::Allow);
        assert_eq!(
            texts(&verdict.missing),
            ["egress db.example.com:5432", "limit memory_max=512M", "public_path /hook"]
        );
        let all = granted(&verdict.missing);
        assert_eq!(judge(&asks, None, &all, GrantsDefault::Allow).missing, []);
    }

    #[test]
    fn a_new_version_gets_nothing_new_by_default_and_nothing_back_that_was_revoked() {
        let old = manifest().event("deployment.succeeded").egress("a.example.com").build();
        let mut grants = granted(&judge(&old, None, &[], GrantsDefault::Allow).by_default);
        grants.retain(|grant| grant.value != "get_project");
        assert_eq!(judge(&old, Some(&old), &grants, GrantsDefault::Allow), Verdict::default());
        assert_eq!(texts(&ungranted(&old, &grants)), ["method get_project"]);

        let new = manifest().event("deployment.*").egress("a.example.com").egress("b.example.com").build();
        let verdict = judge(&new, Some(&old), &grants, GrantsDefault::Allow);
        assert_eq!(verdict.by_default, []);
        assert_eq!(texts(&verdict.missing), ["egress b.example.com:443", "event deployment.*"]);
    }

    #[test]
    fn a_wide_grant_takes_in_a_narrow_wish_and_never_the_other_way_round() {
        for (kind, wide, narrow) in [
            ("event", "*", "deployment.*"),
            ("event", "deployment.*", "deployment.ready"),
            ("project", "*", "7"),
            ("egress", "*:443", "hooks.slack.com"),
            ("egress", "*.example.com", "api.example.com"),
            ("public_path", "/hooks", "/hooks/github"),
            ("limit", "memory_max=1G", "memory_max=512M"),
        ] {
            let wish = |value: &str| Wish::parse(kind, value).unwrap();
            let (wide, narrow) = (wish(wide), wish(narrow));
            assert!(narrow.is_covered_by(wide.kind, &wide.value), "{wide} should cover {narrow}");
            assert!(!wide.is_covered_by(narrow.kind, &narrow.value), "{narrow} should not cover {wide}");
        }
        let wish = Wish::parse("egress", "evilexample.com").unwrap();
        assert!(!wish.is_covered_by("egress", "*.example.com:443"));
    }

    #[test]
    fn a_grant_that_makes_no_sense_is_refused_in_words() {
        for (kind, value) in [
            ("root", "x"),
            ("method", "drop_database"),
            ("event", "deployment"),
            ("project", "seven"),
            ("egress", "127.0.0.1"),
            ("public_path", "hook"),
            ("limit", "memory_max=much"),
        ] {
            assert!(Wish::parse(kind, value).is_err(), "{kind} {value}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(bytes("256M"), Some(256 << 20));
        assert_eq!(bytes("1GiB"), Some(1 << 30));
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!(bytes("12Q"), None);
        assert_eq!(bytes("99999999999999G"), None);
    }

    proptest! {
        #[test]
        fn a_grant_always_takes_in_the_wish_that_it_was_made_for(
            events in prop::collection::vec("[a-z]{1,5}\\.([a-z]{1,5}|\\*)", 0..5),
            paths in prop::collection::vec("/[a-z]{1,5}", 0..3),
            ids in prop::option::of(prop::collection::vec(0i32..9, 0..3)),
        ) {
            let mut asks = manifest().permissions(Permissions { methods: Vec::new(), projects: ids }).build();
            asks.events = events;
            asks.public_paths = paths;
            let everything = granted(&wishes(&asks));
            prop_assert_eq!(ungranted(&asks, &everything), []);
            prop_assert_eq!(judge(&asks, None, &everything, GrantsDefault::Hold), Verdict::default());
        }
    }
}
