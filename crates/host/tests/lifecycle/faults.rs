//! Layers of the sandbox taken away one by one, and what becomes of a plugin then.
//!
//! Each fault is real: a setting of the kernel, a mount, or a filter of system calls, in namespaces of a process of its own
//! that is the host. A machine that cannot do a layer refuses its system calls. One that lies answers that they
//! succeeded, and does nothing.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "the helpers of tests panic and tell like the tests themselves"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use temps_host::sandbox::Layer::{self, *};
use temps_host::sandbox::{PluginSandbox, Policies, Policy, State};
use temps_host::{PluginHost, PluginSnapshot, PluginState};
use temps_testkit::skip;

use crate::rig::{Rig, until, until_state};
use crate::sandboxed::{NAME, explain, put, state};

/// Tell the child where to work, and which layer is to be missing.
const PLACE: &str = "TEMPS_TEST_FAULT_PLACE";
const LAYER: &str = "TEMPS_TEST_FAULT_LAYER";

/// Hosts that are tried at the same time.
const AT_ONCE: usize = 4;

/// The kernel's numbers of what is asked of `prctl` and `unshare`.
const NO_NEW_PRIVILEGES: u64 = 38;
const DROP_FROM_BOUNDING_SET: u64 = 24;
const NEW_NETWORK: u64 = 0x4000_0000;
const NEW_IPC: u64 = 0x0800_0000;
const NEW_HOSTNAME: u64 = 0x0400_0000;
const NEW_GROUP_VIEW: u64 = 0x0200_0000;

