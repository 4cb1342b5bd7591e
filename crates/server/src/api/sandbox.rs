//! A plugin's sandbox as REST gives it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a plugin's sandbox is made of, and what of it is in force. It was read back from the running plugin for this answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sandbox {
    /// The plugin.
    pub plugin: String,
    /// When it was read back.
    pub at: DateTime<Utc>,
    /// Whether the plugin runs. If not, this is what its next start would get, and no layer is verified.
    pub running: bool,
    /// Its process id as the host sees it.
    pub pid: Option<u32>,
    /// The user id that it runs as; `null` for the daemon's own user, and while it does not run.
    pub user: Option<u32>,
    /// Why it would not be started; `null` when it would be.
    pub refused: Option<String>,
    /// How much it may use.
    pub limits: SandboxLimits,
    /// What its control group counts.
    pub used: SandboxUse,
    /// Every layer, with what was wanted, how it is, and what shows it.
    pub layers: Vec<SandboxLayer>,
    /// What is done before the plugin is executed, in order.
    pub steps: Vec<SandboxStep>,
    /// What it sees beside the system's programs and libraries.
    pub mounts: Vec<SandboxMount>,
}

/// How much a plugin may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxLimits {
    /// Memory of all its processes together, in bytes.
    pub memory_max: u64,
    /// Processor time, in percent of one processor.
    pub cpu_quota: u32,
    /// Processes and threads.
    pub tasks_max: u64,
    /// Open files of one process.
    pub nofile: u64,
    /// Its data directory, and each file, in bytes.
    pub disk_max: u64,
    /// Its temporary files, in bytes.
    pub tmp_max: u64,
}

/// What a control group counts. What no group counts here is `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxUse {
    /// Memory in bytes, temporary files among it.
    pub memory: Option<u64>,
    /// Processor time since its start, in microseconds.
    pub cpu_us: Option<u64>,
    /// Processes and threads, the launcher's few among them.
    pub tasks: Option<u64>,
    /// How often it was held back because it had used up its processor time.
    pub throttled: Option<u64>,
    /// Whether it is served after all others, because it always uses its processor time up. It is taken back ten seconds after
    /// that has ended.
    #[serde(default)]
    pub background: bool,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxLayer {
    /// Its name, as in `[sandbox.layers]`.
    pub layer: String,
    /// What was wanted: `require`, `strict`, `prefer` or `off`.
    pub policy: String,
    /// How it is: `in_force`, `partial`, `not_in_force`, `off` or `unknown`.
    pub state: String,
    /// What brings it about.
    pub mechanism: Option<String>,
    /// What was read back, or why there is nothing.
    pub evidence: String,
    /// What it protects from.
    pub protects_from: String,
    /// What to do to get it, when it is wanted and not in force as a whole.
    pub remedy: Option<String>,
}

/// One step on the way to the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxStep {
    /// Its name, as reports of failures have it.
    pub step: String,
    /// The layer that it belongs to.
    pub layer: String,
    /// What it does.
    pub does: String,
    /// The rules that it puts in force, where it is made of rules.
    pub rules: Vec<String>,
}

/// Something of the machine that the plugin sees, at the path that it has outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxMount {
    /// The path.
    pub path: String,
    /// `program` (read and execute) or `data` (read and write, and not execute).
    pub access: String,
}
