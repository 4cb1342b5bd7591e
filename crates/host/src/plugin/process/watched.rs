//! Watching over a started plugin: the task that forwards signals, sees the end, and makes sure that nothing is left.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use temps_sandbox::{Containment, Control, ControlError, Order, Report};
use tokio::io::unix::AsyncFd;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Confined;

/// How long a launcher has to end everything after its lifeline was cut, before the host does it itself.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Time between two rounds in which the host ends everything itself.
const KILL_ROUND: Duration = Duration::from_millis(100);

/// How a plugin's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitReport {
    /// Exit status, if it exited by itself.
    pub code: Option<i32>,
    /// Signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it ran out of memory; `None` where that cannot be told.
    pub out_of_memory: Option<bool>,
    /// Whether the host ended it with [`super::Process::kill`].
    pub killed_by_host: bool,
}

/// How far the end of a plugin is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct End {
    pub(super) exit: Option<ExitReport>,
    pub(super) gone: bool,
}

impl ExitReport {
    /// What happened, in words: `exited with status 1`, `was killed by signal 9`.
    #[must_use]
    pub fn describe(&self) -> String {
        match (self.code, self.signal) {
            _ if self.killed_by_host => "was ended by the host".to_owned(),
            (None, _) if self.out_of_memory == Some(true) => {
                "was killed by the kernel because it had used up its memory_max".to_owned()
            }
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended together with its launcher".to_owned(),
        }
    }
}

/// Lets the runtime tell when the launcher has written.
#[expect(
    deprecated,
    reason = "its successor is unsafe; a control socket keeps its descriptor as long as it lives"
)]
pub(super) fn registered(control: Control) -> io::Result<AsyncFd<Control>> {
    AsyncFd::new(control)
}

/// The next report of a launcher; `None` when it is gone.
pub(super) async fn next_report(control: &AsyncFd<Control>) -> Result<Option<Report>, ControlError> {
    loop {
        let mut ready = control.readable().await?;
        match control.get_ref().report() {
            Err(ControlError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready()
            }
            other => return other,
        }
    }
}

/// A started plugin, from the side of the task that watches over it.
pub(super) struct Watched {
    pub(super) child: Child,
    pub(super) launcher_pid: u32,
    pub(super) pid: Option<u32>,
    pub(super) containment: Containment,
    pub(super) control: AsyncFd<Control>,
    pub(super) signals: mpsc::Receiver<i32>,
    pub(super) lifeline: CancellationToken,
    pub(super) confined: Arc<Confined>,
}

impl Watched {
    /// Watches until nothing of the plugin is left, and tells how far it is.
    pub(super) async fn run(mut self, told: watch::Sender<End>) {
        let reported = self.until_exit().await;
        let killed_by_host = self.lifeline.is_cancelled();
        let without_report = ExitReport { code: None, signal: None, out_of_memory: None, killed_by_host };
        let exit = reported.unwrap_or(without_report);
        // Where the whole group is ended for want of memory, the launcher goes with it and reports nothing.
        let out_of_memory = self.confined.ran_out_of_memory();
        told.send_modify(|end| end.exit = Some(ExitReport { out_of_memory, ..exit }));
        let lost = reported.is_none() && !killed_by_host;
        let confined = Arc::clone(&self.confined);
        self.end_everything(lost).await;
        // Failing means that the runtime ends, and then the group's owner ends it.
        let _ = tokio::task::spawn_blocking(move || confined.end()).await;
        told.send_modify(|end| end.gone = true);
    }

    /// Forwards signals until the plugin has ended, the launcher is lost, or the host wants an end.
    async fn until_exit(&mut self) -> Option<ExitReport> {
        loop {
            tokio::select! {
                biased;
                report = next_report(&self.control) => match report {
                    Ok(Some(Report::Exited { code, signal })) => {
                        return Some(ExitReport { code, signal, out_of_memory: None, killed_by_host: false });
                    }
                    Ok(Some(Report::StepFailed { step, error })) => {
                        tracing::warn!(step, error, launcher = self.launcher_pid, "a plugin's sandbox came to an end");
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(error) => {
                        tracing::warn!(%error, launcher = self.launcher_pid, "a launcher cannot be understood and is ended");
                        return None;
                    }
                },
                () = self.lifeline.cancelled() => return None,
                Some(signal) = self.signals.recv() => {
                    if let Err(error) = self.control.get_ref().order(&Order::Signal(signal)) {
                        tracing::debug!(%error, signal, launcher = self.launcher_pid, "a signal was not sent");
                    }
                }
            }
        }
    }

    /// Cuts the lifeline and waits until the launcher has ended everything; a launcher that does not is ended with it.
    async fn end_everything(self, lost: bool) {
        let Self { mut child, launcher_pid, pid, containment, control, .. } = self;
        drop(control);
        if lost && containment == Containment::ProcessGroup {
            // Nobody is left who would adopt and kill; what stayed in the plugin's own group can still be reached.
            send(pid, |pid| rustix::process::kill_process_group(pid, Signal::KILL));
        }
        // Somebody may have stopped the launcher, which would then not see its lifeline's end.
        send(Some(launcher_pid), |pid| rustix::process::kill_process(pid, Signal::CONT));
        let mut patience = KILL_PATIENCE;
        while tokio::time::timeout(patience, child.wait()).await.is_err() {
            tracing::warn!(
                launcher = launcher_pid,
                "a launcher does not end; the host ends its processes itself"
            );
            patience = KILL_ROUND;
            if temps_sandbox::kill_descendants(launcher_pid) == 0 && child.start_kill().is_err() {
                break;
            }
        }
    }
}

fn send(pid: Option<u32>, how: impl FnOnce(Pid) -> rustix::io::Result<()>) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended meanwhile, which is what is wanted.
        let _ = how(pid);
    }
}
