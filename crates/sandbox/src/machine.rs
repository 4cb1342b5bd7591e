//! What a machine can do, found out by really doing it: a small program is launched with every layer, and each step that the
//! machine refuses is noted and left out, until it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::control::Report;
use crate::decide::{Decision, Policies, Wanted, decide};
use crate::evidence::{LayerReport, Remark, State, verify};
use crate::layers::{Layer, Policy};
use crate::limits::{Groups, Limits, Mechanism};
use crate::plan::{Arg, Program, Step};
use crate::probe::{ProbeError, Trial, inside_probe};

/// What is launched for a trial: every system has one of them. It does nothing until it is ended.
const PROGRAMS: [&str; 3] = ["/bin/sleep", "/usr/bin/sleep", "/run/current-system/sw/bin/sleep"];

/// How long the program of a trial would run, in seconds. It is ended long before.
const TRIAL_SECONDS: &str = "30";

/// What a machine can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The host's user.
    pub uid: u32,
    /// The host's group.
    pub gid: u32,
    /// Whether other namespaces are to be had only inside a user namespace.
    pub user_namespace: bool,
    /// Layers that cannot be had at all, with what the machine said.
    pub unavailable: BTreeMap<Layer, String>,
    /// Layers that are in force in part only, with what is missing.
    pub partial: BTreeMap<Layer, String>,
    /// What keeps the limits that control groups can keep.
    pub groups: BTreeMap<Layer, Mechanism>,
    /// Why other limits cannot be kept by groups.
    pub groups_refused: BTreeMap<Layer, String>,
}

/// What was seen of the program of the trial that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialReport {
    /// The machine.
    pub machine: Machine,
    /// Every layer, with evidence from the running program.
    pub layers: Vec<LayerReport>,
}

impl Machine {
    /// Tries out what `executable` can do as a launcher here, with every layer but those that `policies` leaves out. Blocks
    /// for some tens of milliseconds, at most [`crate::PROBE_TIMEOUT`] for each layer that the machine refuses. A host that is
    /// root tries `user`, one of those that its programs are to run as.
    ///
    /// # Errors
    /// [`ProbeError`] when it is no launcher, or nothing at all can be launched.
    pub fn probe(
        executable: &Path,
        groups: &Groups,
        policies: &Policies,
        user: (u32, u32),
    ) -> Result<TrialReport, ProbeError> {
        if inside_probe() {
            return Err(ProbeError::Inside);
        }
        crate::probe::ask(executable)?;
        let mut machine = Self::untried(groups);
        // Each round takes one layer away, so this ends.
        for _ in 0..=2 * Layer::ALL.len() {
            match machine.try_out(executable, groups, policies, user) {
                Ok(layers) => return Ok(TrialReport { machine, layers }),
                Err((step, why)) => machine.learn(step.as_ref(), why)?,
            }
        }
        Err(ProbeError::NothingWorks("the steps fail one after the other".into()))
    }

