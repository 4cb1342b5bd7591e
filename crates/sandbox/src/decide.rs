//! From what is wanted and what the machine can do to a plan, or to a refusal that names the layer. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::evidence::{LayerReport, State};
use crate::layers::{Layer, Policy};
use crate::limits::{GroupLimits, Limits, Mechanism};
use crate::machine::Machine;
use crate::plan::{Egress, Landlock, Mount, Plan, ProcessLimits, Program, Root, Stage, Step};

/// The policy for each layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policies(BTreeMap<Layer, Policy>);

/// What a program is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which layers.
    pub policies: Policies,
    /// How much it may use.
    pub limits: Limits,
    /// Which files and directories it sees beside the system's.
    pub mounts: Vec<Mount>,
    /// The way out of its own network, where it gets one.
    pub egress: Option<Egress>,
    /// The user and group that it is to run as. A host that is not root cannot give one.
    pub user: Option<(u32, u32)>,
}

/// What a program gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What the launcher does, without joining the group, which is made later.
    pub steps: Vec<Step>,
    /// All layers, with what will be in force.
    pub layers: Vec<Decided>,
    /// What the group is to keep.
    pub group: GroupLimits,
    /// How much the program may use, also where nothing keeps it.
    pub limits: Limits,
}

/// One layer of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The layer.
    pub layer: Layer,
    /// What was wanted.
    pub policy: Policy,
    /// What brings it about; something weaker where the machine cannot do it.
    pub mechanism: Option<String>,
    /// Why the layer will not be in force as it should, although it is wanted.
    pub missing: Option<String>,
}

/// A layer is required, and this machine cannot do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the sandbox layer `{layer}` is required and not to be had here: {why}; {remedy}, or set its policy to `prefer`"
)]
pub struct Refusal {
    /// The layer.
    pub layer: Layer,
    /// What stands in the way.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

/// A layer has to be in force, and the process that would have been the program shows that it is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the sandbox layer `{layer}` has to be in force (policy `{policy}`) and was not found in force: {found}; {remedy}, or set its policy to `prefer`",
    policy = policy.as_str()
)]
pub struct Breach {
    /// The layer.
    pub layer: Layer,
    /// What was wanted.
    pub policy: Policy,
    /// What was read instead.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
}

impl Default for Policies {
    /// Everything that the machine can do, and that has to be in force.
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl Policies {
    /// The policy for a layer.
    #[must_use]
    pub fn of(&self, layer: Layer) -> Policy {
        self.0.get(&layer).copied().unwrap_or_default()
    }

    /// The same with another policy for one layer.
    #[must_use]
    pub fn with(mut self, layer: Layer, policy: Policy) -> Self {
        self.0.insert(layer, policy);
        self
    }

    /// The same, with those of `other` in front.
    #[must_use]
    pub fn overridden_by(mut self, other: &Policies) -> Self {
        self.0.extend(other.0.iter().map(|(layer, policy)| (*layer, *policy)));
        self
    }

    /// No policy at all is set in it; for [`Policies::overridden_by`].
    #[must_use]
    pub fn unset() -> Self {
        Self(BTreeMap::new())
    }

    /// Every layer that the machine can do, the network among them.
    #[must_use]
    pub fn strictest() -> Self {
        Self::unset()
    }

    /// Nothing but what keeps the processes of a program together.
    #[must_use]
    pub fn processes_only() -> Self {
        let kept = [Layer::Processes, Layer::ProcessView, Layer::Privileges];
        let off = Layer::ALL.into_iter().filter(|layer| !kept.contains(layer));
        Self(off.map(|layer| (layer, Policy::Off)).collect())
    }

    /// The layers for which something is said.
    pub fn iter(&self) -> impl Iterator<Item = (Layer, Policy)> + '_ {
        self.0.iter().map(|(layer, policy)| (*layer, *policy))
    }
}

impl Decided {
    /// Whether the program must not run when this layer is not in force.
    #[must_use]
    pub fn is_binding(&self) -> bool {
        match self.policy {
            Policy::Require => true,
            Policy::Strict => self.missing.is_none(),
            Policy::Prefer | Policy::Off => false,
        }
    }
}

