//! The plan: what to do, in order, and which program to start then. Pure data; deciding it is the host's work.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod words;

/// Longest message on the control socket in bytes. The kernel's smallest usual socket buffer takes a message of this size
/// whole, and a plan is a page of text.
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// What the launcher does: steps in order, then the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Steps, outer ones first, then those of the init, then those of the program's own process.
    pub steps: Vec<Step>,
    /// What to start.
    pub program: Program,
}

/// One step on the way to the program. Each has a file of its own under `steps`; its name is in every report about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// The init, and so everything below it, joins these control groups, which the host made before.
    JoinGroups {
        /// Directories of the groups, one for each hierarchy.
        directories: Vec<PathBuf>,
    },
    /// A user namespace in which this user and group are themselves, so that an ordinary user may make the other namespaces.
    UserNamespace {
        /// User id, outside and inside.
        uid: u32,
        /// Group id, outside and inside.
        gid: u32,
    },
    /// A pid namespace: when its first process ends, the kernel ends all others in it.
    PidNamespace,
    /// A mount namespace.
    MountNamespace,
    /// Shared memory, semaphores and message queues of its own.
    IpcNamespace,
    /// A host name of its own.
    HostnameNamespace,
    /// Control groups are seen from its own one on.
    GroupNamespace,
    /// A network of its own, with nothing in it but loopback.
    NetworkNamespace,
    /// Mounts of the namespace do not reach the rest of the machine.
    PrivateMounts,
    /// A root directory of its own, made of what is listed.
    Root(Root),
    /// `/proc` shows the pid namespace's own processes.
    FreshProc {
        /// Whether the start fails where the machine does not allow it; otherwise it is only reported.
        required: bool,
    },
    /// A process beside the program leads from its network to what the host allows.
    Egress(Egress),
    /// Processes that the program leaves behind become children of the launcher instead of the machine's first process.
    Subreaper,
    /// The program leads a session and a process group of its own, without a terminal.
    NewSession,
    /// Limits that the kernel keeps for each process on its own.
    ProcessLimits(ProcessLimits),
    /// The program runs as this user, in this group alone.
    BecomeUser {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// The program dies when the launcher does.
    DieWithLauncher,
    /// No capability reaches the program, and none can come back.
    DropCapabilities,
    /// Executing a set-user-ID program gives nothing.
    NoNewPrivileges,
    /// Files may be touched only as listed; abstract sockets and signals of others not at all.
    Landlock(Landlock),
    /// System calls that programs do not need are refused.
    SystemCalls {
        /// Whether internet sockets may be made.
        internet: bool,
    },
}

/// What a root directory is made of. Everything keeps the path that it has outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// What is there beside the system's programs and libraries.
    pub mounts: Vec<Mount>,
    /// Most bytes of temporary files, under `/tmp` and under `/dev/shm`.
    pub tmp_max: u64,
    /// Whether names are looked up as outside, because the program is in the machine's network.
    pub network_files: bool,
    /// User and group that the program will run as, for `/etc/passwd`.
    pub user: (u32, u32),
}

/// One file or directory of the machine that the program sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path, outside and inside.
    pub path: PathBuf,
    /// What the program may do there.
    pub access: Access,
}

/// What a program may do with something that is mounted. Nowhere are there devices or set-user-ID programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read and execute.
    Program,
    /// Read and write, and not execute.
    Data,
}

/// The way out of a network that has nothing but loopback. Who may be reached is the host's to say, at each connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// The host's socket, which is asked for names and connections. The program sees it as well.
    pub socket: PathBuf,
    /// Addresses of the machine's loopback that are to be reached at the same address, for development.
    pub loopback: Vec<SocketAddrV4>,
}

/// Limits of the kernel for each process. `None` leaves what the host has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// Open files.
    pub open_files: Option<u64>,
    /// Size of a file in bytes.
    pub file_size: Option<u64>,
    /// Data memory in bytes; only where no group watches over memory.
    pub memory: Option<u64>,
    /// Processes of the user; only where no group counts tasks.
    pub tasks: Option<u64>,
}

/// What Landlock allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landlock {
    /// Beside the system's programs and libraries.
    pub mounts: Vec<Mount>,
}

/// Where a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// In the launcher's first process.
    Outer,
    /// In the process that starts and watches over the program.
    Init,
    /// In the program's own process, right before it is executed.
    Program,
}

/// What keeps the processes of a program together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// A pid namespace: nothing can leave it, whatever it does.
    PidNamespace,
    /// A launcher that adopts and kills what is left behind. A program that kills its launcher on purpose can get away.
    ProcessGroup,
}

/// The program that is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The executable, an absolute path.
    pub path: PathBuf,
    /// All arguments, the first being the name that the program is called by.
    pub args: Vec<Arg>,
    /// The whole environment; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Working directory, an absolute path.
    pub directory: PathBuf,
}

