//! The process of one plugin: started through the launcher, watched, signalled, ended with everything that it left behind.
//!
//! This is the only file of the host that starts processes. It knows nothing of handshakes, channels or policies.

mod confined;
mod error;
mod program;
mod watched;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use temps_protocol::{Feature, PluginName};
use temps_sandbox::{
    Containment, Control, ControlError, Decided, Decision, Egress, Group, Groups, Layer, LayerReport,
    Machine, Order, Plan, Policies, ProbeError, Refusal, Remark, Report,
};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::watched::{End, Watched, next_report, registered};
use crate::sandbox::SandboxSpec;
use crate::secrets::Secret;

pub use self::confined::Confined;
pub use self::error::SpawnError;
pub use self::program::{MAX_SOCKET_PATH, PLUGIN_PATH};
pub use self::watched::ExitReport;

/// Features that this host has and announces to plugins.
pub const HOST_FEATURES: &[Feature] = &Feature::ALL;

/// How long the launcher has to build the place and execute the plugin. It needs milliseconds; a loaded machine seconds.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a launcher that starts behind others may be kept waiting by them.
const BEHIND_OTHERS_AT_MOST: Duration = Duration::from_secs(1);

/// Signals that may wait for the launcher. A stop sends one; more are somebody's mistake.
const SIGNAL_QUEUE: usize = 8;

/// Who tries the sandbox, where no user was set aside for that. Nothing belongs to it.
const TRIAL_USER: (u32, u32) = (65_533, 65_533);

/// Starts plugins: an executable that was seen to answer as a launcher, and what it can do on this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Launcher {
    executable: Arc<Path>,
    machine: Arc<Machine>,
    /// What was read back of the program that was launched for a trial.
    tried: Arc<[LayerReport]>,
    groups: Groups,
}

/// What to start, and what the plugin is told.
#[derive(Debug, Clone)]
pub struct SpawnSpec {
    /// The executable, an absolute path.
    pub program: PathBuf,
    /// Name of the plugin, once it is known.
    pub name: Option<PluginName>,
    /// Where the plugin is to listen; at most [`MAX_SOCKET_PATH`] bytes.
    pub socket: PathBuf,
    /// Proves to the plugin that a request comes from the host; fresh for each spawn.
    pub secret: Secret,
    /// The plugin's own directory, its home and its working directory. It must exist.
    pub data_dir: PathBuf,
    /// Where the plugin puts temporary files, when it has no root of its own. It must exist.
    pub tmp_dir: PathBuf,
    /// What is built around the plugin. What its user needs must belong to that user.
    pub sandbox: SandboxSpec,
    /// The way out of the plugin's own network, where it gets one. The socket must be listened at.
    pub egress: Option<Egress>,
    /// Further variables of the environment.
    pub env: BTreeMap<String, String>,
}

/// A plugin's process and everything that descends from it. Dropping it ends all of them.
#[derive(Debug)]
pub struct Process {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    launcher_pid: u32,
    pid: Option<u32>,
    containment: Containment,
    signals: mpsc::Sender<i32>,
    lifeline: CancellationToken,
    end: watch::Receiver<End>,
    confined: Arc<Confined>,
}

impl Launcher {
    /// Tries out what `executable` (by default the running program itself) can do as a launcher on this machine.
    ///
    /// # Errors
    /// [`ProbeError`] when it is no launcher, or when this process was itself started by such a try.
    pub async fn prepare(executable: Option<&Path>) -> Result<Self, ProbeError> {
        Self::prepare_for(executable, TRIAL_USER).await
    }

    /// Like [`Launcher::prepare`], with one certain means to keep a plugin's processes together.
    ///
    /// # Errors
    /// As [`Launcher::prepare`]; also when the means is not to be had.
    pub async fn prepare_as(
        executable: Option<&Path>,
        wanted: Option<Containment>,
    ) -> Result<Self, ProbeError> {
        let mut launcher = Self::prepare_for(executable, TRIAL_USER).await?;
        match wanted {
            None => {}
            Some(Containment::PidNamespace) => {
                if let Some(why) = launcher.machine.unavailable.get(&Layer::Processes) {
                    return Err(ProbeError::NothingWorks(why.clone()));
                }
            }
            Some(Containment::ProcessGroup) => {
                let mut machine = Machine::clone(&launcher.machine);
                machine.unavailable.insert(Layer::Processes, "a process group was asked for".to_owned());
                launcher.machine = Arc::new(machine);
            }
        }
        Ok(launcher)
    }

    /// Like [`Launcher::prepare`]; a host that is root tries whether plugins can run as users like this one.
    ///
    /// # Errors
    /// As [`Launcher::prepare`]. A machine that can do nothing else than start programs is no error.
    pub async fn prepare_for(executable: Option<&Path>, user: (u32, u32)) -> Result<Self, ProbeError> {
        // The link of the kernel leads to the running program even after its file was replaced by an update.
        let executable: Arc<Path> = executable.unwrap_or(Path::new("/proc/self/exe")).into();
        let path = Arc::clone(&executable);
        let tried = tokio::task::spawn_blocking(move || try_out(&path, user)).await;
        let (groups, machine, tried) = tried.map_err(|e| ProbeError::NothingWorks(e.to_string()))??;
        Ok(Self { executable, machine: Arc::new(machine), tried: tried.into(), groups })
    }

