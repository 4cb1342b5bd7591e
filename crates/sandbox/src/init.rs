//! The process that starts the program and watches over it: process 1 of the pid namespace, or the subreaper.
//!
//! It reaps whatever ends below it, forwards signals, reports the program's end, and takes everything else with it when it
//! leaves. The host's end of the control socket is its lifeline.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::control::{Control, Order, Report};
use crate::egress;
use crate::outer::{EXIT_FAILED, EXIT_USAGE, begin, give_up_output, refuse, remarked};
use crate::plan::{Containment, Plan, Program, Stage};
use crate::steps::{self, Achieved, StepFailure};
use crate::{signals, tree};

/// Attempts to execute a file that somebody still has open for writing. Another thread of the host that forks at the wrong
/// moment holds such a descriptor for an instant.
const BUSY_ATTEMPTS: u32 = 50;

/// Time between two such attempts.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Time between two rounds of killing what the program left behind; killed processes need a moment to end.
const KILL_PAUSE: Duration = Duration::from_millis(2);

/// Longest first line of a script that is read to explain why it cannot be executed, in bytes.
const MAX_INTERPRETER_LINE: usize = 256;

/// Runs process 1 of the pid namespace and returns its exit status.
pub(crate) fn run() -> i32 {
    // If the outer process dies the host is told by the socket as well; this is the faster way.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    match begin() {
        Some(control) => run_with(control),
        None => EXIT_USAGE,
    }
}

/// Does the init's work in this process.
pub(crate) fn run_with(control: Control) -> i32 {
    let plan = match control.take_order() {
        Ok(Some(Order::Launch(plan))) => plan,
        _ => return EXIT_FAILED,
    };
    if let Err(StepFailure { step, error }) =
        steps::apply(&plan, Stage::Init, |step, remark| remarked(&control, step, remark))
    {
        return refuse(&control, step, &error);
    }
    let achieved = match steps::measure() {
        Ok(achieved) => achieved,
        Err(error) => return refuse(&control, "measure", &error),
    };
    let egress = match egress::start(&plan, control.as_fd()) {
        Ok(pid) => pid,
        Err(error) => return refuse(&control, "egress", &error),
    };
    let control = Arc::new(control);
    let program = match start(&control, plan) {
        Ok(pid) => pid,
        Err((step, error)) => return refuse(&control, step, &error),
    };
    give_up_output();
    let started = Report::Started {
        pid: program.as_raw_nonzero().get(),
        containment: achieved.containment,
        fresh_proc: achieved.fresh_proc,
    };
    if control.tell(&started).is_err() {
        return end_everything(achieved);
    }
    watch(&control, program, egress, achieved)
}

/// Executes the program. It gets `/dev/null` as input, the launcher's output, and nothing else.
fn start(control: &Arc<Control>, plan: Plan) -> Result<Pid, (&'static str, io::Error)> {
    let program = plan.program.clone();
    let directory = std::fs::metadata(&program.directory)
        .and_then(|found| if found.is_dir() { Ok(()) } else { Err(Errno::NOTDIR.into()) });
    directory.map_err(|e| {
        ("working_directory", io::Error::other(format!("{}: {e}", program.directory.display())))
    })?;
    if let Some(missing) = wrong_line_ends(&program).or_else(|| missing_by_name(&program)) {
        return Err(("execute", io::Error::new(io::ErrorKind::NotFound, missing)));
    }
    let mut command = command(control, plan).map_err(|error| ("execute", error))?;
    match command.spawn() {
        Ok(child) => Ok(Pid::from_child(&child)),
        Err(error) => Err(("execute", explain(&program, &error))),
    }
}