/// What takes a layer away.
enum Fault {
    /// A line of shell, in the namespaces of the host before it starts.
    Shell(&'static str),
    /// A system call is refused, like by a kernel that does not have it.
    Call(Call),
    /// The host's namespaces alone: there is one user in them.
    Namespaces,
}

/// A system call, and which of its arguments make it the one that is meant.
#[derive(Clone, Copy)]
struct Call(c_long, Option<(u8, Means)>);

#[derive(Clone, Copy)]
enum Means {
    Is(u64),
    Has(u64),
    IsNot(u64),
}

const NO_GROUPS: Fault = Fault::Shell("mount -t tmpfs -o ro hidden /sys/fs/cgroup");
const SET_LIMIT: Call = Call(libc::SYS_prlimit64, Some((2, Means::IsNot(0))));

fn fault(layer: Layer) -> Fault {
    match layer {
        Processes => Fault::Shell("echo 0 > /proc/sys/user/max_pid_namespaces"),
        User => Fault::Namespaces,
        Privileges => Fault::Call(Call(libc::SYS_prctl, Some((0, Means::Is(NO_NEW_PRIVILEGES))))),
        Files => Fault::Shell("echo 0 > /proc/sys/user/max_mnt_namespaces"),
        // Whoever sees a part of /proc only may not mount another one.
        ProcessView => Fault::Shell(
            "mount -t tmpfs -o ro hidden /proc/acpi && set -- unshare --user --map-root-user --mount \"$@\"",
        ),
        Network => Fault::Shell("echo 0 > /proc/sys/user/max_net_namespaces"),
        Ipc => Fault::Shell("echo 0 > /proc/sys/user/max_ipc_namespaces"),
        Hostname => Fault::Shell("echo 0 > /proc/sys/user/max_uts_namespaces"),
        GroupView => Fault::Shell("echo 0 > /proc/sys/user/max_cgroup_namespaces"),
        SystemCalls => Fault::Call(Call(libc::SYS_seccomp, None)),
        Landlock => Fault::Call(Call(libc::SYS_landlock_create_ruleset, None)),
        Memory | Cpu | Tasks => NO_GROUPS,
        OpenFiles | FileSize => Fault::Call(SET_LIMIT),
    }
}

/// The calls of which a lying kernel says that they succeeded, for layers whose loss shows in the process itself.
fn lies(layer: Layer) -> Vec<Call> {
    let unshare = |flag| vec![Call(libc::SYS_unshare, Some((0, Means::Has(flag))))];
    match layer {
        // Without a bounding set an execution would drop them after all.
        Privileges => vec![
            Call(libc::SYS_capset, None),
            Call(libc::SYS_prctl, Some((0, Means::Is(DROP_FROM_BOUNDING_SET)))),
        ],
        Files => vec![Call(libc::SYS_mount_setattr, None)],
        Network => unshare(NEW_NETWORK),
        Ipc => unshare(NEW_IPC),
        Hostname => unshare(NEW_HOSTNAME),
        GroupView => unshare(NEW_GROUP_VIEW),
        SystemCalls => vec![Call(libc::SYS_seccomp, None)],
        OpenFiles | FileSize => vec![SET_LIMIT],
        _ => Vec::new(),
    }
}

/// Answers this call with an error, or with 0 for a lie, in this process and all that it starts from now on.
fn answer(call: Call, error: u32) {
    let condition = call.1.map(|(argument, means)| {
        let (operator, value) = match means {
            Means::Is(value) => (SeccompCmpOp::Eq, value),
            Means::Has(flag) => (SeccompCmpOp::MaskedEq(flag), flag),
            Means::IsNot(value) => (SeccompCmpOp::Ne, value),
        };
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value).unwrap()
    });
    let rules = condition.into_iter().map(|one| SeccompRule::new(vec![one]).unwrap()).collect();
    let filter = SeccompFilter::new(
        BTreeMap::from([(call.0, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(error),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let filter: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter_all_threads(&filter).unwrap();
}

/// A host of its own in namespaces of its own: this test binary once more, with one of its tests. What it printed.
fn in_namespaces(child: &str, layer: Option<Layer>, shell: &str) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--net", "--uts", "--propagation", "private", "--"])
        .args(["sh", "-c", &format!("{shell} && exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("faults::{child}"), "--ignored", "--nocapture"])
        .env(PLACE, home.path())
        .env(LAYER, layer.map_or("none", Layer::as_str))
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// Tries all of these in hosts of their own, a few at a time, and shows a line of what each one said.
fn try_all(child: &str, layers: &[Layer], shell: impl Fn(Layer) -> &'static str + Sync) {
    let (next, failed) = (Mutex::new(layers.iter()), Mutex::new(String::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(layer) = next.lock().unwrap().next() else { break };
                    match in_namespaces(child, Some(*layer), shell(*layer)) {
                        Ok(text) => {
                            let said = text.lines().find(|line| line.starts_with("said: "));
                            eprintln!("{layer:14} {}", said.unwrap_or("nothing"));
                        }
                        Err(text) => writeln!(failed.lock().unwrap(), "--- {layer}\n{text}").unwrap(),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed}");
}

/// The layers that are in force in these namespaces while nothing is taken away; `None` where there are no such namespaces.
fn in_force_without_a_fault(test: &str) -> Option<String> {
    if let Err(why) = Command::new("unshare").args(["--user", "--map-root-user", "--net", "true"]).output() {
        skip(test, &format!("there is no unshare: {why}"));
        return None;
    }
    match in_namespaces("child_that_lacks_nothing", None, "true") {
        Ok(text) => Some(text),
        Err(text) if text.contains("unshare failed") => {
            skip(test, "namespaces of an ordinary user are not to be had here");
            None
        }
        Err(text) => panic!("{text}"),
    }
}

#[test]
fn whichever_layer_is_missing_require_refuses_the_plugin_and_the_default_goes_on_without_and_says_so() {
    let test =
        "whichever_layer_is_missing_require_refuses_the_plugin_and_the_default_goes_on_without_and_says_so";
    let Some(whole) = in_force_without_a_fault(test) else { return };
    for layer in Layer::ALL.iter().filter(|layer| !matches!(fault(**layer), Fault::Namespaces)) {
        if !whole.contains(&format!("in force: {layer}\n")) {
            skip(test, &format!("`{layer}` is missing here already, so nothing had to be taken away"));
        }
    }
    try_all("child_that_lacks_a_layer", &Layer::ALL, |layer| match fault(layer) {
        Fault::Shell(line) => line,
        _ => "true",
    });
}

#[test]
fn a_layer_that_was_built_and_is_not_in_force_keeps_the_plugin_from_being_executed() {
    let test = "a_layer_that_was_built_and_is_not_in_force_keeps_the_plugin_from_being_executed";
    if in_force_without_a_fault(test).is_none() {
        return;
    }
    let layers: Vec<Layer> = Layer::ALL.into_iter().filter(|layer| !lies(*layer).is_empty()).collect();
    try_all("child_whose_kernel_lies", &layers, |_| "true");
}

#[test]
fn a_layer_that_cannot_be_built_any_more_keeps_the_plugin_from_being_executed() {
    let test = "a_layer_that_cannot_be_built_any_more_keeps_the_plugin_from_being_executed";
    if in_force_without_a_fault(test).is_some() {
        try_all("child_whose_machine_changes", &[Network], |_| "true");
    }
}

/// The rig of a child, and the layer that it is about.
fn given() -> Option<(Rig, Option<Layer>)> {
    let place = std::env::var_os(PLACE)?;
    let name = std::env::var(LAYER).unwrap();
    Some((Rig::at(Path::new(&place)), Layer::ALL.into_iter().find(|layer| layer.as_str() == name)))
}

fn with_policy(rig: &Rig, layer: Layer, policy: Policy) -> temps_host::HostConfig {
    let mut config = rig.config.clone();
    let own = PluginSandbox { policies: Policies::unset().with(layer, policy), read_only_paths: Vec::new() };
    config.sandbox.plugins.insert(NAME.to_owned(), own);
    config
}

/// Written by the plugin as soon as it runs, after its start and not when it is inspected.
fn was_executed(rig: &Rig) -> bool {
    rig.config.state_dir.join("data").join(NAME).join("seen").exists()
}

async fn start_again(host: &PluginHost, config: temps_host::HostConfig) -> Arc<PluginSnapshot> {
    host.reload(config).await.unwrap();
    host.start_plugin(NAME, "ada").await.unwrap();
    until_state(host, NAME, PluginState::Running).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of the test above"]
async fn child_that_lacks_nothing() {
    let Some((rig, _)) = given() else { return };
    let host = rig.host().await;
    put(&rig);
    until_state(&host, NAME, PluginState::Running).await;
    for report in explain(&host).await.layers {
        assert_eq!(report.policy, Policy::Strict);
        if report.state == State::InForce {
            eprintln!("in force: {}", report.layer);
        }
    }
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of the test above"]
async fn child_that_lacks_a_layer() {
    let Some((mut rig, Some(layer))) = given() else { return };
    if let Fault::Call(call) = fault(layer) {
        answer(call, u32::try_from(if layer == Landlock { libc::ENOSYS } else { libc::EPERM }).unwrap());
    }
    let whole = rig.config.clone();
    rig.config = with_policy(&rig, layer, Policy::Require);
    let host = rig.host().await;
    put(&rig);
    let refused = until_state(&host, NAME, PluginState::Refused).await;
    let reason = refused.reason.as_ref().unwrap();
    eprintln!("said: {reason}");
    assert!(
        reason.contains(&format!("`{layer}` is required")) && reason.contains(layer.remedy()),
        "{reason}"
    );
    assert!(refused.pid.is_none() && !was_executed(&rig), "it was executed");

    start_again(&host, whole).await;
    let explained = explain(&host).await;
    let report = explained.layers.iter().find(|report| report.layer == layer).unwrap();
    assert!(matches!(report.state, State::NotInForce | State::Partial), "{report:?}");
    assert_eq!(report.policy, Policy::Strict);
    assert!(was_executed(&rig));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of the test above"]
async fn child_whose_kernel_lies() {
    let Some((rig, Some(layer))) = given() else { return };
    let host = rig.host().await;
    ran_once(&rig, &host).await;
    if state(&explain(&host).await, layer) == State::NotInForce {
        return skip("a kernel that lies", &format!("`{layer}` is missing here already"));
    }
    lies(layer).into_iter().for_each(|call| answer(call, 0));
    host.start_plugin(NAME, "ada").await.unwrap();
    let refused = until(&host, NAME, |snapshot| snapshot.state == PluginState::Refused).await;
    let reason = refused.reason.as_ref().unwrap();
    eprintln!("said: {reason}");
    assert!(reason.contains("was not found in force"), "{reason}");
    assert!(
        reason.contains(&format!("`{layer}` has to be in force")) || same_fault(layer, reason),
        "{reason}"
    );
    assert!(!was_executed(&rig), "it was executed");

    // Who only prefers it gets the plugin, and the truth.
    let mut config = with_policy(&rig, layer, Policy::Prefer);
    if let Some(own) = config.sandbox.plugins.get_mut(NAME) {
        // Two limits are set by the same call.
        own.policies = own.policies.clone().with(OpenFiles, Policy::Prefer).with(FileSize, Policy::Prefer);
    }
    start_again(&host, config).await;
    assert_eq!(state(&explain(&host).await, layer), State::NotInForce);
    host.shutdown().await;
}

/// Two limits of a process are set by the same call, and a lie about both is found with the first.
fn same_fault(layer: Layer, reason: &str) -> bool {
    layer == FileSize && reason.contains("`open_files` has to be in force")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child of the test above"]
async fn child_whose_machine_changes() {
    let Some((rig, Some(layer))) = given() else { return };
    let host = rig.host().await;
    ran_once(&rig, &host).await;
    std::fs::write("/proc/sys/user/max_net_namespaces", "0").unwrap();
    host.start_plugin(NAME, "ada").await.unwrap();
    // The machine could do it a moment ago, so it is tried again, and never without.
    let failed = until(&host, NAME, |snapshot| snapshot.last_crash.is_some()).await;
    let cause = &failed.last_crash.as_ref().unwrap().cause;
    eprintln!("said: {cause}");
    assert!(cause.contains("network_namespace of the sandbox layer `network`"), "{cause}");
    assert!(cause.contains(layer.remedy()) && !was_executed(&rig), "{cause}");
    host.shutdown().await;
}

/// The plugin ran, so that it has been inspected and its layers were all in force; nothing is left of that.
async fn ran_once(rig: &Rig, host: &PluginHost) {
    put(rig);
    until_state(host, NAME, PluginState::Running).await;
    assert!(was_executed(rig));
    host.stop_plugin(NAME, "ada").await.unwrap();
    until_state(host, NAME, PluginState::Stopped).await;
    std::fs::remove_file(rig.config.state_dir.join("data").join(NAME).join("seen")).unwrap();
}