    /// What this machine can do.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The control groups of its programs.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What was read back of the program that was launched to try every layer.
    #[must_use]
    pub fn tried(&self) -> &[LayerReport] {
        &self.tried
    }

    /// What a program would get, without the files of its own: every layer, and the decision or why it would not be started.
    pub fn foresee(&self, sandbox: &SandboxSpec) -> (Vec<Decided>, Result<Decision, Refusal>) {
        let user = self.machine.has_users(&sandbox.policies).then_some(TRIAL_USER);
        let wanted = confined::wanted(&self.machine, &sandbox.clone().as_user(user), Vec::new(), None);
        let layers = temps_sandbox::decide_layers(&self.machine, &wanted);
        (layers, temps_sandbox::decide(&self.machine, &wanted))
    }

    /// Starts a plugin and returns once it was executed.
    ///
    /// # Errors
    /// [`SpawnError`] names the step that failed; nothing of the plugin is left then.
    pub async fn spawn(&self, spec: &SpawnSpec) -> Result<Process, SpawnError> {
        let mounts = confined::mounts(spec);
        let decision = confined::decide(&self.machine, &spec.sandbox, mounts, spec.egress.clone())?;
        let program = program::of(spec, &decision)?;
        let group = self.group(spec, &decision).await?;
        let plan = decision.plan(program, group.directories());
        let (mut child, control) = self.start(spec, plan, group.is_in_background()).await?;
        let launcher_pid = child.id().ok_or(SpawnError::LauncherEnded)?;
        let launch = launch(&control, launcher_pid, decision, group);
        let launched = patiently(launch, launcher_pid).await.map_err(|_| SpawnError::Timeout)?;
        let (confined, containment) = launched?;
        let pid = confined.pid();
        let (signals, signal_queue) = mpsc::channel(SIGNAL_QUEUE);
        let lifeline = CancellationToken::new();
        let (told, end) = watch::channel(End::default());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let watched = Watched {
            child,
            launcher_pid,
            pid,
            containment,
            control,
            signals: signal_queue,
            lifeline: lifeline.clone(),
            confined: Arc::clone(&confined),
        };
        tokio::spawn(watched.run(told));
        Ok(Process { stdout, stderr, launcher_pid, pid, containment, signals, lifeline, end, confined })
    }

    /// The control group of a program. Making it writes files of the kernel.
    async fn group(&self, spec: &SpawnSpec, decision: &Decision) -> Result<Group, SpawnError> {
        let name = spec.name.as_ref().map_or("inspected", |name| name.as_str()).to_owned();
        let (groups, limits) = (self.groups.clone(), decision.group);
        let made = tokio::task::spawn_blocking(move || groups.create(&name, &limits)).await;
        Ok(made.map_err(|_| SpawnError::LauncherEnded)??)
    }

    /// Starts the launcher and hands it the plan. Nothing is done between fork and exec, and the launcher's life does not hang on
    /// the thread that starts it.
    async fn start(
        &self,
        spec: &SpawnSpec,
        plan: Plan,
        behind_others: bool,
    ) -> Result<(Child, AsyncFd<Control>), SpawnError> {
        let (control, launcher_end) = Control::pair().map_err(ControlError::Socket)?;
        let mut command = Command::new(&*self.executable);
        command
            .arg0(format!("launcher of {}", spec.program.display()))
            .arg(temps_sandbox::MARKER)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(launcher_end))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let started = if behind_others { start_behind_others(command).await } else { command.spawn() };
        let child =
            started.map_err(|source| SpawnError::Launcher { path: self.executable.to_path_buf(), source })?;
        control.order(&Order::Launch(plan))?;
        Ok((child, registered(control).map_err(ControlError::Socket)?))
    }
}

/// Waits for a launch. One that somebody else's work holds up because it began behind others is held up no longer then.
async fn patiently<T>(launch: impl Future<Output = T>, launcher: u32) -> Result<T, Elapsed> {
    let mut launch = pin!(launch);
    if let Ok(launched) = timeout(BEHIND_OTHERS_AT_MOST, &mut launch).await {
        return Ok(launched);
    }
    // Failing means that the runtime ends.
    let _ = tokio::task::spawn_blocking(move || temps_sandbox::bring_forward(launcher)).await;
    timeout(LAUNCH_TIMEOUT, launch).await
}

/// Starts a process on a thread that may have to wait, which this one may not.
async fn start_behind_others(mut command: Command) -> io::Result<Child> {
    let runtime = Handle::current();
    let start = move || {
        temps_sandbox::behind_others(|| {
            let _entered = runtime.enter();
            command.spawn()
        })
    };
    tokio::task::spawn_blocking(start).await.map_err(io::Error::other)?
}

