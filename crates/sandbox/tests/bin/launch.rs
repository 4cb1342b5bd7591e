//! For tests: a launcher, and a small host that launches a program and shows the launcher's reports.
//!
//! `launch MEANS PROGRAM ARGS...` launches from a thread that ends at once, prints each report as a line of JSON on stderr, and ends with the
//! launcher. It reads signal numbers from its input, one a line, and forwards them; at `verify` it reads all layers back again. MEANS is `pid_namespace`,
//! `process_group`, `any`, a whole list of steps as JSON, or what is wanted of the sandbox as a JSON object. For that last one,
//! what was read back of every layer comes as a line of JSON too, and the group's account when the program has ended.
//!
//! `launch machine` prints what the machine can do.
#![expect(clippy::print_stderr, reason = "the reports are what it is for")]

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::Timespec;
use temps_sandbox::{
    Arg, Containment, Control, ControlError, Decision, Egress, Group, Groups, Layer, Limits, Machine, Mount,
    Order, Plan, Policies, Policy, Program, Remark, Report, Step, Wanted, decide,
};

fn main() -> ExitCode {
    temps_sandbox::launcher();
    let mut args = std::env::args().skip(1);
    if std::env::args().nth(1).is_some_and(|word| word == "machine") {
        return machine();
    }
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

/// What is wanted of the sandbox; everything has a default.
#[derive(serde::Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Sandbox {
    policies: BTreeMap<Layer, Policy>,
    limits: Option<Limits>,
    mounts: Vec<Mount>,
    egress: Option<Egress>,
    user: Option<(u32, u32)>,
    directory: Option<std::path::PathBuf>,
}

/// A user that nothing belongs to.
const NOBODY: (u32, u32) = (65_533, 65_533);