    /// A machine that is taken to be able to do everything.
    fn untried(groups: &Groups) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let kept = [Layer::Memory, Layer::Cpu, Layer::Tasks];
        Self {
            uid,
            gid: rustix::process::getegid().as_raw(),
            user_namespace: uid != 0,
            unavailable: BTreeMap::new(),
            partial: BTreeMap::new(),
            groups: kept.into_iter().filter_map(|l| groups.mechanism(l).map(|m| (l, m))).collect(),
            groups_refused: kept.into_iter().filter_map(|l| groups.refused(l).map(|why| (l, why))).collect(),
        }
    }

    /// A machine that can do nothing but start programs, and why. What is then wanted is reported as missing.
    #[must_use]
    pub fn unable(why: &str) -> Self {
        let kept = [Layer::OpenFiles, Layer::FileSize, Layer::Memory, Layer::Cpu, Layer::Tasks];
        let unavailable = Layer::ALL.into_iter().filter(|layer| !kept.contains(layer));
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            user_namespace: false,
            unavailable: unavailable.map(|layer| (layer, why.to_owned())).collect(),
            partial: BTreeMap::new(),
            groups: BTreeMap::new(),
            groups_refused: kept.into_iter().map(|layer| (layer, why.to_owned())).collect(),
        }
    }

    /// Whether programs can run as users of their own here, with these policies. Without a root of its own a program would
    /// not reach its files, which lie in directories of the host's.
    #[must_use]
    pub fn has_users(&self, policies: &Policies) -> bool {
        let can = |layer| policies.of(layer) != Policy::Off && !self.unavailable.contains_key(&layer);
        self.uid == 0 && !self.user_namespace && can(Layer::User) && can(Layer::Files)
    }

    /// Whether a program gets a pid namespace, without which there is no `/proc` of its own.
    fn has_processes(&self, wanted: &Wanted) -> bool {
        wanted.policies.of(Layer::Processes) != Policy::Off
            && !self.unavailable.contains_key(&Layer::Processes)
    }

    /// Whether the limits of the kernel for each process can be set.
    pub(crate) fn limits_processes(&self) -> bool {
        !self.unavailable.contains_key(&Layer::OpenFiles)
    }

    /// Whether a layer can be had for what is wanted, at least in part.
    pub(crate) fn can(&self, layer: Layer, wanted: &Wanted) -> bool {
        match layer {
            Layer::User if wanted.user.is_none() || self.user_namespace => false,
            Layer::ProcessView if !self.has_processes(wanted) => false,
            Layer::Cpu | Layer::Memory => self.groups.contains_key(&layer),
            Layer::Tasks => {
                self.groups.contains_key(&layer) || (self.can(Layer::User, wanted) && self.limits_processes())
            }
            _ => !self.unavailable.contains_key(&layer),
        }
    }

    /// Why a layer would not be in force as it should; `None` when it would be.
    pub(crate) fn missing(&self, layer: Layer, wanted: &Wanted) -> Option<String> {
        if self.can(layer, wanted) {
            return self.partial.get(&layer).cloned();
        }
        if let Some(why) = self.unavailable.get(&layer) {
            return Some(why.clone());
        }
        Some(match layer {
            Layer::User if self.user_namespace => {
                "the host is not root, so programs run as the host's own user".to_owned()
            }
            Layer::User => "no user was set aside for it".to_owned(),
            Layer::ProcessView => "it needs the layer `processes`".to_owned(),
            _ => {
                self.groups_refused.get(&layer).cloned().unwrap_or_else(|| "no control group keeps it".into())
            }
        })
    }

    /// Launches the small program with everything that is still taken to work. A failure comes with the step that failed.
    fn try_out(
        &mut self,
        executable: &Path,
        groups: &Groups,
        policies: &Policies,
        user: (u32, u32),
    ) -> Result<Vec<LayerReport>, (Option<Step>, String)> {
        let said = |why: String| (None, why);
        let path = PROGRAMS.iter().map(Path::new).find(|path| path.exists());
        let path = path.ok_or_else(|| said("there is no program to try with".into()))?;
        let user = (self.uid == 0).then_some(user);
        let policies = Policies::strictest().overridden_by(policies);
        // What the policies require is no matter here: the machine is asked what it can do.
        let optional = Layer::ALL.iter().fold(policies, |all, layer| match all.of(*layer) {
            Policy::Require => all.with(*layer, Policy::Prefer),
            _ => all,
        });
        let wanted =
            Wanted { policies: optional, limits: Limits::default(), mounts: Vec::new(), egress: None, user };
        let decision = decide(self, &wanted).map_err(|refusal| said(refusal.to_string()))?;
        let group = groups.create("trial", &decision.group).map_err(|error| said(error.to_string()))?;
        group.apply_cpu_quota(decision.limits.cpu_quota).map_err(|error| said(error.to_string()))?;
        let program = Program {
            path: PathBuf::from(path),
            args: ["sleep", TRIAL_SECONDS].map(Arg::plain).to_vec(),
            env: BTreeMap::new(),
            directory: "/".into(),
        };
        let plan = decision.plan(program, group.directories());
        let trial = Trial::start(executable, plan.clone()).map_err(said)?;
        let mut remarks = Vec::new();
        let look = |own_pid, remarks: &[Remark]| {
            verify(&decision, crate::tree::program_pid(trial.launcher_pid(), own_pid), remarks, Some(&group))
        };
        let own_pid = loop {
            match trial.report(Instant::now() + crate::PROBE_TIMEOUT).map_err(said)? {
                Report::Remarked { step, whole, words } => {
                    if !whole && let Some(step) = plan.step(&step) {
                        self.partial.insert(step.layer(), words.clone());
                    }
                    remarks.push(Remark { step, whole, words });
                }
                // A host looks at this moment, and so must find here what it is to find there.
                Report::Prepared { pid } => {
                    self.doubt(&decision, &look(pid, &remarks));
                    trial.execute().map_err(said)?;
                }
                Report::Started { pid, .. } => break pid,
                Report::StepFailed { step, error } => {
                    return Err((plan.step(&step).cloned(), format!("{step}: {error}")));
                }
                Report::Exited { .. } => return Err(said("the program ended before it was started".into())),
            }
        };
        let layers = look(own_pid, &remarks);
        self.doubt(&decision, &layers);
        Ok(layers)
    }

    /// A layer whose steps all succeeded, and of which the program shows nothing, is none that this machine can do.
    fn doubt(&mut self, decision: &Decision, layers: &[LayerReport]) {
        let whole = |layer| decision.of(layer).is_some_and(|decided| decided.missing.is_none());
        for report in layers.iter().filter(|report| whole(report.layer)) {
            if matches!(report.state, State::NotInForce | State::Unknown) {
                let why = format!("it was tried and not found in force ({})", report.evidence);
                self.partial.entry(report.layer).or_insert(why);
            }
        }
    }

    /// Notes what the machine refused, and takes another way to the same layer where there is one.
    fn learn(&mut self, step: Option<&Step>, why: String) -> Result<(), ProbeError> {
        let Some(step) = step else { return Err(ProbeError::NothingWorks(why)) };
        let namespaces = [
            Layer::Processes,
            Layer::Files,
            Layer::ProcessView,
            Layer::Ipc,
            Layer::Hostname,
            Layer::GroupView,
            Layer::Network,
        ];
        match step {
            // Root in a container may have nothing but user namespaces.
            Step::PidNamespace | Step::MountNamespace if !self.user_namespace => self.user_namespace = true,
            Step::UserNamespace { .. } => {
                for layer in namespaces {
                    self.unavailable.entry(layer).or_insert_with(|| why.clone());
                }
                self.user_namespace = false;
            }
            Step::JoinGroups { .. } => {
                if self.groups.is_empty() {
                    return Err(ProbeError::NothingWorks(why));
                }
                for layer in std::mem::take(&mut self.groups).into_keys() {
                    self.groups_refused.insert(layer, why.clone());
                }
            }
            Step::NewSession | Step::Subreaper | Step::DieWithLauncher => {
                return Err(ProbeError::NothingWorks(why));
            }
            Step::ProcessLimits(_) if self.limits_processes() => {
                self.unavailable.extend([(Layer::OpenFiles, why.clone()), (Layer::FileSize, why)]);
            }
            _ => {
                let layer = step.layer();
                if self.unavailable.insert(layer, why.clone()).is_some() {
                    return Err(ProbeError::NothingWorks(why));
                }
                // The root carries the view of processes with it.
                if layer == Layer::Files && matches!(step, Step::MountNamespace | Step::PrivateMounts) {
                    self.unavailable.entry(Layer::ProcessView).or_insert(why);
                }
            }
        }
        Ok(())
    }
}
