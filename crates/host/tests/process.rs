//! What the host promises about a plugin's process, with real processes.
#![expect(clippy::unwrap_used, reason = "the helpers of tests panic like the tests themselves")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use temps_host::plugin::process::{Launcher, Process, SpawnError, SpawnSpec};
use temps_host::protocol::PluginName;
use temps_host::sandbox::SandboxSpec;
use temps_host::secrets::Secret;
use temps_sandbox::{Containment, ProbeError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::process::ChildStdout;

/// How long a test waits for what must happen. It is reached only when a promise is broken.
const PATIENCE: Duration = Duration::from_secs(60);

const SECRET: &str = "a-secret-of-this-spawn";

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A plugin that is a script.
    fn plugin(&self, script: &str) -> PathBuf {
        let path = self.path().join("plugin");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn spec(&self, script: &str) -> SpawnSpec {
        SpawnSpec {
            program: self.plugin(script),
            name: Some(PluginName::new("tried").unwrap()),
            socket: self.path().join("tried.sock"),
            secret: Secret::new(SECRET.into()),
            data_dir: self.path().to_owned(),
            tmp_dir: self.path().to_owned(),
            sandbox: SandboxSpec::processes_only(),
            egress: None,
            env: BTreeMap::from([("EXTRA".into(), "given".into())]),
        }
    }
}

fn executable() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_temps-host-test-launcher"))
}

async fn launchers() -> Vec<Launcher> {
    let mut all = Vec::new();
    for containment in [Containment::PidNamespace, Containment::ProcessGroup] {
        all.push(Launcher::prepare_as(Some(executable()), Some(containment)).await.unwrap());
    }
    all
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen")
}

struct Output(tokio::io::BufReader<ChildStdout>);

impl Output {
    fn of(process: &mut Process) -> Self {
        Self(tokio::io::BufReader::new(process.take_stdout().unwrap()))
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        in_time(self.0.read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        in_time(self.0.read_to_string(&mut rest)).await.unwrap();
        rest
    }
}

/// Holds on to processes, so that their end can be awaited without mistaking others for them.
struct Held(Vec<OwnedFd>);

impl Held {
    fn below(root: u32) -> Self {
        let pids = temps_sandbox::descendants(root);
        let open = |pid: u32| rustix::process::pidfd_open(pid_of(pid), PidfdFlags::empty()).ok();
        Self(pids.into_iter().filter_map(open).collect())
    }

    fn wait_until_all_ended(&self) {
        for held in &self.0 {
            let timeout = Timespec::try_from(PATIENCE).unwrap();
            let ended = rustix::event::poll(&mut [PollFd::new(&held.as_fd(), PollFlags::IN)], Some(&timeout))
                .unwrap();
            assert_eq!(ended, 1, "a process is still there");
        }
    }
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).unwrap()
}

const DAEMONISE: &str = "setsid sh -c 'sleep 86397 & sleep 86397 & exit' & wait $!; (setsid sleep 86397 &);";

#[tokio::test]
async fn a_plugin_gets_exactly_these_arguments_and_this_environment() {
    let place = Place::new();
    let path = place.path().display().to_string();
    for launcher in launchers().await {
        let script = "#!/usr/bin/python3 -I\nimport os, sys\nprint(*sys.argv[1:])\nfor n in sorted(os.environ): print(n + '=' + os.environ[n])\nprint(os.getcwd())";
        let mut process = launcher.spawn(&place.spec(script)).await.unwrap();
        let mut output = Output::of(&mut process);
        assert_eq!(
            output.line().await,
            format!("--socket-path {path}/tried.sock --auth-secret {SECRET} --data-dir {path}")
        );
        let wanted = [
            "EXTRA=given",
            &format!("HOME={path}"),
            "LANG=C.UTF-8",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "TEMPS_API_VERSION=1.0.0",
            "TEMPS_FEATURES=ack,reconnect,config,kv",
            "TEMPS_PLUGIN_NAME=tried",
            &format!("TMPDIR={path}"),
            &path,
        ]
        .join("\n");
        assert_eq!(output.rest().await.trim_end(), wanted);
        assert_eq!(in_time(process.wait_exit()).await.code, Some(0));
    }
}