/// Finds out what the machine can do. Blocks.
fn try_out(executable: &Path, user: (u32, u32)) -> Result<(Groups, Machine, Vec<LayerReport>), ProbeError> {
    let groups = Groups::open();
    match Machine::probe(executable, &groups, &Policies::strictest(), user) {
        Ok(trial) => Ok((groups, trial.machine, trial.layers)),
        Err(ProbeError::NothingWorks(why)) => {
            // The host goes on where programs can be started at all, and says what it lacks.
            temps_sandbox::probe_as(executable, Some(Containment::ProcessGroup))?;
            Ok((groups, Machine::unable(&why), Vec::new()))
        }
        Err(error) => Err(error),
    }
}

/// Follows a launch to its end. Between the last step and the execution the process is looked at: the plugin gets no
/// instruction and no secret in a sandbox that is not what it has to be.
async fn launch(
    control: &AsyncFd<Control>,
    launcher_pid: u32,
    decision: Decision,
    group: Group,
) -> Result<(Arc<Confined>, Containment), SpawnError> {
    let mut remarks = Vec::new();
    let own_pid = loop {
        match next_report(control).await? {
            Some(Report::Remarked { step, whole, words }) => remarks.push(Remark { step, whole, words }),
            Some(Report::Prepared { pid }) => break pid,
            other => return Err(not_launched(other, &decision)),
        }
    };
    let pid = temps_sandbox::program_pid(launcher_pid, own_pid);
    let confined = Arc::new(Confined::new(decision, group, remarks, pid));
    let looked_at = Arc::clone(&confined);
    let judged = tokio::task::spawn_blocking(move || looked_at.judge_prepared()).await;
    judged.map_err(|_| SpawnError::LauncherEnded)??;
    control.get_ref().order(&Order::Execute)?;
    match next_report(control).await? {
        Some(Report::Started { containment, .. }) => Ok((confined, containment)),
        other => Err(not_launched(other, confined.decision())),
    }
}

fn not_launched(report: Option<Report>, decision: &Decision) -> SpawnError {
    match report {
        Some(Report::StepFailed { step, error }) => {
            let layer = decision.layer_of(&step);
            SpawnError::Step { step, layer, error }
        }
        _ => SpawnError::LauncherEnded,
    }
}

impl Process {
    /// The plugin's output; it can be taken once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// The plugin's error output; it can be taken once.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }

    /// Process id of the launcher: all processes of the plugin descend from it.
    #[must_use]
    pub fn launcher_pid(&self) -> u32 {
        self.launcher_pid
    }

    /// Process id of the plugin as the host sees it; `None` if it had ended before that could be read.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What keeps the plugin's processes together, as measured by the launcher.
    #[must_use]
    pub fn containment(&self) -> Containment {
        self.containment
    }

    /// The sandbox of the plugin.
    #[must_use]
    pub fn confined(&self) -> &Arc<Confined> {
        &self.confined
    }

    /// Waits for the end of the plugin itself, seen at once. What it left behind may live for another moment; see [`Process::gone`].
    pub async fn wait_exit(&self) -> ExitReport {
        wait_exit(self.end.clone()).await
    }

    /// Like [`Process::wait_exit`], as a future of its own that does not borrow the process.
    pub fn exited(&self) -> impl Future<Output = ExitReport> + Send + use<> {
        wait_exit(self.end.clone())
    }

    /// Waits until no process of the plugin is left.
    pub async fn gone(&self) {
        let mut end = self.end.clone();
        // The other side goes only when the runtime does.
        let _ = end.wait_for(|end| end.gone).await;
    }

    /// Sends a signal to the plugin's process group, through the launcher. Without effect once the plugin has ended.
    ///
    /// `signal` is a number, for example 15 for SIGTERM.
    pub fn signal(&self, signal: i32) {
        if let Err(error) = self.signals.try_send(signal) {
            tracing::debug!(signal, %error, launcher = self.launcher_pid, "a signal was not sent");
        }
    }

    /// Ends the plugin and everything that descends from it, at once. [`Process::gone`] tells when it is done.
    pub fn kill(&self) {
        self.lifeline.cancel();
    }

    /// Whether a debugger is attached to the plugin or to a process below it.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        temps_sandbox::descendants(self.launcher_pid).into_iter().any(is_traced)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.lifeline.cancel();
    }
}

async fn wait_exit(mut end: watch::Receiver<End>) -> ExitReport {
    let ended = end.wait_for(|end| end.exit.is_some()).await.map(|end| end.exit);
    // The other side goes without a word only with the runtime, and the lifeline goes with it.
    let killed = ExitReport { code: None, signal: None, out_of_memory: None, killed_by_host: true };
    ended.ok().flatten().unwrap_or(killed)
}

fn is_traced(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_some_and(|tracer| tracer.trim() != "0")
}