#[expect(unsafe_code, reason = "steps in the program's own process need a hook between fork and exec")]
fn command(control: &Arc<Control>, plan: Plan) -> io::Result<Command> {
    let image = Image::of(&plan.program)?;
    let mut command = Command::new(&plan.program.path);
    command.current_dir(&plan.program.directory).stdin(Stdio::null());
    let control = Arc::clone(control);
    // SAFETY: the launcher has one thread until the program runs, so the child of the fork may do what any process may.
    unsafe {
        command.pre_exec(move || {
            signals::reset_all();
            steps::apply(&plan, Stage::Program, |step, remark| remarked(&control, step, remark)).map_err(
                |StepFailure { step, error }| {
                    refuse(&control, step, &error);
                    error
                },
            )?;
            await_leave(&control)?;
            Err(image.execute_patiently())
        });
    }
    Ok(command)
}

/// Waits until the host has looked at this process, which is all that the program will be but for its code.
fn await_leave(control: &Control) -> io::Result<()> {
    let pid = std::process::id().cast_signed();
    control.tell(&Report::Prepared { pid }).map_err(io::Error::other)?;
    match control.take_order() {
        Ok(Some(Order::Execute)) => Ok(()),
        Ok(_) => Err(io::Error::other("the host did not want it to be executed")),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// A program as the kernel takes it.
///
/// The library's own way to execute hands a file that the kernel does not know to a shell, which would run whatever it
/// makes of a damaged file, or of one that was built for another processor. Here the kernel's refusal is the answer.
struct Image {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Image {
    fn of(program: &Program) -> io::Result<Self> {
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::from);
        Ok(Self {
            path: text(program.path.as_os_str().as_bytes().to_vec())?,
            args: program.args.iter().map(|arg| text(arg.expose().into())).collect::<io::Result<_>>()?,
            env: program
                .env
                .iter()
                .map(|(k, v)| text(format!("{k}={v}").into()))
                .collect::<io::Result<_>>()?,
        })
    }

    /// Becomes the program, as soon as nobody has its file open for writing any more.
    fn execute_patiently(&self) -> io::Error {
        for _ in 1..BUSY_ATTEMPTS {
            let error = self.execute();
            if error.kind() != io::ErrorKind::ExecutableFileBusy {
                return error;
            }
            std::thread::sleep(BUSY_PAUSE);
        }
        self.execute()
    }

    /// Becomes the program. It returns only when that failed.
    #[expect(unsafe_code, reason = "there is no safe wrapper for the kernel's own way to execute")]
    fn execute(&self) -> io::Error {
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (args, env) = (pointers(&self.args), pointers(&self.env));
        // SAFETY: both lists end with a null, and their texts live as long as `self`.
        unsafe { libc::execve(self.path.as_ptr(), args.as_ptr(), env.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Waits for the end of the program or of the host, whichever comes first, and forwards signals until then.
fn watch(control: &Arc<Control>, program: Pid, egress: Option<Pid>, achieved: Achieved) -> i32 {
    let reaper = {
        let control = Arc::clone(control);
        std::thread::Builder::new().name("reaper".into()).spawn(move || {
            let _ = control.tell(&match reap_until(program, egress) {
                Ended::Program(status) => Report::Exited {
                    code: status.and_then(WaitStatus::exit_status),
                    signal: status.and_then(WaitStatus::terminating_signal),
                },
                // A program without the network that it was promised is better begun anew.
                Ended::Egress => Report::StepFailed {
                    step: "egress".into(),
                    error: "the process that leads to granted hosts has ended".into(),
                },
            });
            std::process::exit(end_everything(achieved))
        })
    };
    if reaper.is_err() {
        return end_everything(achieved);
    }
    // The main thread must not end before the process does: the program's death signal hangs on it.
    loop {
        match control.take_order() {
            Ok(Some(Order::Signal(number))) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    // The program may have ended in this moment; its end is reported by the other thread.
                    let _ = rustix::process::kill_process_group(program, signal);
                }
            }
            // A second plan, a leave that nobody waits for, or something unreadable, from the one that may give orders: not ours to interpret.
            Ok(Some(Order::Launch(_) | Order::Execute)) | Err(crate::ControlError::Unreadable(_)) => {}
            Ok(None) | Err(_) => return end_everything(achieved),
        }
    }
}

/// What ended.
enum Ended {
    /// The program; `None` if the kernel knows no child any more.
    Program(Option<WaitStatus>),
    /// The way out of its network.
    Egress,
}

/// Reaps whatever ends below this process until the program does, or the way out of its network.
fn reap_until(program: Pid, egress: Option<Pid>) -> Ended {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            // A program that lets itself be traced by its parent also reports each stop.
            Ok(Some((pid, status))) if pid == program && (status.exited() || status.signaled()) => {
                return Ended::Program(Some(status));
            }
            Ok(Some((pid, status))) if Some(pid) == egress && (status.exited() || status.signaled()) => {
                return Ended::Egress;
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Ended::Program(None),
        }
    }
}

/// Kills everything below this process. In a pid namespace the kernel does it when this process ends.
fn end_everything(achieved: Achieved) -> i32 {
    if achieved.containment == Containment::ProcessGroup {
        let this = std::process::id();
        // It ends when the kernel says that no child is left. A process that cannot be killed now (it waits for a disk)
        // is worth waiting for: to leave would be to let it get away.
        while reap_all_ended() {
            tree::kill_descendants(this);
            std::thread::sleep(KILL_PAUSE);
        }
    }
    0
}

/// Reaps everything that has ended, and returns whether there is anything left.
fn reap_all_ended() -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Says in words why a program cannot be executed.
fn explain(program: &Program, error: &io::Error) -> io::Error {
    let path = program.path.display();
    let reason = match error.kind() {
        io::ErrorKind::NotFound => match interpreter(&program.path) {
            Some(interpreter) if !Path::new(&interpreter).exists() => {
                format!("its first line names the interpreter {interpreter}, which does not exist here")
            }
            _ if program.path.exists() => {
                "the file is there, but its loader is not: it was built for another system".to_owned()
            }
            _ => "there is no such file".to_owned(),
        },
        io::ErrorKind::PermissionDenied => {
            "it is not executable for this user, or lies on a file system that is mounted without execution"
                .to_owned()
        }
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => format!(
            "it is no program for this machine ({}): it was built for another processor, is damaged or cut short, or is a \
             script whose first line does not begin with #!",
            std::env::consts::ARCH
        ),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("cannot execute {path}: {reason}"))
}

/// A script whose lines end as on Windows: its interpreter's name, or its argument, would end in a character that nobody sees.
fn wrong_line_ends(program: &Program) -> Option<String> {
    first_line(&program.path)?.ends_with('\r').then(|| {
        format!(
            "cannot execute {}: its first line ends with a carriage return, as Windows writes it; save the file with LF as line \
             ends",
            program.path.display()
        )
    })
}

/// An interpreter that `env` is to find by its name and would not. `env` itself would start, and its words would be
/// those of a program that ended.
fn missing_by_name(program: &Program) -> Option<String> {
    let line = first_line(&program.path)?;
    let mut words = line.split_whitespace();
    let env = words.next()?;
    if Path::new(env).file_name()? != "env" {
        return None;
    }
    // Options and settings may stand before the name.
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    let path = program.env.get("PATH")?;
    let found = name.contains('/') || path.split(':').any(|dir| Path::new(dir).join(name).exists());
    (!found).then(|| {
        format!(
            "cannot execute {}: its first line names the interpreter {name}, which is in none of {path} here",
            program.path.display()
        )
    })
}

/// The interpreter that a script's first line names.
fn interpreter(path: &Path) -> Option<String> {
    first_line(path)?.split_whitespace().next().map(str::to_owned)
}

/// What stands behind the `#!` of a script.
fn first_line(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut begin = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_INTERPRETER_LINE as u64).read_to_end(&mut begin).ok()?;
    let text = String::from_utf8_lossy(&begin);
    text.strip_prefix("#!")?.split('\n').next().map(str::to_owned)
}
