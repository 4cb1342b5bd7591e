//! Finds out by trying: whether an executable is a launcher, and what keeps processes together on this machine.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::control::{Control, ControlError, Order, Report};
use crate::plan::{Arg, Containment, Plan, Program, Step};
use crate::{MARKER, PROBE};

/// How long an executable has to answer, for each thing that is tried. A launcher needs milliseconds; a loaded machine seconds.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a launcher answers.
const MAGIC: &str = "temps-launcher-ok-1";

/// Set in the environment of an executable that is being probed.
const PROBE_VARIABLE: &str = "TEMPS_LAUNCHER_PROBE";

/// Longest answer that is read, in bytes. A program that is no launcher may print anything.
const MAX_ANSWER: usize = 4096;

/// What was found out about a launcher on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The strongest means that works.
    pub containment: Containment,
    /// Whether a program gets a `/proc` that shows its own namespace only.
    pub fresh_proc: bool,
    /// The steps that achieved it.
    pub steps: Vec<Step>,
    /// Why a pid namespace was not to be had, when it was not.
    pub refused: Option<String>,
}

/// Why an executable cannot be used as a launcher.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// This process was itself started by a probe, which means that it is no launcher.
    #[error(
        "this program was started to see whether it is a launcher, and it is not; call the launcher function first in `main`"
    )]
    Inside,
    /// The executable cannot be started.
    #[error("{path} cannot be started: {source}")]
    NotStarted {
        /// The executable.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The executable did something else than a launcher does.
    #[error(
        "{path} does not answer as a launcher ({found}); call the launcher function first in its `main`, or name another launcher executable"
    )]
    NoLauncher {
        /// The executable.
        path: PathBuf,
        /// What it did instead.
        found: String,
    },
    /// The executable is a launcher, and nothing that it tried works on this machine.
    #[error("no program can be launched on this machine: {0}")]
    NothingWorks(String),
}

/// Whether this process was started by a probe. A host must refuse to start then: it would probe itself again, and so on.
#[must_use]
pub fn inside_probe() -> bool {
    std::env::var_os(PROBE_VARIABLE).is_some()
}

/// Tries out what `executable` can do as a launcher here, the strongest means first. Blocks, at most [`PROBE_TIMEOUT`] for
/// each thing that is tried.
///
/// # Errors
/// [`ProbeError`] when it is no launcher or nothing works.
pub fn probe(executable: &Path) -> Result<Probe, ProbeError> {
    probe_as(executable, None)
}

/// Like [`probe`], and with `wanted` only this one means is tried.
///
/// # Errors
/// As [`probe`]; [`ProbeError::NothingWorks`] also when the wanted means is not to be had.
pub fn probe_as(executable: &Path, wanted: Option<Containment>) -> Result<Probe, ProbeError> {
    if inside_probe() {
        return Err(ProbeError::Inside);
    }
    ask(executable)?;
    let mut refused = Vec::new();
    for steps in candidates(wanted) {
        match try_steps(executable, &steps) {
            Ok((containment, fresh_proc)) => {
                let refused = (containment == Containment::ProcessGroup && wanted.is_none())
                    .then(|| refused.join("; "));
                return Ok(Probe { containment, fresh_proc, steps, refused });
            }
            Err(reason) => refused.push(reason),
        }
    }
    Err(ProbeError::NothingWorks(refused.join("; ")))
}

/// What is tried, the strongest first.
fn candidates(wanted: Option<Containment>) -> Vec<Vec<Step>> {
    let user = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut all = Vec::new();
    if wanted != Some(Containment::ProcessGroup) {
        // Root usually needs no user namespace; root in a container may have nothing else.
        if user.0 == 0 {
            all.push(Plan::pid_namespace_steps(None));
        }
        all.push(Plan::pid_namespace_steps(Some(user)));
    }
    if wanted != Some(Containment::PidNamespace) {
        all.push(Plan::process_group_steps());
    }
    all
}

/// Answers a probe.
pub(crate) fn answer() -> i32 {
    let mut rest = MAGIC.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), rest) {
            Ok(written) if written > 0 => rest = &rest[written..],
            _ => return 1,
        }
    }
    0
}

