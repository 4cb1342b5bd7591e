//! What is said of a step: its name, where it is done, the layer that it belongs to, and what it does in words.

use super::{Access, Egress, Mount, ProcessLimits, Root, Stage, Step};
use crate::layers::Layer;

impl Step {
    /// The step's name in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Step::JoinGroups { .. } => "join_groups",
            Step::UserNamespace { .. } => "user_namespace",
            Step::PidNamespace => "pid_namespace",
            Step::MountNamespace => "mount_namespace",
            Step::IpcNamespace => "ipc_namespace",
            Step::HostnameNamespace => "hostname_namespace",
            Step::GroupNamespace => "group_namespace",
            Step::NetworkNamespace => "network_namespace",
            Step::PrivateMounts => "private_mounts",
            Step::Root(_) => "root",
            Step::FreshProc { .. } => "fresh_proc",
            Step::Egress(_) => "egress",
            Step::Subreaper => "subreaper",
            Step::NewSession => "new_session",
            Step::ProcessLimits(_) => "process_limits",
            Step::BecomeUser { .. } => "become_user",
            Step::DieWithLauncher => "die_with_launcher",
            Step::DropCapabilities => "drop_capabilities",
            Step::NoNewPrivileges => "no_new_privileges",
            Step::Landlock(_) => "landlock",
            Step::SystemCalls { .. } => "system_calls",
        }
    }

    /// Where the step is done.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Step::UserNamespace { .. }
            | Step::PidNamespace
            | Step::MountNamespace
            | Step::IpcNamespace
            | Step::HostnameNamespace
            | Step::NetworkNamespace => Stage::Outer,
            Step::JoinGroups { .. }
            | Step::GroupNamespace
            | Step::PrivateMounts
            | Step::Root(_)
            | Step::FreshProc { .. }
            | Step::Egress(_)
            | Step::Subreaper => Stage::Init,
            Step::NewSession
            | Step::ProcessLimits(_)
            | Step::BecomeUser { .. }
            | Step::DieWithLauncher
            | Step::DropCapabilities
            | Step::NoNewPrivileges
            | Step::Landlock(_)
            | Step::SystemCalls { .. } => Stage::Program,
        }
    }

    /// The rules that the step puts in force, where it is made of rules.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        match self {
            Step::SystemCalls { internet } => crate::steps::system_call_rules(*internet),
            _ => Vec::new(),
        }
    }

    /// The layer that the step belongs to.
    #[must_use]
    pub fn layer(&self) -> Layer {
        match self {
            Step::JoinGroups { .. } => Layer::Memory,
            Step::UserNamespace { .. }
            | Step::PidNamespace
            | Step::Subreaper
            | Step::NewSession
            | Step::DieWithLauncher => Layer::Processes,
            Step::MountNamespace | Step::PrivateMounts | Step::Root(_) => Layer::Files,
            Step::IpcNamespace => Layer::Ipc,
            Step::HostnameNamespace => Layer::Hostname,
            Step::GroupNamespace => Layer::GroupView,
            Step::NetworkNamespace | Step::Egress(_) => Layer::Network,
            Step::FreshProc { .. } => Layer::ProcessView,
            Step::ProcessLimits(_) => Layer::OpenFiles,
            Step::BecomeUser { .. } => Layer::User,
            Step::DropCapabilities | Step::NoNewPrivileges => Layer::Privileges,
            Step::Landlock(_) => Layer::Landlock,
            Step::SystemCalls { .. } => Layer::SystemCalls,
        }
    }

    /// What the step does, as one sentence without a full stop, with its numbers and paths.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Step::JoinGroups { directories } => {
                let all: Vec<String> = directories.iter().map(|d| d.display().to_string()).collect();
                format!("joins the control groups {}", all.join(", "))
            }
            Step::UserNamespace { uid, .. } => {
                format!("enters a user namespace as user {uid}, so that the other namespaces can be made")
            }
            Step::PidNamespace => {
                "begins a pid namespace, whose end is the end of every process in it".into()
            }
            Step::MountNamespace => "begins a mount namespace".into(),
            Step::IpcNamespace => "begins an ipc namespace".into(),
            Step::HostnameNamespace => "begins a namespace with a host name of its own".into(),
            Step::GroupNamespace => "shows control groups from its own one on".into(),
            Step::NetworkNamespace => "begins a network namespace with loopback only".into(),
            Step::PrivateMounts => "cuts mounts off from the rest of the machine".into(),
            Step::Root(root) => root.describe(),
            Step::FreshProc { .. } => "mounts a /proc of its own processes".into(),
            Step::Egress(egress) => egress.describe(),
            Step::Subreaper => "adopts processes that the program leaves behind".into(),
            Step::NewSession => "begins a session without a terminal".into(),
            Step::ProcessLimits(limits) => limits.describe(),
            Step::BecomeUser { uid, gid } => format!("becomes user {uid} and group {gid}, in no other group"),
            Step::DieWithLauncher => "asks to be killed when the launcher ends".into(),
            Step::DropCapabilities => "drops all capabilities, from the bounding set as well".into(),
            Step::NoNewPrivileges => "gives up gaining privileges by executing programs".into(),
            Step::Landlock(landlock) => format!(
                "allows with Landlock: the system's programs read and execute; {}; abstract sockets and signals to others not at all",
                describe_mounts(&landlock.mounts)
            ),
            Step::SystemCalls { internet: true } => "filters system calls".into(),
            Step::SystemCalls { internet: false } => {
                "filters system calls, internet sockets among them".into()
            }
        }
    }
}

impl Root {
    fn describe(&self) -> String {
        format!(
            "changes the root to an empty one with the system's programs and libraries (read-only), {}, and {} MiB each for /tmp and /dev/shm",
            describe_mounts(&self.mounts),
            self.tmp_max >> 20
        )
    }
}

impl Egress {
    fn describe(&self) -> String {
        let loopback: Vec<String> = self.loopback.iter().map(ToString::to_string).collect();
        let targets = if loopback.is_empty() {
            String::new()
        } else {
            format!(", and {} of the machine", loopback.join(", "))
        };
        format!(
            "starts a process that answers for granted names and hands connections to the host through {}{targets}",
            self.socket.display()
        )
    }
}

impl ProcessLimits {
    fn describe(&self) -> String {
        let mut all = vec!["no core dumps".to_owned()];
        all.extend(self.open_files.map(|n| format!("{n} open files")));
        all.extend(self.file_size.map(|n| format!("files of {} MiB", n >> 20)));
        all.extend(self.memory.map(|n| format!("{} MiB of data memory for each process", n >> 20)));
        all.extend(self.tasks.map(|n| format!("{n} processes and threads of its user")));
        format!("limits each process: {}", all.join(", "))
    }
}

fn describe_mounts(mounts: &[Mount]) -> String {
    let all: Vec<String> = mounts
        .iter()
        .map(|mount| match mount.access {
            Access::Program => format!("{} (read, execute)", mount.path.display()),
            Access::Data => format!("{} (read, write)", mount.path.display()),
        })
        .collect();
    all.join(", ")
}
