//! The sandbox of a running plugin: what was decided, its control group, and what can be read back of it.

use std::path::{Path, PathBuf};

use temps_sandbox::{
    Access, Breach, Decision, Egress, Group, GroupsError, LayerReport, Limits, Machine, Mount, Refusal,
    Remark, Step, Usage, Wanted,
};

use super::{SpawnError, SpawnSpec};
use crate::sandbox::SandboxSpec;

/// Where a plugin puts its temporary files, when it has a root of its own: memory that goes with it.
const OWN_TMP: &str = "/tmp";

/// The sandbox of one start of a plugin.
#[derive(Debug)]
pub struct Confined {
    decision: Decision,
    group: Group,
    remarks: Vec<Remark>,
    pid: Option<u32>,
}

/// Decides what a program gets.
pub(super) fn decide(
    machine: &Machine,
    sandbox: &SandboxSpec,
    mounts: Vec<Mount>,
    egress: Option<Egress>,
) -> Result<Decision, Refusal> {
    temps_sandbox::decide(machine, &wanted(machine, sandbox, mounts, egress))
}

/// What is wanted of the sandbox.
pub(super) fn wanted(
    machine: &Machine,
    sandbox: &SandboxSpec,
    mounts: Vec<Mount>,
    egress: Option<Egress>,
) -> Wanted {
    let SandboxSpec { policies, limits, user, .. } = sandbox;
    let user = user.filter(|_| machine.has_users(policies));
    Wanted { policies: policies.clone(), limits: *limits, mounts, egress, user }
}

/// What a plugin sees beside the system's programs: its own program, its data, the directory of its socket, and what operators
/// add. What comes later lies over what comes before it.
pub(super) fn mounts(spec: &SpawnSpec) -> Vec<Mount> {
    let program = |path: &Path| Mount { path: path.to_owned(), access: Access::Program };
    let data = |path: &Path| Mount { path: path.to_owned(), access: Access::Data };
    let mut mounts: Vec<Mount> = spec.sandbox.read_only_paths.iter().map(|path| program(path)).collect();
    mounts.extend(spec.program.parent().map(program));
    mounts.push(data(&spec.data_dir));
    mounts.extend(spec.socket.parent().map(data));
    mounts.dedup();
    mounts
}

/// Where the plugin finds its temporary files.
pub(super) fn tmp_dir<'a>(decision: &Decision, spec: &'a SpawnSpec) -> &'a Path {
    let has_root = decision.steps.iter().any(|step| matches!(step, Step::Root(_)));
    if has_root { Path::new(OWN_TMP) } else { &spec.tmp_dir }
}

/// Whether a process of the sandbox leads out of the plugin's network.
pub(super) fn has_way_out(decision: &Decision) -> bool {
    decision.steps.iter().any(|step| matches!(step, Step::Egress(_)))
}

/// Where programs are looked for: where every system has them, then where operators say.
pub(super) fn search_path(spec: &SpawnSpec) -> Vec<PathBuf> {
    let programs = spec.sandbox.read_only_paths.iter().map(|path| path.join("bin"));
    programs.filter(|path| path.is_dir()).collect()
}

impl Confined {
    pub(super) fn new(decision: Decision, group: Group, remarks: Vec<Remark>, pid: Option<u32>) -> Self {
        Self { decision, group, remarks, pid }
    }

    /// Looks at the process that is to be the plugin before it is executed. Processor time is restricted for as long as it
    /// is looked at.
    pub(super) fn judge_prepared(&self) -> Result<(), SpawnError> {
        self.restrict_cpu()?;
        self.judge(&self.look())?;
        Ok(self.decision.group.cpu.map_or(Ok(()), |_| self.group.lift_cpu_quota())?)
    }

    /// Whether every layer that has to be in force is, as far as these reports show.
    ///
    /// # Errors
    /// [`Breach`] with the first one that is not.
    pub fn judge(&self, layers: &[LayerReport]) -> Result<(), Breach> {
        self.decision.judge(layers)
    }

    /// What was decided for this start.
    pub(super) fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The plugin's process id; `None` when it had ended before that could be read.
    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Reads back every layer of the running plugin, now. It reads files of the kernel and may take milliseconds.
    #[must_use]
    pub fn look(&self) -> Vec<LayerReport> {
        temps_sandbox::verify(&self.decision, self.pid, &self.remarks, Some(&self.group))
    }

    /// The steps that were taken before the plugin was executed, in order.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.decision.steps_in(self.group.directories())
    }

    /// The user that the plugin runs as; `None` for the host's own.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        self.decision.steps.iter().find_map(|step| match step {
            Step::BecomeUser { uid, .. } => Some(*uid),
            _ => None,
        })
    }

    /// How much the plugin may use.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.decision.limits
    }

    /// What the plugin uses, as its control group counts; what no group counts is unknown.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.group.usage()
    }

    /// Notes that somebody asks the plugin to end.
    pub(crate) fn stops(&self) {
        self.group.stops();
    }

    /// The processes in its control group, the launcher's among them; `None` where there is no group.
    pub(crate) fn processes(&self) -> Option<Vec<u32>> {
        self.group.processes()
    }

    /// Restricts processor time, from now on: a start needs more of it than running does.
    ///
    /// # Errors
    /// [`GroupsError`] with the file that could not be written.
    pub fn restrict_cpu(&self) -> Result<(), GroupsError> {
        self.decision.group.cpu.map_or(Ok(()), |percent| self.group.apply_cpu_quota(percent))
    }

    /// Whether the kernel ended processes of the plugin for want of memory; `None` where that cannot be told.
    pub(super) fn ran_out_of_memory(&self) -> Option<bool> {
        self.group.out_of_memory_kills().map(|kills| kills > 0)
    }

    /// Ends whatever is left, and the group with it. Blocks.
    pub(super) fn end(&self) {
        self.group.end();
    }
}
