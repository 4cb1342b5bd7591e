//! The steps of a plan, one file per mechanism.

mod capabilities;
mod mounts;
mod pid_namespace;
mod proc;
mod session;
mod subreaper;
mod user_namespace;

use std::io;

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

/// Does all steps of one stage, in order, and stops at the first that fails.
pub(crate) fn apply(plan: &Plan, stage: Stage) -> Result<(), StepFailure> {
    plan.steps_of(stage)
        .try_for_each(|step| apply_one(step).map_err(|error| StepFailure { step: step.name(), error }))
}

fn apply_one(step: &Step) -> io::Result<()> {
    match step {
        Step::UserNamespace { uid, gid } => user_namespace::enter(*uid, *gid),
        Step::PidNamespace => pid_namespace::unshare(),
        Step::MountNamespace => mounts::unshare(),
        Step::PrivateMounts => mounts::make_private(),
        Step::FreshProc { required } => match proc::mount() {
            Err(error) if *required => Err(error),
            _ => Ok(()),
        },
        Step::Subreaper => subreaper::become_one(),
        Step::NewSession => session::begin(),
        Step::DieWithLauncher => session::die_with_parent(),
        Step::DropCapabilities => capabilities::keep_none_over_exec(),
    }
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