#[tokio::test]
async fn interpreters_are_found_on_the_plugins_own_path() {
    let place = Place::new();
    let launcher = Launcher::prepare(Some(executable())).await.unwrap();
    let script = "#!/usr/bin/env python3\nimport sys\nprint(sys.executable)";
    let mut process = launcher.spawn(&place.spec(script)).await.unwrap();
    let interpreter = Output::of(&mut process).line().await;
    assert!(
        ["/usr/local/bin", "/usr/bin", "/bin"]
            .contains(&Path::new(&interpreter).parent().unwrap().to_str().unwrap())
    );
}

#[tokio::test]
async fn the_end_of_a_plugin_is_seen_and_takes_its_daemons_with_it() {
    let place = Place::new();
    for launcher in launchers().await {
        let script = format!("#!/bin/sh\n{DAEMONISE} echo up; kill -9 $$");
        let mut process = launcher.spawn(&place.spec(&script)).await.unwrap();
        let mut output = Output::of(&mut process);
        assert_eq!(output.line().await, "up");
        let exit = in_time(process.wait_exit()).await;
        assert_eq!((exit.code, exit.signal, exit.killed_by_host), (None, Some(9), false));
        assert_eq!(exit.describe(), "was killed by signal 9");
        in_time(process.gone()).await;
        assert_eq!(output.rest().await, "");
        assert_eq!(temps_sandbox::parent(process.launcher_pid()), None, "the launcher was not waited for");
    }
}

#[tokio::test]
async fn a_plugin_that_takes_no_notice_of_sigterm_is_killed_with_everything_below_it() {
    let place = Place::new();
    for launcher in launchers().await {
        let script = format!(
            "#!/bin/sh\ntrap 'echo no' TERM; {DAEMONISE} echo up; while :; do sleep 0.01; done 2>/dev/null"
        );
        let mut process = launcher.spawn(&place.spec(&script)).await.unwrap();
        let mut output = Output::of(&mut process);
        assert_eq!(output.line().await, "up");
        process.signal(15);
        assert_eq!(output.line().await, "no");
        process.kill();
        assert!(in_time(process.wait_exit()).await.killed_by_host);
        in_time(process.gone()).await;
        output.rest().await;
    }
}

#[tokio::test]
async fn dropping_a_process_ends_all_of_it() {
    let place = Place::new();
    for launcher in launchers().await {
        let script = format!("#!/bin/sh\n{DAEMONISE} echo up; exec sleep 86397");
        let mut process = launcher.spawn(&place.spec(&script)).await.unwrap();
        let mut output = Output::of(&mut process);
        assert_eq!(output.line().await, "up");
        let exited = process.exited();
        drop(process);
        assert!(in_time(exited).await.killed_by_host);
        assert_eq!(output.rest().await, "");
    }
}

