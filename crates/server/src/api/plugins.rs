//! Plugins, their grants and their logs as REST takes and gives them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::deliveries::DeliveryProgress;

/// A plugin as it was last measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plugin {
    /// Name of the plugin, or of its file while the name is not known.
    pub name: String,
    /// Name for people.
    pub display_name: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// `discovered`, `inspecting`, `held`, `starting`, `awaiting_ready`, `connecting`, `running`, `draining`, `stopped`,
    /// `backoff`, `quarantined`, `disabled`, `refused` or `gone`.
    pub state: String,
    /// Why it stands there and what to do, when that is not obvious.
    pub reason: Option<String>,
    /// The file or directory that it comes from.
    pub file: String,
    /// SHA-256 of what runs (or would), in hexadecimal.
    pub hash: Option<String>,
    /// Its manifest, as the host read it.
    #[schema(value_type = Option<Object>)]
    pub manifest: Option<serde_json::Value>,
    /// Whether it has a page.
    pub has_ui: bool,
    /// Where its page is, below the daemon's address; `null` without one.
    pub ui_url: Option<String>,
    /// `open`, `none` (it runs without one) or `lost`; `null` while it does not run.
    pub channel: Option<String>,
    /// Features in force.
    pub features: Vec<String>,
    /// `ok`, `failing`, `unknown` or `suspended`; `null` while it does not run.
    pub health: Option<String>,
    /// Process id as the host sees it.
    pub pid: Option<u32>,
    /// What keeps it together: `pid_namespace` or `process_group`.
    pub containment: Option<String>,
    /// When this start became running.
    pub running_since: Option<DateTime<Utc>>,
    /// What it used last; `null` while it does not run, and before the first measurement.
    pub usage: Option<Usage>,
    /// When it is tried again, in backoff and quarantine.
    pub next_start_at: Option<DateTime<Utc>>,
    /// Starts since the daemon started.
    pub starts: u64,
    /// Crashes since the daemon started.
    pub crashes: u64,
    /// How the last start ended, if it crashed.
    pub last_crash: Option<Crash>,
    /// The version of events that it was written for; `null` while its manifest is not known.
    pub api_version: Option<PluginApiVersion>,
    /// The database of its own; `null` for a plugin that needs none, or was granted none.
    pub database: Option<PluginDatabase>,
    /// What it may reach outside; `null` for a file that is no plugin (yet).
    pub egress: Option<PluginEgress>,
    /// How far it is with its events; `null` for a file that is no plugin (yet), and when it cannot be measured.
    pub deliveries: Option<DeliveryProgress>,
    /// What can be done now: `start`, `stop`, `restart`, `enable`, `disable`, `grant`, `configure`, `adopt`.
    pub allowed_actions: Vec<String>,
}

/// What a plugin used. What could not be measured is `null`, never 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// When it was measured.
    pub at: DateTime<Utc>,
    /// Milliseconds that the sums are about: since the measurement before, or since the start.
    pub over_ms: u64,
    /// Processor time in percent of one processor.
    pub cpu_percent: Option<f64>,
    /// Bytes of memory in use; shared memory counts by its share.
    pub memory_bytes: Option<u64>,
    /// Processes.
    pub processes: Option<u32>,
    /// Tasks: processes and threads.
    pub tasks: Option<u32>,
    /// Open descriptors.
    pub descriptors: Option<u32>,
    /// Bytes that its data directory takes.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// Limits of which it used 90 % or more, in words.
    #[serde(default)]
    pub near_limits: Vec<String>,
    /// Frames that it sent over its channel.
    pub frames_in: u64,
    /// Frames that it was sent.
    pub frames_out: u64,
    /// Bytes of the frames that it sent.
    pub frame_bytes_in: u64,
    /// Bytes of the frames that it was sent.
    pub frame_bytes_out: u64,
    /// Requests to its routes.
    pub requests: u64,
    /// Bytes of bodies to it.
    pub body_bytes_in: u64,
    /// Bytes of bodies from it.
    pub body_bytes_out: u64,
}

/// The version of events that a plugin was written for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginApiVersion {
    /// Its major version.
    pub major: u64,
    /// The newest one that this host speaks.
    pub newest: u64,
    /// When its end comes and what to do; `null` while it is not deprecated.
    pub deprecated: Option<String>,
}

/// The database of a plugin's own, as it was last seen. It never holds a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginDatabase {
    /// `sqlite` or `postgres`.
    pub engine: String,
    /// The file, or the database's name and the server's place.
    pub place: String,
    /// Whether it can be reached; `null` while that was not tried.
    pub reachable: Option<bool>,
    /// Why not; for admins.
    pub reason: Option<String>,
}

/// What a plugin may reach outside, and how it gets there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginEgress {
    /// `granted`: through the host, to the targets alone. `none`: not at all. `open`: nothing keeps it from reaching whatever this
    /// machine reaches. `unknown`: it does not run.
    pub way: String,
    /// Granted targets: `name:port`, `*.name:port` or `*:port`.
    pub targets: Vec<String>,
    /// Addresses of this machine's loopback that the operator opened for development.
    pub allow_loopback: Vec<String>,
    /// Targets that may speak other protocols than TLS.
    pub without_tls: Vec<String>,
}

/// How a start of a plugin ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Crash {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What happened, in words.
    pub cause: String,
    /// Exit status, if it exited.
    pub exit_code: Option<i32>,
    /// Signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it ran out of memory; `null` where that cannot be told.
    pub out_of_memory: Option<bool>,
    /// State that it was in.
    pub state: String,
    /// Its last lines on stderr, oldest first.
    pub last_lines: Vec<String>,
}

/// Turns debugging of a plugin on or off: while it is on, nothing kills a paused process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DebugSwitch {
    /// Whether it is on.
    pub on: bool,
}

/// Gives a plugin's name, data and grants to another file that claims the name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    /// The file; may be left out when only one claims the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct GrantRef {
    /// `method`, `event`, `project`, `egress`, `public_path`, `limit` or `database`.
    pub kind: String,
    /// What exactly, for example `get_project`, `deployment.*`, `hooks.slack.com:443`.
    pub value: String,
}

/// A permission that a plugin has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// `method`, `event`, `project`, `egress`, `public_path`, `limit` or `database`.
    pub kind: String,
    /// What exactly.
    pub value: String,
    /// Who gave it: `default` for the default policy.
    pub granted_by: String,
    /// When it was given.
    pub granted_at: DateTime<Utc>,
}

/// What a plugin may do, and what it asks for beyond that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grants {
    /// What it may do.
    pub given: Vec<Grant>,
    /// What it asks for and was not given.
    pub missing: Vec<GrantRef>,
}

/// Permissions to be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// The permissions; empty (or left out) for everything that the plugin asks for.
    #[serde(default)]
    pub grants: Vec<GrantRef>,
}

/// One line of a plugin's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When the host read it.
    pub at: DateTime<Utc>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// `stderr`, `stdout`, or `host` for what the host says about the plugin.
    pub stream: String,
    /// The message.
    pub message: String,
    /// Fields of a structured line; `null` for a plain one.
    #[schema(value_type = Option<Object>)]
    pub fields: serde_json::Value,
}

/// Which lines of a log are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// How many of the last lines, 0 to 1000; 100 when left out.
    #[param(maximum = 1000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// Whether to go on with new lines as server-sent events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}
