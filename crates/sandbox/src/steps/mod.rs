//! The steps of a plan, one file per mechanism.

mod capabilities;
mod group_namespace;
mod groups;
mod hostname_namespace;
mod ipc_namespace;
mod landlock;
mod mounts;
mod network_namespace;
mod pid_namespace;
mod privileges;
mod proc;
mod process_limits;
mod root;
mod session;
mod subreaper;
mod system;
mod system_calls;
mod user;
mod user_namespace;

use std::io;

pub(crate) use capabilities::reduce_to as keep_capabilities;
pub(crate) use groups::{Forked, fork_into};
pub(crate) use privileges::give_up as give_up_new_privileges;
pub(crate) use system_calls::rules as system_call_rules;
pub(crate) use user::become_user;

use crate::plan::{Containment, Plan, Stage, Step};

/// What the steps achieved, as measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Achieved {
    pub(crate) containment: Containment,
    pub(crate) fresh_proc: bool,
}

/// A step that failed.
#[derive(Debug)]
pub(crate) struct StepFailure {
    pub(crate) step: &'static str,
    pub(crate) error: io::Error,
}

/// What the kernel made of a step, where only the process that did it can know.
#[derive(Debug)]
pub(crate) struct Remark {
    /// Whether all of it is in force.
    pub(crate) whole: bool,
    pub(crate) words: String,
}

impl Remark {
    fn whole(words: String) -> Self {
        Self { whole: true, words }
    }

    fn part(words: String) -> Self {
        Self { whole: false, words }
    }
}

/// Does all steps of one stage, in order, and stops at the first that fails. Remarks are handed to `remarked` at once.
pub(crate) fn apply(
    plan: &Plan,
    stage: Stage,
    mut remarked: impl FnMut(&'static str, Remark),
) -> Result<(), StepFailure> {
    for step in plan.steps_of(stage) {
        match apply_one(step) {
            Ok(Some(remark)) => remarked(step.name(), remark),
            Ok(None) => {}
            Err(error) => return Err(StepFailure { step: step.name(), error }),
        }
    }
    Ok(())
}

fn apply_one(step: &Step) -> io::Result<Option<Remark>> {
    match step {
        Step::JoinGroups { directories } => groups::join(directories),
        Step::UserNamespace { uid, gid } => user_namespace::enter(*uid, *gid),
        Step::PidNamespace => pid_namespace::unshare(),
        Step::MountNamespace => mounts::unshare(),
        Step::IpcNamespace => ipc_namespace::enter(),
        Step::HostnameNamespace => hostname_namespace::enter(),
        Step::GroupNamespace => group_namespace::enter(),
        Step::NetworkNamespace => network_namespace::enter(),
        Step::PrivateMounts => mounts::make_private(),
        Step::Root(root) => root::change(root),
        // A process of its own, which the init starts once all of this is done.
        Step::Egress(_) => Ok(()),
        Step::FreshProc { required } => match proc::mount() {
            Err(error) if *required => Err(error),
            _ => Ok(()),
        },
        Step::Subreaper => subreaper::become_one(),
        Step::NewSession => session::begin(),
        Step::ProcessLimits(limits) => process_limits::set(limits),
        Step::BecomeUser { uid, gid } => user::become_user(*uid, *gid),
        Step::DieWithLauncher => session::die_with_parent(),
        Step::DropCapabilities => capabilities::drop_all(),
        Step::NoNewPrivileges => privileges::give_up(),
        Step::Landlock(rules) => return landlock::restrict(rules).map(Some),
        Step::SystemCalls { internet } => system_calls::filter(*internet),
    }
    .map(|()| None)
}

/// Measures, in the init, what keeps the program's processes together.
pub(crate) fn measure() -> io::Result<Achieved> {
    let containment = if pid_namespace::is_first() {
        Containment::PidNamespace
    } else if subreaper::is_one()? {
        Containment::ProcessGroup
    } else {
        return Err(io::Error::other("neither a pid namespace nor a subreaper is in force"));
    };
    Ok(Achieved { containment, fresh_proc: proc::is_own() })
}