fn machine() -> ExitCode {
    let tried = std::env::current_exe().map_err(|error| error.to_string()).and_then(|own| {
        Machine::probe(&own, &Groups::open(), &Policies::unset(), NOBODY).map_err(|e| e.to_string())
    });
    match tried {
        Ok(trial) => {
            for layer in trial.layers {
                eprintln!("{}", serde_json::to_string(&layer).unwrap_or_default());
            }
            eprintln!("{}", serde_json::to_string(&trial.machine).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What a program in a sandbox needs beside its plan.
struct Boxed {
    decision: Decision,
    groups: Groups,
    group: Group,
    remarks: Vec<Remark>,
    pid: Option<u32>,
}

impl Boxed {
    /// Reads back every layer.
    fn show(&self, title: &str) {
        let layers = temps_sandbox::verify(&self.decision, self.pid, &self.remarks, Some(&self.group));
        eprintln!("{}", serde_json::json!({title: layers}));
    }
}

/// Time between two looks at what was asked for.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

fn decided(executable: &std::path::Path, text: &str) -> Result<(Boxed, Sandbox), Box<dyn std::error::Error>> {
    let sandbox: Sandbox = serde_json::from_str(text)?;
    let groups = Groups::open();
    // Where many are launched one after the other, the machine was tried once.
    let machine = match std::env::var("TEMPS_TEST_MACHINE") {
        Ok(known) => serde_json::from_str(&known)?,
        Err(_) => Machine::probe(executable, &groups, &Policies::unset(), NOBODY)?.machine,
    };
    let policies =
        sandbox.policies.iter().fold(Policies::default(), |all, (layer, policy)| all.with(*layer, *policy));
    let wanted = Wanted {
        policies,
        limits: sandbox.limits.unwrap_or_default(),
        mounts: sandbox.mounts.clone(),
        egress: sandbox.egress.clone(),
        user: sandbox.user,
    };
    let decision = decide(&machine, &wanted)?;
    let group = groups.create("test", &decision.group)?;
    Ok((Boxed { decision, groups, group, remarks: Vec::new(), pid: None }, sandbox))
}

fn run(means: &str, path: String, args: Vec<Arg>) -> Result<(), Box<dyn std::error::Error>> {
    let executable = std::env::current_exe()?;
    let mut directory = std::path::PathBuf::from("/");
    let mut boxed = None;
    let steps: Vec<Step> = match means {
        text if text.starts_with('{') => {
            let (found, sandbox) = decided(&executable, text)?;
            directory = sandbox.directory.unwrap_or(directory);
            let steps = found.decision.steps.clone();
            boxed = Some(found);
            steps
        }
        "any" => temps_sandbox::probe(&executable)?.steps,
        "pid_namespace" => temps_sandbox::probe_as(&executable, Some(Containment::PidNamespace))?.steps,
        "process_group" => Plan::process_group_steps(),
        steps => serde_json::from_str(steps)?,
    };
    let mut env = BTreeMap::from([("ONLY".to_owned(), "this".to_owned())]);
    if boxed.is_some() {
        env.insert("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned());
    }
    let program = Program { path: path.into(), args, env, directory };
    let plan = match &boxed {
        Some(boxed) => boxed.decision.plan(program, boxed.group.directories()),
        None => Plan { steps, program },
    };
    let (control, end) = Control::pair()?;
    // The thread that starts the launcher ends before the launcher has read its plan.
    let mut child: Child = std::thread::spawn(move || {
        Command::new(executable).arg(temps_sandbox::MARKER).process_group(0).stdin(Stdio::from(end)).spawn()
    })
    .join()
    .map_err(|_| "the starting thread failed")??;
    let launcher = child.id();
    control.order(&Order::Launch(plan))?;
    let control = Arc::new(control);
    let orders = Arc::clone(&control);
    let asked = Arc::new(AtomicBool::new(false));
    let ask = Arc::clone(&asked);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line.trim() == "verify" {
                ask.store(true, Ordering::SeqCst);
            }
            let Ok(signal) = line.trim().parse() else { continue };
            if orders.order(&Order::Signal(signal)).is_err() {
                break;
            }
        }
    });
    loop {
        let mut fds = [rustix::event::PollFd::new(&*control, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&TICK))?;
        if let Some(boxed) = &boxed {
            boxed.groups.balance();
        }
        if asked.swap(false, Ordering::SeqCst)
            && let Some(boxed) = &boxed
        {
            boxed.show("layers");
        }
        match control.report() {
            Ok(Some(report)) => {
                eprintln!("{}", serde_json::to_string(&report)?);
                let prepared = matches!(report, Report::Prepared { .. });
                if let Some(boxed) = &mut boxed {
                    show(boxed, launcher, report)?;
                }
                if prepared {
                    control.order(&Order::Execute)?;
                }
            }
            Ok(None) => break,
            Err(ControlError::Socket(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    child.wait()?;
    if let Some(boxed) = &boxed {
        let killed = boxed.group.out_of_memory_kills();
        let idle =
            boxed.group.directories().iter().find_map(|at| std::fs::read_to_string(at.join("cpu.idle")).ok());
        let (usage, idle) = (boxed.group.usage(), idle.as_deref().map(str::trim));
        eprintln!("{}", serde_json::json!({"usage": usage, "idle": idle, "out_of_memory_kills": killed}));
    }
    Ok(())
}

/// Reads back a program that is about to be executed, and again once it was; its processor time is limited by then, as a host
/// does it once a program is ready.
fn show(boxed: &mut Boxed, launcher: u32, report: Report) -> Result<(), Box<dyn std::error::Error>> {
    match report {
        Report::Remarked { step, whole, words } => boxed.remarks.push(Remark { step, whole, words }),
        Report::Prepared { pid } => {
            boxed.pid = temps_sandbox::program_pid(launcher, pid);
            boxed.show("waiting");
        }
        Report::Started { .. } => {
            if let Some(percent) = boxed.decision.group.cpu {
                boxed.group.apply_cpu_quota(percent)?;
            }
            boxed.show("layers");
        }
        _ => {}
    }
    Ok(())
}
