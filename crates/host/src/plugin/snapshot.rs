//! What can be seen of a plugin from outside. Every field was measured or read, none assumed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use temps_protocol::{PluginManifest, PluginName};

use super::process::Confined;
use crate::sandbox::LayerReport;
use crate::usage::Usage;

/// Where a plugin stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PluginState {
    /// Found, and not yet looked at.
    Discovered,
    /// Being run briefly, locked away, to read its manifest.
    Inspecting,
    /// Waiting for an operator: a grant, a setting, a name.
    Held,
    /// Its process is being started.
    Starting,
    /// Its manifest was read; it has not said ready.
    AwaitingReady,
    /// It said ready; the channel is being opened.
    Connecting,
    /// It works.
    Running,
    /// It finishes its work before it stops.
    Draining,
    /// It was stopped by an operator or with the host.
    Stopped,
    /// It crashed and waits for its next start.
    Backoff,
    /// It crashed too often; it is tried again now and then.
    Quarantined,
    /// An operator turned it off.
    Disabled,
    /// Its file could not be taken up or inspected.
    Refused,
    /// Its file was removed; its data is kept.
    Gone,
}

impl PluginState {
    /// The word in REST, CLI and console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PluginState::Discovered => "discovered",
            PluginState::Inspecting => "inspecting",
            PluginState::Held => "held",
            PluginState::Starting => "starting",
            PluginState::AwaitingReady => "awaiting_ready",
            PluginState::Connecting => "connecting",
            PluginState::Running => "running",
            PluginState::Draining => "draining",
            PluginState::Stopped => "stopped",
            PluginState::Backoff => "backoff",
            PluginState::Quarantined => "quarantined",
            PluginState::Disabled => "disabled",
            PluginState::Refused => "refused",
            PluginState::Gone => "gone",
        }
    }
}

/// How a start of a plugin ended.
#[derive(Debug, Clone, PartialEq)]
pub struct CrashReport {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What happened, in words: `exited with status 1`, `killed by signal 9`, `health failed 3 times`.
    pub cause: String,
    /// Exit status, if it exited.
    pub exit_code: Option<i32>,
    /// Signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it ran out of memory; `None` where that cannot be told on this machine.
    pub out_of_memory: Option<bool>,
    /// State that it was in.
    pub state: PluginState,
    /// Its last lines on stderr, oldest first.
    pub last_lines: Vec<String>,
}

/// What a plugin looks like from outside.
#[derive(Debug, Clone)]
pub struct PluginSnapshot {
    /// Name of the plugin, or of its file while the name is not known.
    pub name: String,
    /// Its checked name, once known.
    pub plugin_name: Option<PluginName>,
    /// The file or directory that it comes from.
    pub file: std::path::PathBuf,
    /// SHA-256 of what runs (or would), in hexadecimal.
    pub hash: Option<String>,
    /// Where it stands.
    pub state: PluginState,
    /// Why it stands there, and what to do, when that is not obvious.
    pub reason: Option<String>,
    /// Its manifest, once read.
    pub manifest: Option<Arc<PluginManifest>>,
    /// Whether it has a UI.
    pub has_ui: bool,
    /// `open`, `none` (the plugin runs without one), or `lost`; `None` while it does not run.
    pub channel: Option<&'static str>,
    /// Features in force.
    pub features: Vec<&'static str>,
    /// `ok`, `failing`, `unknown` or `suspended`; `None` while it does not run.
    pub health: Option<&'static str>,
    /// Process id of the plugin as the host sees it.
    pub pid: Option<u32>,
    /// What keeps it together: `pid_namespace` or `process_group`.
    pub containment: Option<&'static str>,
    /// When this start became running.
    pub running_since: Option<DateTime<Utc>>,
    /// What it used last; `None` while it does not run, and before the first measurement.
    pub usage: Option<Usage>,
    /// Every layer of its sandbox, as read back once it was ready; `None` before that, and while it does not run.
    pub layers: Option<Arc<[LayerReport]>>,
    /// Its sandbox, to be looked at again; `None` while it does not run.
    pub confined: Option<Arc<Confined>>,
    /// When it is tried again, in backoff and quarantine.
    pub next_start_at: Option<DateTime<Utc>>,
    /// Starts since the host started.
    pub starts: u64,
    /// Crashes since the host started.
    pub crashes: u64,
    /// How the last start ended, if it crashed.
    pub last_crash: Option<CrashReport>,
    /// What an operator may do now: `start`, `stop`, `restart`, `enable`, `disable`, `grant`, `configure`,
    /// `adopt`.
    pub allowed_actions: Vec<&'static str>,
}