/// One argument of a program.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arg {
    text: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    secret: bool,
}

/// Why a plan cannot be carried out by anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Steps of an earlier stage stand behind steps of a later one.
    #[error("the step {step} stands too late in the plan; order the steps by stage: outer, init, program")]
    OutOfOrder {
        /// Name of the step.
        step: &'static str,
    },
    /// A path is not absolute.
    #[error("{0} must be an absolute path")]
    Relative(&'static str),
    /// The program has no arguments, not even its name.
    #[error("the program needs at least one argument, the name that it is called by")]
    NoName,
}

impl Arg {
    /// An argument that may be shown.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), secret: false }
    }

    /// An argument that never appears in debug output.
    #[must_use]
    pub fn secret(text: impl Into<String>) -> Self {
        Self { text: text.into(), secret: true }
    }

    /// The argument itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Arg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.secret { f.write_str("<secret>") } else { std::fmt::Debug::fmt(&self.text, f) }
    }
}

impl Containment {
    /// The word in REST, CLI and console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Containment::PidNamespace => "pid_namespace",
            Containment::ProcessGroup => "process_group",
        }
    }
}

impl Plan {
    /// The steps that keep a program's processes together in a pid namespace.
    ///
    /// `user` is given when the host may make namespaces only inside a user namespace of its own.
    #[must_use]
    pub fn pid_namespace_steps(user: Option<(u32, u32)>) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some((uid, gid)) = user {
            steps.push(Step::UserNamespace { uid, gid });
        }
        steps.extend([
            Step::PidNamespace,
            Step::MountNamespace,
            Step::PrivateMounts,
            Step::FreshProc { required: false },
            Step::NewSession,
        ]);
        if user.is_some() {
            steps.push(Step::DropCapabilities);
        }
        steps
    }

    /// The steps that keep a program's processes together where there are no pid namespaces.
    #[must_use]
    pub fn process_group_steps() -> Vec<Step> {
        vec![Step::Subreaper, Step::NewSession, Step::DieWithLauncher]
    }

    /// What the steps would keep the processes together with.
    #[must_use]
    pub fn containment(&self) -> Containment {
        if self.steps.contains(&Step::PidNamespace) {
            Containment::PidNamespace
        } else {
            Containment::ProcessGroup
        }
    }

    /// The step with this name, which reports give. What is measured is what keeps the processes together.
    pub(crate) fn step(&self, name: &str) -> Option<&Step> {
        let name = if name == "measure" { Step::PidNamespace.name() } else { name };
        self.steps.iter().find(|step| step.name() == name)
    }

    /// The directories of the control groups that are joined.
    pub(crate) fn groups(&self) -> &[PathBuf] {
        let joined = self.steps.iter().find_map(|step| match step {
            Step::JoinGroups { directories } => Some(directories.as_slice()),
            _ => None,
        });
        joined.unwrap_or_default()
    }

    /// The steps of one stage, in order.
    pub(crate) fn steps_of(&self, stage: Stage) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.stage() == stage)
    }

    /// Checks what can be checked without doing anything.
    ///
    /// # Errors
    /// The first rule that the plan breaks.
    pub fn check(&self) -> Result<(), PlanError> {
        let mut reached = Stage::Outer;
        for step in &self.steps {
            if step.stage() < reached {
                return Err(PlanError::OutOfOrder { step: step.name() });
            }
            reached = step.stage();
        }
        if !self.program.path.is_absolute() {
            return Err(PlanError::Relative("the program"));
        }
        if !self.program.directory.is_absolute() {
            return Err(PlanError::Relative("the working directory"));
        }
        if self.program.args.is_empty() {
            return Err(PlanError::NoName);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(steps: Vec<Step>) -> Plan {
        let program = Program {
            path: "/bin/true".into(),
            args: vec![Arg::plain("true"), Arg::secret("s3cret")],
            env: BTreeMap::new(),
            directory: "/".into(),
        };
        Plan { steps, program }
    }

    #[test]
    fn a_printed_plan_shows_its_steps_and_no_secret() {
        let text = format!("{:?}", plan(Plan::process_group_steps()));
        assert!(text.contains("Subreaper") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn a_plan_survives_the_socket() {
        let plan = plan(Plan::pid_namespace_steps(Some((1000, 1000))));
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn steps_in_the_wrong_order_are_refused_by_name() {
        let late = plan(vec![Step::NewSession, Step::PidNamespace]);
        assert_eq!(late.check(), Err(PlanError::OutOfOrder { step: "pid_namespace" }));
        for good in [Plan::pid_namespace_steps(None), Plan::process_group_steps()] {
            assert_eq!(plan(good).check(), Ok(()));
        }
    }
}