#[tokio::test]
async fn a_host_killed_with_9_leaves_no_process_of_a_plugin() {
    let place = Place::new();
    let plugin = place.plugin(&format!("#!/bin/sh\ntrap '' TERM HUP; {DAEMONISE} exec sleep 86397"));
    let mut host = Command::new(executable())
        .args([plugin.as_path(), place.path()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(host.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    // Two launcher processes or one, the shell (or what it became), and three daemons.
    let held = loop {
        let held = Held::below(host.id());
        if held.0.len() >= 5 {
            break held;
        }
        tokio::task::yield_now().await;
    };
    host.kill().unwrap();
    host.wait().unwrap();
    held.wait_until_all_ended();
}

#[tokio::test]
async fn a_plugin_outlives_the_thread_that_started_it() {
    let place = Place::new();
    for launcher in launchers().await {
        let spec = place.spec("#!/bin/sh\nread line < \"$HOME/fifo\"; echo $line");
        let fifo = place.path().join("fifo");
        let _ = std::fs::remove_file(&fifo);
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let handle = tokio::runtime::Handle::current();
        let mut process = tokio::task::spawn_blocking(|| {
            std::thread::spawn(move || handle.block_on(launcher.spawn(&spec))).join()
        })
        .await
        .unwrap()
        .unwrap()
        .unwrap();
        // The thread is gone, and the plugin still there to read.
        tokio::fs::write(&fifo, "alive\n").await.unwrap();
        assert_eq!(Output::of(&mut process).line().await, "alive");
    }
}

#[tokio::test]
async fn the_process_id_is_the_hosts_view_of_the_plugin() {
    let place = Place::new();
    let means = [Containment::PidNamespace, Containment::ProcessGroup];
    for (launcher, wanted) in launchers().await.into_iter().zip(means) {
        let mut process = launcher.spawn(&place.spec("#!/bin/sh\necho up; exec sleep 86397")).await.unwrap();
        assert_eq!(Output::of(&mut process).line().await, "up");
        assert_eq!(process.containment(), wanted);
        let pid = process.pid().unwrap();
        assert!(temps_sandbox::contains(process.launcher_pid(), pid));
        // The shell closes its output when it becomes the sleeper, not before; wait for that.
        in_time(async {
            while std::fs::read(format!("/proc/{pid}/cmdline")).unwrap() != b"sleep\x0086397\0" {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_debugger_is_seen_and_a_stop_under_it_is_not_taken_for_the_end() {
    let place = Place::new();
    for launcher in launchers().await {
        let script = "#!/usr/bin/python3 -I\nimport ctypes, signal, sys\nsys.stdin.read()\nprint('up', flush=True)\nopen(sys.argv[6] + '/go').read()\nctypes.CDLL(None).ptrace(0, 0, 0, 0)\nprint('traced', flush=True)\nsignal.pause()";
        let fifo = place.path().join("go");
        let _ = std::fs::remove_file(&fifo);
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let mut process = launcher.spawn(&place.spec(script)).await.unwrap();
        let mut output = Output::of(&mut process);
        assert_eq!(output.line().await, "up");
        assert!(!process.is_traced());
        tokio::fs::write(&fifo, "").await.unwrap();
        assert_eq!(output.line().await, "traced");
        assert!(process.is_traced());
        // Under a tracer a signal stops the process first; its parent, the tracer here, is told of the stop.
        process.signal(15);
        let status = format!("/proc/{}/status", process.pid().unwrap());
        in_time(async {
            while !std::fs::read_to_string(&status).unwrap().contains("State:\tt (tracing stop)") {
                tokio::task::yield_now().await;
            }
        })
        .await;
        process.kill();
        assert!(in_time(process.wait_exit()).await.killed_by_host);
        in_time(process.gone()).await;
    }
}

#[tokio::test]
async fn a_stopped_launcher_does_not_keep_a_plugin_alive() {
    let place = Place::new();
    for launcher in launchers().await {
        let mut process = launcher.spawn(&place.spec("#!/bin/sh\necho up; exec sleep 86397")).await.unwrap();
        let mut output = Output::of(&mut process);
        assert_eq!(output.line().await, "up");
        let plugin = process.pid().unwrap();
        let init = temps_sandbox::parent(plugin).unwrap();
        for pid in [process.launcher_pid(), init] {
            rustix::process::kill_process(pid_of(pid), Signal::STOP).unwrap();
        }
        process.kill();
        in_time(process.gone()).await;
        output.rest().await;
    }
}

#[tokio::test]
async fn a_start_that_fails_says_where_and_why() {
    let place = Place::new();
    let launcher = Launcher::prepare(Some(executable())).await.unwrap();
    match launcher.spawn(&place.spec("#!/no/such/ruby\n")).await {
        Err(SpawnError::Step { step, error, .. }) => {
            assert_eq!(step, "execute");
            assert!(error.contains("/no/such/ruby"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let mut spec = place.spec("#!/bin/sh\n");
    spec.data_dir = place.path().join("none");
    match launcher.spawn(&spec).await {
        Err(SpawnError::Step { step, error, .. }) => {
            assert_eq!(step, "working_directory");
            assert!(error.contains("none"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let mut spec = place.spec("#!/bin/sh\n");
    spec.socket = place.path().join("s".repeat(100));
    assert!(matches!(launcher.spawn(&spec).await, Err(SpawnError::SocketPathTooLong { .. })));
}

#[tokio::test]
async fn a_program_without_the_launcher_line_is_refused() {
    // The test's own executable is such a program.
    for program in [None, Some(Path::new("/bin/true"))] {
        let refused = Launcher::prepare(program).await;
        assert!(matches!(refused, Err(ProbeError::NoLauncher { .. })), "{refused:?}");
    }
}

#[test]
fn a_secret_is_in_no_debug_output() {
    let spec = Place::new().spec("#!/bin/sh\n");
    assert!(!format!("{spec:?}").contains(SECRET));
}
