//! The launcher's first process: reads the plan, leaves the old namespaces, starts the init in the new ones, and waits for it.
//!
//! Without a pid namespace in the plan it is the init itself.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::WaitOptions;

use crate::control::{Control, Order, Report};
use crate::limits::come_forward;
use crate::plan::{Containment, Plan, Stage};
use crate::steps::{self, Forked, Remark, StepFailure};
use crate::{INIT, MARKER, init, signals};

/// Exit status of a launcher that was started wrongly.
pub(crate) const EXIT_USAGE: i32 = 2;

/// Exit status of a launcher whose plan failed; the report said where.
pub(crate) const EXIT_FAILED: i32 = 125;

/// Runs the first process and returns its exit status.
pub(crate) fn run() -> i32 {
    let Some(control) = begin() else { return EXIT_USAGE };
    let plan = match control.peek_order() {
        Ok(Some(Order::Launch(plan))) => plan,
        // The host died before it said what to do.
        Ok(None) => return EXIT_FAILED,
        Ok(Some(_)) | Err(_) => {
            return refuse(&control, "plan", &io::Error::other("the first order must be a plan"));
        }
    };
    if let Err(error) = plan.check() {
        return refuse(&control, "plan", &io::Error::other(error));
    }
    if let Err(StepFailure { step, error }) =
        steps::apply(&plan, Stage::Outer, |step, remark| remarked(&control, step, remark))
    {
        return refuse(&control, step, &error);
    }
    match plan.containment() {
        Containment::ProcessGroup => init::run_with(control),
        Containment::PidNamespace => start_init(control, &plan),
    }
}

/// Prepares a launcher process: outlives signals, holds no descriptor but the control socket and the program's output.
///
/// `None` when its standard input is not a control socket.
pub(crate) fn begin() -> Option<Control> {
    signals::outlive_all();
    close_inherited();
    let control = Control::of_launcher().ok()?;
    give_up_stdin().ok()?;
    Some(control)
}

/// Tells the host which step failed.
pub(crate) fn refuse(control: &Control, step: &str, error: &io::Error) -> i32 {
    // When the host is gone as well, there is nobody left to tell.
    let _ = control.tell(&Report::StepFailed { step: step.to_owned(), error: error.to_string() });
    EXIT_FAILED
}

/// Tells the host what the kernel made of a step.
pub(crate) fn remarked(control: &Control, step: &str, remark: Remark) {
    let _ =
        control.tell(&Report::Remarked { step: step.to_owned(), whole: remark.whole, words: remark.words });
}

/// Starts the init and waits for it. Both are the same program, but the init needs a fresh start in its namespaces.
#[expect(unsafe_code, reason = "a process that is born in a control group has no safe wrapper")]
fn start_init(control: Control, plan: &Plan) -> i32 {
    // SAFETY: the launcher has one thread until the program runs.
    let init = match unsafe { steps::fork_into(plan.groups()) } {
        Ok(Forked::Child) => return become_init(&control, plan),
        Ok(Forked::Parent(init)) => init,
        Err(error) => return refuse(&control, "start_init", &error),
    };
    // All that is left to do is to tell of the end, and nobody shall wait for that.
    let _ = come_forward();
    // From here on the init alone holds the launcher's end and the program's output, so that the host sees their ends.
    drop(control);
    give_up_output();
    loop {
        match rustix::process::waitpid(Some(init), WaitOptions::empty()) {
            Ok(Some((_, status))) if status.exited() || status.signaled() => {
                let signal = || status.terminating_signal().unwrap_or_default();
                return status.exit_status().unwrap_or_else(|| 128 + signal());
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return EXIT_FAILED,
        }
    }
}

/// Goes on as the init. It returns only when that failed.
fn become_init(control: &Control, plan: &Plan) -> i32 {
    let name = plan.program.args.first().map_or("program", |name| name.expose());
    let error = match rustix::stdio::dup2_stdin(control) {
        Ok(()) => Command::new("/proc/self/exe")
            .arg0(format!("launcher of {name}"))
            .args([MARKER, INIT])
            .env_clear()
            .current_dir("/")
            .exec(),
        Err(error) => error.into(),
    };
    refuse(control, "start_init", &error)
}

/// Puts `/dev/null` in the place of standard input.
fn give_up_stdin() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?)
}

/// Lets go of the program's output; the program has its own copies.
pub(crate) fn give_up_output() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

#[expect(unsafe_code, reason = "close_range has no safe wrapper, since it closes descriptors by number")]
fn close_inherited() {
    // SAFETY: this process has just begun and has one thread. Nothing in it owns a descriptor above the standard three:
    // what is open there was inherited from a host that leaked it. On kernels without the call (before 5.9) leaked
    // descriptors stay until the loop below.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    if closed == 0 {
        return;
    }
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: as above; the directory's own descriptor is closed already and the call then fails harmlessly.
        unsafe { libc::close(fd) };
    }
}
