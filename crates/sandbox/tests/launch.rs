//! What the launcher promises, with real processes: nothing of a program is left behind, and nothing of the host gets in.
//!
//! The host of these tests is the little program `tests/bin/launch.rs`; as root each promise is also tried as an ordinary
//! user. That all processes of a program are gone is seen by the end of the pipe that every one of them holds as its output.
#![expect(clippy::unwrap_used, reason = "the helpers of tests panic like the tests themselves")]

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use temps_sandbox::{Containment, ProbeError, Report};

/// How long a test waits for the end of what must end. It is reached only when a promise is broken.
const PATIENCE: Duration = Duration::from_secs(60);

const MEANS: [&str; 2] = ["pid_namespace", "process_group"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum User {
    /// Who runs the tests.
    Own,
    /// A user that owns nothing.
    Nobody,
}

/// Users that this test run can be.
fn users() -> Vec<User> {
    if rustix::process::geteuid().is_root() { vec![User::Own, User::Nobody] } else { vec![User::Own] }
}

fn every_way() -> impl Iterator<Item = (User, &'static str)> {
    users().into_iter().flat_map(|user| MEANS.map(|means| (user, means)))
}

/// The little host, where every user can read it.
fn executable(directory: &tempfile::TempDir) -> PathBuf {
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("launch");
    // A process of its own writes it: while this one had it open for writing, a child of another test could hold it open too.
    let copied =
        Command::new("cp").arg(env!("CARGO_BIN_EXE_temps-sandbox-launch")).arg(&copy).status().unwrap();
    assert!(copied.success());
    copy
}

struct Host {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
    reports: BufReader<ChildStderr>,
    _directory: tempfile::TempDir,
}

impl Host {
    fn launch(user: User, means: &str, script: &str) -> Self {
        // The shell's own remarks would come between the reports.
        Self::start(user, &[means, "/bin/sh", "-c", &format!("exec 2> /dev/null; {script}")])
    }

    fn start(user: User, args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let executable = executable(&directory);
        let mut command = Command::new("/bin/sh");
        // A host that leaks a descriptor and has a secret in its environment.
        command.args(["-c", "exec 7</etc/passwd; exec \"$@\"", "sh"]).env("HOST_SECRET", "s3cret");
        if user == User::Nobody {
            command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        let mut child = command
            .arg(executable)
            .args(args)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reports = BufReader::new(child.stderr.take().unwrap());
        Self { child, output: Some(output), reports, _directory: directory }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next report. The little host lets what is prepared be executed.
    fn report(&mut self) -> Report {
        loop {
            let mut line = String::new();
            self.reports.read_line(&mut line).unwrap();
            match serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}")) {
                Report::Prepared { .. } => {}
                report => return report,
            }
        }
    }

    fn started(&mut self) -> (i32, Containment, bool) {
        match self.report() {
            Report::Started { pid, containment, fresh_proc } => (pid, containment, fresh_proc),
            other => panic!("not started: {other:?}"),
        }
    }

    fn signal(&mut self, number: i32) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{number}").unwrap();
    }

    /// Waits until no process holds the program's output any more, and returns what was still in it.
    fn rest_of_output(mut self) -> String {
        let (done, finished) = mpsc::channel();
        let mut output = self.output.take().unwrap();
        std::thread::spawn(move || {
            let mut rest = String::new();
            let read = output.read_to_string(&mut rest);
            let _ = done.send(read.map(|_| rest));
        });
        finished.recv_timeout(PATIENCE).expect("some process of the program is still there").unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Leaves four processes behind, two of them in a session of their own with no living parent.
const DAEMONISE: &str = "sleep 86399 & setsid sh -c 'sleep 86399 & sleep 86399 & exit' & (setsid sleep 86399 &) ; wait $!; echo up;";

#[test]
fn what_a_program_leaves_behind_is_gone_once_it_ends() {
    for (user, means) in every_way() {
        let mut host = Host::launch(user, means, &format!("{DAEMONISE} exit 3"));
        host.started();
        assert_eq!(host.line(), "up");
        assert_eq!(host.report(), Report::Exited { code: Some(3), signal: None }, "{user:?} {means}");
        assert_eq!(host.rest_of_output(), "");
    }
}

#[test]
fn a_host_killed_with_9_leaves_no_process() {
    for (user, means) in every_way() {
        let mut host = Host::launch(user, means, &format!("trap '' TERM HUP INT; {DAEMONISE} sleep 86399"));
        host.started();
        assert_eq!(host.line(), "up");
        host.kill();
        assert_eq!(host.rest_of_output(), "", "{user:?} {means}");
    }
}

#[test]
fn a_launcher_killed_with_9_takes_the_program_with_it() {
    for (user, means) in every_way() {
        let mut host = Host::launch(user, means, "echo up; exec sleep 86399");
        host.started();
        assert_eq!(host.line(), "up");
        let launcher = temps_sandbox::descendants(host.child.id())[0];
        let launcher = rustix::process::Pid::from_raw(launcher.cast_signed()).unwrap();
        rustix::process::kill_process(launcher, rustix::process::Signal::KILL).unwrap();
        assert_eq!(host.rest_of_output(), "", "{user:?} {means}");
    }
}

#[test]
fn a_program_that_hops_from_process_to_process_is_caught() {
    for means in MEANS {
        let hop = "hop() { (sleep 0.01; hop) & }; hop; echo up; exit 0";
        let mut host = Host::launch(User::Own, means, hop);
        assert_eq!(host.line(), "up");
        assert_eq!(host.rest_of_output(), "", "{means}");
    }
}

#[test]
fn signals_reach_the_program_and_its_end_is_reported() {
    for (user, means) in every_way() {
        let mut host = Host::launch(
            user,
            means,
            "trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.01; done",
        );
        host.started();
        assert_eq!(host.line(), "up");
        host.signal(15);
        assert_eq!(host.line(), "asked");
        assert_eq!(host.report(), Report::Exited { code: Some(7), signal: None });

        // Dispositions are the defaults, although the launcher itself outlives SIGTERM.
        let mut host = Host::launch(user, means, "echo up; exec sleep 86399");
        host.started();
        assert_eq!(host.line(), "up");
        host.signal(15);
        assert_eq!(host.report(), Report::Exited { code: None, signal: Some(15) });
    }
}

#[test]
fn the_launcher_outlives_signals_that_the_program_sends_it() {
    for (user, means) in every_way() {
        let script = "for s in HUP INT QUIT USR1 USR2 PIPE ALRM TERM TSTP SEGV ABRT; do kill -$s $PPID; done; sleep 0.1; echo alive; exit 4";
        let mut host = Host::launch(user, means, script);
        host.started();
        assert_eq!(host.line(), "alive");
        assert_eq!(host.report(), Report::Exited { code: Some(4), signal: None }, "{user:?} {means}");
    }
}

#[test]
fn the_program_gets_nothing_but_what_the_plan_says() {
    for (user, means) in every_way() {
        let mut host = Host::launch(
            user,
            means,
            "cd /proc/self/fd && echo *; readlink /proc/$$/fd/0; env; umask > /dev/null",
        );
        host.started();
        // The shell that lists the directory has it open itself, as a descriptor that ends with the listing.
        let descriptors = host.line();
        let open: Vec<&str> = descriptors.split(' ').filter(|fd| ["0", "1", "2", "7"].contains(fd)).collect();
        assert_eq!(open, ["0", "1", "2"], "{user:?} {means}: {descriptors}");
        assert_eq!(host.line(), "/dev/null");
        let rest = host.rest_of_output();
        let mut env: Vec<&str> = rest
            .lines()
            .filter(|line| {
                !line.starts_with("PWD=")
                    && !line.starts_with("OLDPWD=")
                    && !line.starts_with("_=")
                    && !line.starts_with("SHLVL=")
            })
            .collect();
        env.sort_unstable();
        assert_eq!(env, ["ONLY=this"], "{user:?} {means}");
    }
}

#[test]
fn the_program_leads_its_own_session_and_has_its_own_capabilities_only() {
    for (user, means) in every_way() {
        let mut host =
            Host::launch(user, means, "cut -d' ' -f1,5,6 /proc/$$/stat; grep CapEff /proc/$$/status");
        let (pid, containment, fresh_proc) = host.started();
        let line = host.line();
        let numbers: Vec<&str> = line.split(' ').collect();
        assert!(numbers.iter().all(|number| *number == numbers[0]), "{user:?} {means}: {line}");
        assert_eq!(containment.as_str(), means);
        if fresh_proc {
            assert_eq!(numbers[0], pid.to_string());
            assert_eq!(pid, 2, "the program is the first child of its namespace's init");
        }
        if user == User::Nobody {
            assert_eq!(host.line(), "CapEff:\t0000000000000000", "{means}");
        }
    }
}

#[test]
fn a_step_that_fails_is_named() {
    let user = *users().last().unwrap();
    for (steps, named) in [
        (r#"[{"step":"pid_namespace"},{"step":"new_session"}]"#, "pid_namespace"),
        (r#"[{"step":"subreaper"},{"step":"private_mounts"}]"#, "private_mounts"),
        (r#"[{"step":"subreaper"},{"step":"new_session"},{"step":"new_session"}]"#, "new_session"),
        (r#"[{"step":"new_session"}]"#, "measure"),
        (r#"[{"step":"new_session"},{"step":"subreaper"}]"#, "plan"),
    ] {
        let mut host = Host::launch(user, steps, "echo must not run");
        let Report::StepFailed { step, error } = host.report() else { panic!("{named} did not fail") };
        assert_eq!(step, named, "{error}");
        assert_eq!(host.rest_of_output(), "");
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("plugin");
    std::fs::write(&script, "#!/no/such/python3 -u\n").unwrap();
    let script = script.to_str().unwrap();
    let (damaged, ran) = (directory.path().join("damaged"), directory.path().join("ran"));
    std::fs::write(&damaged, format!("touch {}\n", ran.display())).unwrap();
    let damaged = damaged.to_str().unwrap();
    let windows = directory.path().join("windows");
    std::fs::write(&windows, "#!/bin/sh\r\ntrue\r\n").unwrap();
    let windows = windows.to_str().unwrap();
    for (mode, path, words) in [
        (0o755, windows, "save the file with LF as line ends"),
        (0o755, damaged, "it is no program for this machine"),
        (0o755, script, "names the interpreter /no/such/python3, which does not exist"),
        (0o644, script, "not executable"),
        (0o755, "/no/such/program", "no such file"),
    ] {
        if Path::new(path).exists() {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let mut host = Host::start(User::Own, &["process_group", path]);
        let Report::StepFailed { step, error } = host.report() else { panic!("{path} was started") };
        assert_eq!(step, "execute");
        assert!(error.contains(words), "{error}");
    }
    assert!(!ran.exists(), "a shell ran what is no program");
}

#[test]
fn a_program_that_is_still_being_written_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("busy");
    std::fs::copy("/bin/true", &copy).unwrap();
    let held = std::fs::OpenOptions::new().append(true).open(&copy).unwrap();
    let mut host = Host::start(User::Own, &["process_group", copy.to_str().unwrap()]);
    // What is to be the program has been refused at least once when it sleeps between two attempts.
    let sleeps = |pid: &u32| {
        let shows = |file, text| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}")).is_ok_and(|found| found.contains(text))
        };
        shows("wchan", "nanosleep") || shows("syscall", "230 ")
    };
    while !temps_sandbox::descendants(host.child.id()).iter().any(sleeps) {
        std::thread::yield_now();
    }
    drop(held);
    host.started();
    assert_eq!(host.report(), Report::Exited { code: Some(0), signal: None });
}

#[test]
fn a_launcher_is_recognised_and_tells_what_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let executable = executable(&directory);
    let probe = temps_sandbox::probe(&executable).unwrap();
    // Every machine that these tests are meant for has pid namespaces; elsewhere the reason is there.
    assert_eq!(probe.containment == Containment::ProcessGroup, probe.refused.is_some(), "{probe:?}");
    let forced = temps_sandbox::probe_as(&executable, Some(Containment::ProcessGroup)).unwrap();
    assert_eq!(forced.containment, Containment::ProcessGroup);
}

#[test]
fn a_program_that_is_no_launcher_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let silent = directory.path().join("silent");
    std::fs::write(&silent, "#!/bin/sh\nexec sleep 86398\n").unwrap();
    std::fs::set_permissions(&silent, Permissions::from_mode(0o755)).unwrap();
    for (path, words) in [
        ("/bin/true", "ended without an answer"),
        ("/bin/echo", "it printed"),
        ("/usr/bin/yes", "it printed"),
        (silent.to_str().unwrap(), "no answer"),
    ] {
        match temps_sandbox::probe(path.as_ref()) {
            Err(ProbeError::NoLauncher { found, .. }) => assert!(found.contains(words), "{path}: {found}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    let missing = temps_sandbox::probe("/no/such/launcher".as_ref());
    assert!(matches!(missing, Err(ProbeError::NotStarted { .. })), "{missing:?}");
}

#[test]
fn a_host_that_was_started_by_a_probe_refuses_to_start() {
    let directory = tempfile::tempdir().unwrap();
    // A host without its launcher line would come to its own probe when it is started as a launcher: as here.
    let output = Command::new(executable(&directory))
        .args(["any", "/bin/true"])
        .env("TEMPS_LAUNCHER_PROBE", "1")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("call the launcher function first in `main`"), "{words}");
}

#[test]
fn a_launcher_started_by_hand_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new(executable(&directory))
        .arg(temps_sandbox::MARKER)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}
