//! The layers of the sandbox: what each one is called, what it does, and what it protects from. Words only; nothing is done here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One wall between a program and everything else. A layer is wanted or not, can be had on this machine or not, and is in
/// force or not; these three are never mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// A pid namespace.
    Processes,
    /// A user of the operating system that nothing else runs as.
    User,
    /// No capabilities, and no way to get some.
    Privileges,
    /// A root directory of its own.
    Files,
    /// A `/proc` that shows its own processes only.
    ProcessView,
    /// A network of its own, with loopback only.
    Network,
    /// System V and POSIX message queues, semaphores and shared memory of its own.
    Ipc,
    /// A host name of its own.
    Hostname,
    /// A view of control groups that begins at its own.
    GroupView,
    /// A filter of system calls.
    SystemCalls,
    /// Rules of the kernel's Landlock.
    Landlock,
    /// Most memory.
    Memory,
    /// Most processor time.
    Cpu,
    /// Most processes and threads.
    Tasks,
    /// Most open files.
    OpenFiles,
    /// Largest file.
    FileSize,
}

/// What the operator says about a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Nothing starts without it.
    Require,
    /// Required where this machine can do it, as was found out when the host started; left out and reported where it cannot.
    #[default]
    Strict,
    /// Built where this machine can do it. Where the evidence says afterwards that it is not in force, that is reported, and
    /// the program runs.
    Prefer,
    /// Not built at all.
    Off,
}

impl Policy {
    /// The word in configuration, REST and command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Require => "require",
            Policy::Strict => "strict",
            Policy::Prefer => "prefer",
            Policy::Off => "off",
        }
    }
}

impl Layer {
    /// All layers, in the order in which they are shown.
    pub const ALL: [Layer; 16] = [
        Layer::Processes,
        Layer::User,
        Layer::Privileges,
        Layer::Files,
        Layer::ProcessView,
        Layer::Network,
        Layer::Ipc,
        Layer::Hostname,
        Layer::GroupView,
        Layer::SystemCalls,
        Layer::Landlock,
        Layer::Memory,
        Layer::Cpu,
        Layer::Tasks,
        Layer::OpenFiles,
        Layer::FileSize,
    ];

    /// The word in configuration, REST and command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Processes => "processes",
            Layer::User => "user",
            Layer::Privileges => "privileges",
            Layer::Files => "files",
            Layer::ProcessView => "process_view",
            Layer::Network => "network",
            Layer::Ipc => "ipc",
            Layer::Hostname => "hostname",
            Layer::GroupView => "group_view",
            Layer::SystemCalls => "system_calls",
            Layer::Landlock => "landlock",
            Layer::Memory => "memory",
            Layer::Cpu => "cpu",
            Layer::Tasks => "tasks",
            Layer::OpenFiles => "open_files",
            Layer::FileSize => "file_size",
        }
    }

    /// What it protects from, as one sentence without a full stop.
    #[must_use]
    pub fn protects_from(self) -> &'static str {
        match self {
            Layer::Processes => {
                "processes that outlive the plugin, and signals to any process that is not its own"
            }
            Layer::User => "files, processes and sockets of the host, of its users and of other plugins",
            Layer::Privileges => "what only an administrator may do, also through set-user-ID programs",
            Layer::Files => {
                "reading or changing any file but the plugin's own; of the system only programs and libraries are there, read-only"
            }
            Layer::ProcessView => "seeing other processes, their arguments and their environment",
            Layer::Network => "the host's ports, the machine's neighbours, and every address outside",
            Layer::Ipc => "shared memory, semaphores and message queues of others",
            Layer::Hostname => "learning or changing the machine's name",
            Layer::GroupView => "seeing where in the machine's groups it runs",
            Layer::SystemCalls => {
                "flaws in rarely used parts of the kernel, new namespaces, mounts, debugging of others, raw sockets, other system-call tables"
            }
            Layer::Landlock => {
                "the same as the files layer once more, should a mount be wrong; abstract sockets and signals to others"
            }
            Layer::Memory => "taking the machine's memory",
            Layer::Cpu => "taking the machine's processors",
            Layer::Tasks => "filling the machine with processes and threads",
            Layer::OpenFiles => "filling the machine's table of open files",
            Layer::FileSize => "one file that fills the disk",
        }
    }

    /// What to do to get it on a machine that refuses, as one sentence without a full stop.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Layer::User => {
                "run the host as root, so that each plugin gets a user of its own (in a container that knows few user ids, set sandbox.first_user to the first of 1000 that it knows and nobody uses)"
            }
            Layer::Landlock => "use a kernel of 6.12 or later that is booted with `lsm=` containing landlock",
            Layer::SystemCalls => {
                "use a kernel with CONFIG_SECCOMP_FILTER, and a container that does not forbid seccomp"
            }
            Layer::Memory | Layer::Cpu | Layer::Tasks => {
                "run the host as root, or as a service of its own with Delegate=yes in its unit"
            }
            Layer::OpenFiles | Layer::FileSize | Layer::Privileges => {
                "every kernel does it, so what forbids it is around the host, like the filter of system calls of a container"
            }
            Layer::ProcessView => "run the host as root, or outside of a container that hides parts of /proc",
            _ => {
                "run the host as root, or allow user namespaces for its user (user.max_user_namespaces, kernel.unprivileged_userns_clone, or an AppArmor profile with `userns`)"
            }
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
