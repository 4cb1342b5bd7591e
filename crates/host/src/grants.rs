//! Grants: what a plugin asks for, what the default policy gives, and what it may do now.
//!
//! Everything here is pure: a manifest and the grants that are there go in, a decision comes out. The plugin's actor acts on it.

mod covers;
mod limits;
#[cfg(test)]
mod tests;

use temps_protocol::PluginManifest;
use temps_protocol::data::Method;
use temps_protocol::event::{is_pattern, pattern_matches};
use temps_store::GrantRecord;

pub(crate) use self::covers::is_exact_target;
pub use self::covers::target_covers;
use self::covers::{is_target, path_covers, pattern_covers, with_port};
pub(crate) use self::limits::raise;
pub use self::limits::{bytes, percent};
use self::limits::{limit_amount, limit_name};

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
