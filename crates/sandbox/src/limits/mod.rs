//! Limits of resources: how much a program may use, the control groups that see to it, and what it does use.
//!
//! The host makes a [`Group`] before it launches a program, the launcher joins it as its first step, and the host reads and ends it.
//! Nothing outside of directories that this module made itself is written to.

mod background;
mod group;
mod groups;
mod hierarchy;

use serde::{Deserialize, Serialize};

pub(crate) use background::come_forward;
pub use background::{BalanceChange, LOOK_EVERY, behind_others, bring_forward};
pub(crate) use group::quota_and_period;
pub use group::{Group, Usage};
pub use groups::{Groups, GroupsError};
pub use hierarchy::Mechanism;

/// Processes and threads of the launcher in the program's group, the way out of its network among them; they are added to
/// what the program may have.
pub const LAUNCHER_TASKS: u64 = 5;

/// The limits that a control group is to keep. `None` where none is wanted, or something else keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLimits {
    /// Memory of all processes together, in bytes.
    pub memory: Option<u64>,
    /// Processor time, in percent of one processor.
    pub cpu: Option<u32>,
    /// Processes and threads of the program, without the launcher's.
    pub tasks: Option<u64>,
}

/// How much a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all its processes together, in bytes.
    pub memory_max: u64,
    /// Processor time, in percent of one processor.
    pub cpu_quota: u32,
    /// Processes and threads.
    pub tasks_max: u64,
    /// Open files of one process.
    pub nofile: u64,
    /// Its data directory and one file, in bytes.
    pub disk_max: u64,
    /// Its temporary files, in bytes; they count as memory too.
    pub tmp_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_max: 256 << 20,
            cpu_quota: 25,
            tasks_max: 64,
            nofile: 1024,
            disk_max: 1 << 30,
            tmp_max: 16 << 20,
        }
    }
}

impl Limits {
    /// For a program that only has to say who it is. Its processor time is not restricted, because it has a few seconds only.
    #[must_use]
    pub fn of_inspection() -> Self {
        Self { tasks_max: 32, nofile: 256, disk_max: 16 << 20, tmp_max: 4 << 20, ..Self::default() }
    }
}
