//! For tests: a launcher, and a small host that launches a program and shows the launcher's reports.
//!
//! `launch MEANS PROGRAM ARGS...` launches from a thread that ends at once, prints each report as a line of JSON on stderr, and ends with the
//! launcher. It reads signal numbers from its input, one a line, and forwards them. MEANS is `pid_namespace`,
//! `process_group`, `any`, or a whole list of steps as JSON.
#![expect(clippy::print_stderr, reason = "the reports are what it is for")]

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use temps_sandbox::{Arg, Containment, Control, ControlError, Order, Plan, Program, Step};

fn main() -> ExitCode {
    temps_sandbox::launcher();
    let mut args = std::env::args().skip(1);
    let (Some(means), Some(path)) = (args.next(), args.next()) else {
        eprintln!("usage: launch MEANS PROGRAM ARGS...");
        return ExitCode::from(2);
    };
    let args: Vec<Arg> = std::iter::once(path.clone()).chain(args).map(Arg::plain).collect();
    match run(&means, path, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(means: &str, path: String, args: Vec<Arg>) -> Result<(), Box<dyn std::error::Error>> {
    let executable = std::env::current_exe()?;
    let steps: Vec<Step> = match means {
        "any" => temps_sandbox::probe(&executable)?.steps,
        "pid_namespace" => temps_sandbox::probe_as(&executable, Some(Containment::PidNamespace))?.steps,
        "process_group" => Plan::process_group_steps(),
        steps => serde_json::from_str(steps)?,
    };
    let env = BTreeMap::from([("ONLY".to_owned(), "this".to_owned())]);
    let plan = Plan { steps, program: Program { path: path.into(), args, env, directory: "/".into() } };
    let (control, end) = Control::pair()?;
    // The thread that starts the launcher ends before the launcher has read its plan.
    let mut child: Child = std::thread::spawn(move || {
        Command::new(executable).arg(temps_sandbox::MARKER).process_group(0).stdin(Stdio::from(end)).spawn()
    })
    .join()
    .map_err(|_| "the starting thread failed")??;
    control.order(&Order::Launch(plan))?;
    let control = Arc::new(control);
    let orders = Arc::clone(&control);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(signal) = line.trim().parse() else { continue };
            if orders.order(&Order::Signal(signal)).is_err() {
                break;
            }
        }
    });
    loop {
        let mut fds = [rustix::event::PollFd::new(&*control, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None)?;
        match control.report() {
            Ok(Some(report)) => eprintln!("{}", serde_json::to_string(&report)?),
            Ok(None) => break,
            Err(ControlError::Socket(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    child.wait()?;
    Ok(())
}