impl Decision {
    /// The first layer that has to be in force and of which `reports` say that it is not. What could not be read counts as
    /// not in force: the machine showed it when it was tried.
    ///
    /// # Errors
    /// [`Breach`].
    pub fn judge(&self, reports: &[LayerReport]) -> Result<(), Breach> {
        let binding = |layer| self.of(layer).is_some_and(Decided::is_binding);
        let broken = reports.iter().find(|r| r.state != State::InForce && binding(r.layer));
        broken.map_or(Ok(()), |report| {
            let LayerReport { layer, policy, .. } = *report;
            let (found, remedy) = (report.evidence.clone(), layer.remedy().to_owned());
            Err(Breach { layer, policy, found, remedy })
        })
    }

    /// The layer that a step belongs to, by the step's name in reports.
    #[must_use]
    pub fn layer_of(&self, step: &str) -> Option<Layer> {
        match step {
            "join_groups" => Some(Layer::Memory),
            "measure" => Some(Layer::Processes),
            _ => self.steps.iter().find(|known| known.name() == step).map(Step::layer),
        }
    }

    /// The plan for a program, whose group has these directories.
    #[must_use]
    pub fn plan(&self, program: Program, group: Vec<PathBuf>) -> Plan {
        Plan { steps: self.steps_in(group), program }
    }

    /// All steps for a program whose group has these directories, in the order in which they are done.
    #[must_use]
    pub fn steps_in(&self, group: Vec<PathBuf>) -> Vec<Step> {
        let join = (!group.is_empty()).then_some(Step::JoinGroups { directories: group });
        let (outer, others): (Vec<Step>, Vec<Step>) =
            self.steps.iter().cloned().partition(|step| step.stage() == Stage::Outer);
        outer.into_iter().chain(join).chain(others).collect()
    }

    /// What was decided for a layer.
    #[must_use]
    pub fn of(&self, layer: Layer) -> Option<&Decided> {
        self.layers.iter().find(|decided| decided.layer == layer)
    }
}

/// Decides what a program gets.
///
/// # Errors
/// [`Refusal`] for the first layer that is required and cannot be had.
pub fn decide(machine: &Machine, wanted: &Wanted) -> Result<Decision, Refusal> {
    let layers = decide_layers(machine, wanted);
    for decided in &layers {
        if let (Policy::Require, Some(why)) = (decided.policy, &decided.missing) {
            let remedy = decided.layer.remedy().to_owned();
            return Err(Refusal { layer: decided.layer, why: why.clone(), remedy });
        }
    }
    let has = |layer: Layer| {
        layers.iter().any(|d| d.layer == layer && d.policy != Policy::Off && machine.can(layer, wanted))
    };
    let by_group =
        |layer: Layer| wanted.policies.of(layer) != Policy::Off && machine.groups.contains_key(&layer);
    let group = GroupLimits {
        memory: by_group(Layer::Memory).then_some(wanted.limits.memory_max),
        cpu: by_group(Layer::Cpu).then_some(wanted.limits.cpu_quota),
        tasks: by_group(Layer::Tasks).then_some(wanted.limits.tasks_max),
    };
    Ok(Decision { steps: steps(machine, wanted, &has, &group), layers, group, limits: wanted.limits })
}

/// What would be in force, layer by layer, also where that is too little for the program to be started.
#[must_use]
pub fn decide_layers(machine: &Machine, wanted: &Wanted) -> Vec<Decided> {
    Layer::ALL.iter().map(|layer| decide_one(machine, wanted, *layer)).collect()
}

fn decide_one(machine: &Machine, wanted: &Wanted, layer: Layer) -> Decided {
    let policy = wanted.policies.of(layer);
    if policy == Policy::Off {
        return Decided { layer, policy, mechanism: None, missing: None };
    }
    let missing = machine.missing(layer, wanted);
    Decided { layer, policy, mechanism: mechanism(machine, wanted, layer), missing }
}

