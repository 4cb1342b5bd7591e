//! The sandbox from outside: each layer is in force and read back, what is required is refused where it cannot be had, and
//! common interpreters live in it.
#![expect(clippy::unwrap_used, reason = "the helpers of tests panic like the tests themselves")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};
use temps_sandbox::{Layer, LayerReport, State};
use temps_testkit::{Uml, skip};

const PLUGIN: u32 = 70_001;
const ORDINARY: u32 = 65_534;

/// Root and an ordinary user where the tests run as root, otherwise whoever runs them.
fn users() -> Vec<u32> {
    let me = rustix::process::geteuid().as_raw();
    if me == 0 { vec![0, ORDINARY] } else { vec![me] }
}

struct Place {
    directory: tempfile::TempDir,
    user: u32,
}

/// A launcher and what it reported.
struct Run {
    child: Child,
    input: Option<ChildStdin>,
    reports: BufReader<std::process::ChildStderr>,
}

impl Place {
    fn new(user: u32) -> Self {
        let directory = tempfile::Builder::new().prefix("temps-sandbox-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let place = Self { directory, user };
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_temps-sandbox-launch"))
            .arg(place.at("launch"))
            .status()
            .unwrap();
        assert!(copied.success());
        fs::create_dir(place.at("data")).unwrap();
        let owner = if user == 0 { PLUGIN } else { user };
        if rustix::process::geteuid().is_root() {
            chown(place.at("data"), Some(owner), Some(owner)).unwrap();
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn launch(&self, policies: &Value, program: &[&str]) -> Run {
        let user = (self.user == 0).then_some((PLUGIN, PLUGIN));
        let data = self.at("data");
        let wanted = json!({
            "policies": policies, "user": user, "directory": data,
            "mounts": [{"path": data, "access": "data"}],
        });
        let mut command = as_user(self.user, &self.at("launch"));
        command.arg(wanted.to_string()).args(program);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (input, reports) = (child.stdin.take(), BufReader::new(child.stderr.take().unwrap()));
        Run { child, input, reports }
    }

    /// Runs what is no part of the system, mounted as a program; what was said.
    fn output_of_program(&self, program: &Path) -> String {
        let user = (self.user == 0).then_some((PLUGIN, PLUGIN));
        let wanted = json!({"user": user, "mounts": [{"path": program, "access": "program"}]});
        let output =
            as_user(self.user, &self.at("launch")).arg(wanted.to_string()).arg(program).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs a program to its end; what it printed.
    fn output(&self, policies: &Value, program: &[&str]) -> String {
        let mut run = self.launch(policies, program);
        let (mut output, mut rest) = (String::new(), String::new());
        run.child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        run.reports.read_to_string(&mut rest).unwrap();
        output + &rest
    }
}

impl Run {
    /// The next time that all layers of the running program are reported.
    fn layers(&mut self) -> Vec<LayerReport> {
        self.next_report("layers")
    }

    fn next_report(&mut self, title: &str) -> Vec<LayerReport> {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(self.reports.read_line(&mut line).unwrap() > 0, "it ended: {seen}");
            if let Ok(report) = serde_json::from_str::<Value>(&line)
                && let Some(layers) = report.get(title)
            {
                return serde_json::from_value(layers.clone()).unwrap();
            }
            seen += &line;
        }
    }

    fn look_again(&mut self) -> Vec<LayerReport> {
        writeln!(self.input.as_mut().unwrap(), "verify").unwrap();
        self.layers()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn as_user(user: u32, program: &Path) -> Command {
    if user == rustix::process::geteuid().as_raw() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()])
        .arg(program);
    command
}

fn state(layers: &[LayerReport], layer: Layer) -> State {
    layers.iter().find(|report| report.layer == layer).unwrap().state
}

const SLEEP: &[&str] = &["/bin/sleep", "1000"];

#[test]
fn what_is_reported_as_off_is_off_and_everything_else_stays_in_force() {
    for user in users() {
        let place = Place::new(user);
        let whole = place.launch(&json!({"network": "prefer"}), SLEEP).layers();
        for layer in Layer::ALL {
            let policies = json!({"network": "prefer", layer.as_str(): "off"});
            let layers = place.launch(&policies, SLEEP).layers();
            for report in layers {
                let expected = match report.layer {
                    own if own == layer => State::Off,
                    // It needs a pid namespace, and says so.
                    Layer::ProcessView if layer == Layer::Processes => State::NotInForce,
                    // An ordinary user of its own is what counts tasks where no group does.
                    other => state(&whole, other),
                };
                assert_eq!(report.state, expected, "user {user}, {layer} off: {report:?}");
            }
        }
    }
}

#[test]
fn what_is_read_before_the_execution_is_true_after_it() {
    for user in users() {
        let place = Place::new(user);
        let mut run = place.launch(&json!({}), SLEEP);
        let (before, after) = (run.next_report("waiting"), run.layers());
        for (before, after) in before.iter().zip(&after) {
            // Processor time is restricted once a program is ready.
            if before.layer != Layer::Cpu {
                assert_eq!(before, after, "user {user}");
            }
        }
        assert!(before.iter().filter(|report| report.state == State::InForce).count() > 8, "{before:?}");
    }
}

#[test]
fn a_layer_that_is_removed_by_hand_is_said_to_be_not_in_force() {
    let test = "a limit that is changed by hand";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only root has groups to change");
    }
    let place = Place::new(0);
    let mut run = place.launch(&json!({}), SLEEP);
    if state(&run.layers(), Layer::Tasks) != State::InForce {
        return skip(test, "no control group counts tasks");
    }
    let groups = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // The group is found from its process, which is a grandchild of the little host.
    let pid = *temps_sandbox::descendants(run.child.id()).last().unwrap();
    let path = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = path
        .lines()
        .find(|line| line.contains("temps-") && (line.contains(":pids:") || line.starts_with("0::")))
        .unwrap();
    let path = path.rsplit(':').next().unwrap().trim_start_matches('/');
    let mount = groups
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .find(|mount| Path::new(mount).join(path).join("pids.max").exists());
    fs::write(Path::new(mount.unwrap()).join(path).join("pids.max"), "max").unwrap();
    let layers = run.look_again();
    assert_eq!(state(&layers, Layer::Tasks), State::NotInForce, "{layers:?}");
    assert_eq!(state(&layers, Layer::Files), State::InForce);
}

#[test]
fn what_is_required_and_not_to_be_had_is_refused_before_the_program_runs() {
    // An ordinary user cannot give a program another user.
    let place = Place::new(if rustix::process::geteuid().is_root() { ORDINARY } else { users()[0] });
    let marker = place.at("data").join("ran");
    let text = place.output(&json!({"user": "require"}), &["/usr/bin/touch", marker.to_str().unwrap()]);
    assert!(text.contains("layer `user` is required") && text.contains("run the host as root"), "{text}");
    assert!(!marker.exists());
    // The same program runs when the layer is only preferred.
    let text = place.output(&json!({}), &["/usr/bin/touch", marker.to_str().unwrap()]);
    assert!(marker.exists(), "{text}");
}

#[test]
fn python_and_node_live_in_the_sandbox() {
    let python = "import subprocess, threading, tempfile, asyncio, multiprocessing, socket, ssl, sqlite3, os\n\
        t = threading.Thread(target=lambda: None); t.start(); t.join()\n\
        assert subprocess.run(['/bin/echo', 'x'], capture_output=True).stdout == b'x\\n'\n\
        tempfile.NamedTemporaryFile().write(b'x')\n\
        sqlite3.connect('own.db').execute('create table t (a)')\n\
        s = socket.socket(socket.AF_UNIX); s.bind('own.sock'); s.listen()\n\
        asyncio.run(asyncio.sleep(0)); print('alive', str(os.getuid() != 0).lower())";
    let node = "const {execSync} = require('child_process'); const {Worker} = require('worker_threads');\n\
        require('fs').writeFileSync('own', 'x'); require('crypto').randomBytes(8);\n\
        execSync('/bin/true'); const w = new Worker('1', {eval: true});\n\
        require('net').createServer().listen('node.sock', () => w.on('exit', () => { console.log('alive true'); process.exit(0) }));";
    for user in users() {
        for (program, script) in [("/usr/bin/python3", ["-c", python]), ("/usr/bin/node", ["-e", node])] {
            if !Path::new(program).exists() {
                skip("interpreters in the sandbox", &format!("there is no {program}"));
                continue;
            }
            let text =
                Place::new(user).output(&json!({"network": "prefer"}), &[program, script[0], script[1]]);
            assert!(text.contains("alive true"), "{program} as {user}: {text}");
        }
    }
}

#[test]
fn an_interpreter_that_is_not_there_inside_is_named() {
    for user in users() {
        let place = Place::new(user);
        let script = place.at("data").join("plugin");
        for (line, named) in [
            ("#!/opt/no/such/python3", "/opt/no/such/python3"),
            ("#!/usr/bin/env -S no-such-language", "no-such-language"),
        ] {
            fs::write(&script, format!("{line}\n")).unwrap();
            fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
            // A directory of programs, not of data, so that it may be executed at all.
            let text = place.output_of_program(&script);
            assert!(text.contains(&format!("names the interpreter {named}")), "{text}");
        }
    }
}

#[test]
fn groups_of_a_killed_host_are_swept_by_the_next_one_and_those_of_a_living_one_are_not() {
    let test = "sweeping of control groups";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only root has groups");
    }
    let place = Place::new(0);
    let group_of = |run: &Run| {
        let pid = *temps_sandbox::descendants(run.child.id()).last().unwrap();
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let program = text.split(['/', '\n']).find(|part| part.starts_with("temps-"))?;
        // The directory of the host, and those of its programs.
        Some(format!("{}*", program.split_once('.')?.0))
    };
    let (mut dead, mut living) = (place.launch(&json!({}), SLEEP), place.launch(&json!({}), SLEEP));
    dead.layers();
    living.layers();
    let (Some(left), Some(held)) = (group_of(&dead), group_of(&living)) else {
        return skip(test, "no control group can be made here");
    };
    dead.child.kill().unwrap();
    dead.child.wait().unwrap();
    assert!(as_user(0, &place.at("launch")).arg("machine").output().unwrap().status.success());
    let found = |name: &str| {
        let found =
            Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", name]).output().unwrap();
        !found.stdout.is_empty()
    };
    assert!(!found(&left), "{left} was left");
    assert!(found(&held), "{held} was taken from a living host");
    assert_eq!(state(&living.look_again(), Layer::Tasks), State::InForce);
}

#[test]
fn a_host_that_is_a_service_of_its_own_delegates_groups_of_version_2() {
    let Some(machine) = Uml::shared("delegated control groups") else { return };
    let launch = machine.directory().join("launch-delegated");
    assert!(
        Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_temps-sandbox-launch"))
            .arg(&launch)
            .status()
            .unwrap()
            .success()
    );
    // As a service manager does it: a group that belongs to the service's user, with the service alone in it.
    let script = "\
        echo '+memory +cpu +pids' > /sys/fs/cgroup/cgroup.subtree_control\n\
        mkdir /sys/fs/cgroup/service && chown -R 65534:65534 /sys/fs/cgroup/service\n\
        sh -c 'echo $$ > /sys/fs/cgroup/service/cgroup.procs; exec setpriv --reuid=65534 --regid=65534 --clear-groups /run/shared/launch-delegated machine'\n\
        find /sys/fs/cgroup/service -name 'temps-*' -type d\n";
    let output = machine.run(script);
    for layer in ["memory", "cpu", "tasks"] {
        let line = output.text.lines().find(|line| line.contains(&format!("\"layer\":\"{layer}\""))).unwrap();
        assert!(line.contains("in_force") && line.contains("cgroup v2"), "{line}");
    }
}

/// What containers do to the machine that a host sees in them, done in a mount namespace made for it.
const CONTAINER: &str = "mount --make-rprivate / && mount -t tmpfs -o ro masked /proc/acpi || exit 3
awk '$0 ~ / - cgroup2? / {print $5}' /proc/self/mountinfo | while read -r at; do mount -o remount,bind,ro \"$at\"; done
exec \"$@\"";

#[test]
fn a_container_that_hides_parts_of_proc_and_gives_no_groups_degrades_exactly_as_it_is_reported() {
    let test = "a_container_that_hides_parts_of_proc_and_gives_no_groups_degrades_exactly_as_it_is_reported";
    if !rustix::process::geteuid().is_root() || !Path::new("/proc/acpi").exists() {
        return skip(test, "only root can make such a container, and /proc/acpi has to be there");
    }
    for user in users() {
        let place = Place::new(user);
        let whole = place.launch(&json!({"network": "prefer"}), SLEEP).layers();
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", CONTAINER, "sh", "setpriv", "--clear-groups"])
            .args([format!("--reuid={user}"), format!("--regid={user}")])
            .args([place.at("launch"), "machine".into()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let layers: Vec<LayerReport> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(layers.len(), Layer::ALL.len(), "{text}");
        for report in layers {
            let expected = match report.layer {
                // Only a host that is root may mount one where parts of the machine's are hidden.
                Layer::ProcessView if user != 0 => State::NotInForce,
                Layer::Memory => State::Partial,
                Layer::Cpu => State::NotInForce,
                // A user of its own is what counts tasks where no group does.
                Layer::Tasks if user == 0 => State::InForce,
                Layer::Tasks => State::Partial,
                other => state(&whole, other),
            };
            assert_eq!(report.state, expected, "user {user}: {report:?}");
            if matches!(report.layer, Layer::Memory | Layer::Cpu) && user == 0 {
                assert!(report.evidence.contains("Read-only"), "{report:?}");
            }
        }
    }
}
