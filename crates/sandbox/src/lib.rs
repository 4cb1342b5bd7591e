//! Launches one program from a plan that is data: namespaces, lifeline, limits.
//!
//! The host never works between fork and exec. It starts its own executable again as a *launcher*, hands it a [`Plan`] over a
//! socket ([`Control`]), and the launcher builds the place step by step and executes the program. This crate knows nothing of
//! plugins, and nothing of the host but that it holds the other end of the socket.
//!
//! ```text
//! host ── control socket ──┐   the socket's end is the lifeline: when the host closes it or dies, everything dies
//!   └─ launcher (outer) ───┤   unshares namespaces, then waits
//!        └─ init ──────────┘   process 1 of the pid namespace: mounts, starts the program, reaps, forwards signals
//!             ├─ egress        leads from a network of its own to what the host allows
//!             └─ program       a session of its own, a clean environment, no inherited descriptor
//! ```
//!
//! Where there are no pid namespaces, the launcher itself does the init's work and adopts whatever the program leaves behind.

mod control;
mod decide;
mod egress;
mod evidence;
mod init;
mod layers;
mod limits;
mod machine;
mod outer;
mod plan;
mod probe;
mod signals;
mod steps;
mod tree;

pub use control::{Control, ControlError, Order, Report};
pub use decide::{Breach, Decided, Decision, Policies, Refusal, Wanted, decide, decide_layers};
pub use egress::PROXY as EGRESS_PROXY;
pub use egress::line::{Answer, MAX_LINE, NotALine, Question};
pub use evidence::{LayerReport, Remark, State, verify};
pub use layers::{Layer, Policy};
pub use limits::{
    BalanceChange, Group, GroupLimits, Groups, GroupsError, LAUNCHER_TASKS, LOOK_EVERY, Limits, Mechanism,
    Usage, behind_others, bring_forward,
};
pub use machine::{Machine, TrialReport};
pub use plan::{
    Access, Arg, Containment, Egress, Landlock, MAX_MESSAGE_BYTES, Mount, Plan, PlanError, ProcessLimits,
    Program, Root, Stage, Step,
};
pub use probe::{PROBE_TIMEOUT, Probe, ProbeError, inside_probe, probe, probe_as};
pub use tree::{contains, descendants, kill_descendants, namespace_pid, parent, program_pid};

/// First argument of a process that is to be a launcher.
pub const MARKER: &str = "__temps-launcher";

/// Second argument of the launcher's second half, process 1 of the pid namespace.
const INIT: &str = "init";

/// Second argument of a launcher that only has to answer.
const PROBE: &str = "probe";

/// Becomes the launcher when this process was started as one, and never returns then. Otherwise it does nothing.
///
/// It must run first in `main`, before threads exist.
pub fn launcher() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|first| first != MARKER) {
        return;
    }
    let code = match args.next() {
        None => outer::run(),
        Some(word) if word == INIT => init::run(),
        Some(word) if word == PROBE => probe::answer(),
        Some(_) => outer::EXIT_USAGE,
    };
    std::process::exit(code)
}