/// Asks an executable whether it is a launcher.
pub(crate) fn ask(executable: &Path) -> Result<(), ProbeError> {
    let not_started = |source| ProbeError::NotStarted { path: executable.to_owned(), source };
    let mut child = Command::new(executable)
        .args([MARKER, PROBE])
        .env_clear()
        .env(PROBE_VARIABLE, "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(not_started)?;
    let answer = read_answer(&mut child);
    end(&mut child);
    match answer {
        Ok(text) if text == MAGIC => Ok(()),
        Ok(text) if text.is_empty() => Err((executable, "it ended without an answer".to_owned())),
        Ok(text) => Err((executable, format!("it printed {:?}", text.chars().take(60).collect::<String>()))),
        Err(reason) => Err((executable, reason)),
    }
    .map_err(|(path, found)| ProbeError::NoLauncher { path: path.to_owned(), found })
}

/// Launches the launcher itself by these steps, as a program that answers, and returns what was measured.
fn try_steps(executable: &Path, steps: &[Step]) -> Result<(Containment, bool), String> {
    let program = Program {
        path: executable.to_owned(),
        args: [MARKER, MARKER, PROBE].map(Arg::plain).to_vec(),
        env: BTreeMap::from([(PROBE_VARIABLE.to_owned(), "1".to_owned())]),
        directory: "/".into(),
    };
    let mut trial = Trial::start(executable, Plan { steps: steps.to_vec(), program })?;
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let measured = loop {
        match trial.report(deadline)? {
            Report::Started { containment, fresh_proc, .. } => break (containment, fresh_proc),
            Report::StepFailed { step, error } => return Err(format!("{step}: {error}")),
            Report::Exited { .. } => return Err("the program ended before it was started".into()),
            Report::Prepared { .. } => trial.execute()?,
            Report::Remarked { .. } => {}
        }
    };
    match read_answer(&mut trial.child)? {
        text if text == MAGIC => Ok(measured),
        text => Err(format!("the launched program printed {text:?}")),
    }
}

/// A launcher that carries out a plan for a moment. Dropping it ends everything that it started.
pub(crate) struct Trial {
    control: Option<Control>,
    child: Child,
}

impl Trial {
    /// Starts a launcher and hands it the plan.
    pub(crate) fn start(executable: &Path, plan: Plan) -> Result<Self, String> {
        let (control, launcher_end) = Control::pair().map_err(|e| e.to_string())?;
        let child = Command::new(executable)
            .arg(MARKER)
            .env_clear()
            .current_dir("/")
            .stdin(launcher_end)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| e.to_string())?;
        let trial = Self { control: Some(control), child };
        trial.control()?.order(&Order::Launch(plan)).map_err(|e| e.to_string())?;
        Ok(trial)
    }

    /// The launcher's next report.
    pub(crate) fn report(&self, deadline: Instant) -> Result<Report, String> {
        let control = self.control()?;
        wait_readable(control, deadline)?;
        match control.report() {
            Ok(Some(report)) => Ok(report),
            Ok(None) | Err(ControlError::Closed) => Err("the launcher ended without a report".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Lets the prepared program be executed.
    pub(crate) fn execute(&self) -> Result<(), String> {
        self.control()?.order(&Order::Execute).map_err(|e| e.to_string())
    }

    /// The launcher's process id.
    pub(crate) fn launcher_pid(&self) -> u32 {
        self.child.id()
    }

    fn control(&self) -> Result<&Control, String> {
        self.control.as_ref().ok_or_else(|| "the trial is over".into())
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // The lifeline's end is what the launcher waits for.
        self.control = None;
        end(&mut self.child);
    }
}

/// Reads what the child prints until it closes its output, at most [`MAX_ANSWER`] bytes and [`PROBE_TIMEOUT`].
fn read_answer(child: &mut Child) -> Result<String, String> {
    let Some(mut stdout) = child.stdout.take() else { return Err("its output is not readable".into()) };
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let mut answer = Vec::new();
    let mut chunk = [0; 512];
    while answer.len() < MAX_ANSWER {
        wait_readable(&stdout, deadline)?;
        match stdout.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn wait_readable(fd: &impl AsFd, deadline: Instant) -> Result<(), String> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|e| e.to_string())?;
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(format!("it gave no answer for {} seconds", PROBE_TIMEOUT.as_secs())),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Ends a probed process with everything in its process group.
fn end(child: &mut Child) {
    // The group keeps its number as long as the child was not waited for.
    let _ = rustix::process::kill_process_group(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::KILL,
    );
    let _ = child.wait();
}