/// What brings a layer about, or something weaker in its place.
fn mechanism(machine: &Machine, wanted: &Wanted, layer: Layer) -> Option<String> {
    let can = machine.can(layer, wanted);
    let words = match layer {
        Layer::Processes if can => "pid namespace",
        Layer::Processes => "a launcher that adopts and kills what is left behind",
        Layer::Network if !can && machine.can(Layer::SystemCalls, wanted) => "internet sockets are refused",
        Layer::Memory | Layer::Cpu | Layer::Tasks => match machine.groups.get(&layer) {
            Some(mechanism) => mechanism.as_str(),
            None if layer == Layer::Cpu || !machine.limits_processes() => return None,
            None if layer == Layer::Tasks && wanted.user.is_some() => {
                "rlimit (per user, and only this program runs as it)"
            }
            None => Mechanism::EachProcess.as_str(),
        },
        _ if !can => return None,
        Layer::User => "own user and group",
        Layer::Privileges => "no new privileges, empty capability sets",
        Layer::Files => "mount namespace, own root",
        Layer::ProcessView => "own /proc",
        Layer::Network => "network namespace",
        Layer::Ipc => "ipc namespace",
        Layer::Hostname => "uts namespace",
        Layer::GroupView => "cgroup namespace",
        Layer::SystemCalls => "seccomp filter",
        Layer::Landlock => "Landlock rules",
        Layer::OpenFiles | Layer::FileSize => Mechanism::EachProcess.as_str(),
    };
    Some(words.to_owned())
}

/// All steps, in the order of their stages.
fn steps(machine: &Machine, wanted: &Wanted, has: &dyn Fn(Layer) -> bool, group: &GroupLimits) -> Vec<Step> {
    let mut steps = Vec::new();
    let user = if has(Layer::User) { wanted.user } else { None };
    let namespaces = [
        (Layer::Processes, Step::PidNamespace),
        (Layer::Files, Step::MountNamespace),
        (Layer::Ipc, Step::IpcNamespace),
        (Layer::Hostname, Step::HostnameNamespace),
        (Layer::Network, Step::NetworkNamespace),
        (Layer::GroupView, Step::GroupNamespace),
    ];
    // The view of processes needs a place to mount it, also when all other files are left alone.
    let view = has(Layer::ProcessView) && has(Layer::Processes);
    let wants = |layer: Layer| has(layer) || (layer == Layer::Files && view);
    if machine.user_namespace && namespaces.iter().any(|(layer, _)| wants(*layer)) {
        steps.push(Step::UserNamespace { uid: machine.uid, gid: machine.gid });
    }
    steps.extend(namespaces.into_iter().filter(|(layer, _)| wants(*layer)).map(|(_, step)| step));
    if wants(Layer::Files) {
        steps.push(Step::PrivateMounts);
    }
    if view {
        steps.push(Step::FreshProc { required: true });
    }
    if has(Layer::Files) {
        steps.push(Step::Root(Root {
            mounts: wanted.mounts.clone(),
            tmp_max: wanted.limits.tmp_max,
            network_files: !has(Layer::Network),
            user: user.unwrap_or((machine.uid, machine.gid)),
        }));
    }
    if let (true, Some(egress)) = (has(Layer::Network), &wanted.egress) {
        steps.push(Step::Egress(egress.clone()));
    }
    if !has(Layer::Processes) {
        steps.push(Step::Subreaper);
    }
    steps.push(Step::NewSession);
    if machine.limits_processes() {
        steps.push(Step::ProcessLimits(process_limits(wanted, group)));
    }
    if let Some((uid, gid)) = user {
        steps.push(Step::BecomeUser { uid, gid });
    }
    if has(Layer::Privileges) {
        steps.extend([Step::DropCapabilities, Step::NoNewPrivileges]);
    }
    if !has(Layer::Processes) {
        steps.push(Step::DieWithLauncher);
    }
    if has(Layer::Landlock) {
        steps.push(Step::Landlock(Landlock { mounts: wanted.mounts.clone() }));
    }
    if has(Layer::SystemCalls) {
        let refused = wanted.policies.of(Layer::Network) != Policy::Off && !has(Layer::Network);
        steps.push(Step::SystemCalls { internet: !refused });
    }
    steps
}

fn process_limits(wanted: &Wanted, group: &GroupLimits) -> ProcessLimits {
    let limits = &wanted.limits;
    let on = |layer: Layer| wanted.policies.of(layer) != Policy::Off;
    ProcessLimits {
        open_files: on(Layer::OpenFiles).then_some(limits.nofile),
        file_size: on(Layer::FileSize).then_some(limits.disk_max),
        memory: (on(Layer::Memory) && group.memory.is_none()).then_some(limits.memory_max),
        tasks: (on(Layer::Tasks) && group.tasks.is_none()).then_some(limits.tasks_max),
    }
}

#[cfg(test)]
mod tests;
