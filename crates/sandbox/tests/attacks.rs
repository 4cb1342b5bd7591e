//! Every attack that is known, tried from inside the sandbox: as root, as an ordinary user, and in a virtual machine whose
//! kernel has control groups of version 2 and no Landlock. `cargo test -p temps-sandbox --test attacks -- --nocapture` shows the table.
//!
//! An attack that is held proves little by itself: it may fail for another reason. So each has a control, the same attack
//! with the layers off that are to hold it, in the virtual machine. Where that fails too, the attack counts as not testable.
#![expect(clippy::unwrap_used, reason = "the helpers of tests panic like the tests themselves")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use temps_sandbox::Layer::{self, *};
use temps_testkit::{Uml, skip};

/// Names this in the list of what could not be tested.
const TEST: &str = "attacks on the sandbox";

/// An attack, and the layers each of which is to hold it.
type Case = (&'static str, &'static [Layer]);

const CASES: &[Case] = &[
    ("read_file", &[Files, Landlock]),
    ("list_directory", &[Files, Landlock]),
    ("write_file", &[Files, Landlock]),
    ("unix_socket", &[Files]),
    ("write_program", &[Files, Landlock]),
    ("execute_from_data", &[Files, Landlock]),
    ("execute_from_tmp", &[Files, Landlock]),
    ("set_user_id", &[SystemCalls]),
    ("tcp_ipv4", &[Network]),
    ("tcp_ipv6", &[Network]),
    ("tcp_any_address", &[Network]),
    ("tcp_fast_open", &[Network]),
    ("multipath_tcp", &[Network, SystemCalls]),
    ("udp", &[Network]),
    ("abstract_socket", &[Network, Landlock]),
    ("vsock", &[SystemCalls]),
    ("packet_socket", &[SystemCalls, Privileges, User]),
    ("raw_socket", &[SystemCalls, Privileges, User]),
    ("see_arguments", &[Processes, ProcessView]),
    ("see_environment", &[Processes, ProcessView, User, Privileges, Landlock]),
    ("signal", &[Processes, User, Privileges, Landlock]),
    ("hold_process", &[Processes]),
    ("trace", &[SystemCalls, Processes, User, Privileges, Landlock]),
    ("read_memory", &[SystemCalls, Processes, User, Privileges, Landlock]),
    ("shared_memory", &[Ipc]),
    ("learn_hostname", &[Hostname]),
    ("become_root", &[User, Privileges]),
    ("raise_limit", &[User, Privileges]),
    ("user_namespace", &[SystemCalls]),
    ("clone_namespace", &[SystemCalls]),
    ("mount", &[SystemCalls, Privileges, User]),
    ("make_device", &[SystemCalls, Privileges, User]),
    ("bpf", &[SystemCalls, Privileges, User]),
    ("io_uring", &[SystemCalls]),
    ("keyring", &[SystemCalls]),
    ("userfaultfd", &[SystemCalls]),
    ("perf_events", &[SystemCalls, Privileges, User]),
    ("personality", &[SystemCalls]),
    ("other_call_table", &[SystemCalls]),
    ("x32_calls", &[SystemCalls]),
    ("fork_bomb", &[Tasks]),
    ("memory_bomb", &[Memory]),
    ("open_files", &[OpenFiles]),
    ("big_file", &[FileSize]),
    ("fill_tmp", &[Files]),
    ("spin", &[Cpu]),
    // Nothing holds this one: a program may execute what it has in its memory. It gains nothing that it did not have.
    ("execute_from_memory", &[]),
];

/// Calls of other tables do not come back in the virtual machine, which knows none; they are tried here alone.
const NOT_VIRTUAL: [&str; 2] = ["other_call_table", "x32_calls"];

/// How long one attack in the virtual machine may take, in seconds. It needs one or two; a busy machine many.
const PATIENCE: u32 = 20;

/// How long all attacks in the virtual machine may take together. What it has not done by then is not testable here.
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(240);

/// The program's user where the host is root, and an ordinary user that is the host.
const PLUGIN: u32 = 70_001;
const ORDINARY: u32 = 65_534;

/// What became of an attack: the first word that it printed, or what the launcher said, and the rest.
#[derive(Debug, Clone, PartialEq)]
struct Result {
    word: String,
    why: String,
    /// The state of each layer, as it was read back.
    layers: BTreeMap<String, String>,
}

impl Result {
    fn not_seen() -> Self {
        Self {
            word: "untestable".into(),
            why: "there is no virtual machine, or it did not come to this".into(),
            layers: BTreeMap::new(),
        }
    }
}

/// Limits that the attacks exceed by far.
fn limits() -> Value {
    let mib = 1 << 20;
    json!({"memory_max": 64 * mib, "cpu_quota": 25, "tasks_max": 32, "nofile": 256, "disk_max": 8 * mib, "tmp_max": 8 * mib})
}

/// The launcher's order: everything, or everything but some layers.
fn wanted(off: &[Layer], user: Option<u32>, place: &Place) -> String {
    let mut policies = BTreeMap::from([("network", "prefer")]);
    policies.extend(off.iter().map(|layer| (layer.as_str(), "off")));
    let mounts = json!([
        {"path": place.attack, "access": "program"},
        {"path": place.program, "access": "program"},
        {"path": place.data, "access": "data"},
    ]);
    let user = user.map(|user| (user, user));
    json!({"policies": policies, "limits": limits(), "mounts": mounts, "user": user, "directory": place.data})
        .to_string()
}

/// Where the attacker's things are.
struct Place {
    attack: PathBuf,
    program: PathBuf,
    data: PathBuf,
}

/// Reads what the launcher and the attack printed.
fn read(name: &str, text: &str) -> Result {
    let words = ["through", "held", "untestable"];
    let line = text.lines().find(|line| words.iter().any(|word| line.starts_with(word)));
    let (word, why) = line.and_then(|line| line.split_once(' ')).unwrap_or(("nothing", text));
    let mut result = Result { word: word.into(), why: why.into(), layers: BTreeMap::new() };
    for report in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        for layer in report["layers"].as_array().into_iter().flatten() {
            let text = |key: &str| layer[key].as_str().unwrap_or_default().to_owned();
            result.layers.insert(text("layer"), text("state"));
        }
        let killed = report["out_of_memory_kills"].as_u64().is_some_and(|kills| kills > 0);
        if name == "memory_bomb" && line.is_none() && killed {
            (result.word, result.why) = ("held".into(), "the kernel ended it, and the group says so".into());
        }
        if name == "spin" && report["usage"]["throttled"].as_u64().is_some_and(|times| times > 0) {
            // A kernel before 5.15 cannot put anybody behind others.
            let gives_way = report["idle"].is_null() || report["idle"] == "1";
            let why = format!("the group held it back; behind others: {gives_way}");
            let held = gives_way && report["usage"]["background"] == true;
            (result.word, result.why) = (if held { "held" } else { "through" }.into(), why);
        }
    }
    result
}

/// The built programs, and places for one user, in a directory that everybody can enter.
struct Here {
    directory: tempfile::TempDir,
    user: u32,
    victim: Child,
    places: String,
    place: Place,
}

impl Here {
    fn prepare(user: u32) -> Self {
        let directory = tempfile::Builder::new().prefix("temps-attacks-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| directory.path().join(name);
        copy(env!("CARGO_BIN_EXE_temps-sandbox-launch"), &at("launch"), 0o755);
        copy(env!("CARGO_BIN_EXE_temps-sandbox-attack"), &at("attack"), 0o755);
        copy("/bin/true", &at("program"), 0o777);
        for name in ["victim", "data"] {
            fs::create_dir(at(name)).unwrap();
        }
        let owner = if user == 0 { PLUGIN } else { user };
        if rustix::process::geteuid().is_root() {
            chown(at("data"), Some(owner), Some(owner)).unwrap();
            chown(at("victim"), Some(user), Some(user)).unwrap();
        }
        let mut victim = as_user(user, &at("attack"))
            .args(["victim".as_ref(), at("victim").as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut places = String::new();
        BufReader::new(victim.stdout.take().unwrap()).read_line(&mut places).unwrap();
        assert!(places.starts_with("pid="), "{places}");
        let place = Place { attack: at("attack"), program: at("program"), data: at("data") };
        Self { directory, user, victim, places, place }
    }

    fn run(&self, name: &str, off: &[Layer]) -> Result {
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let user = (self.user == 0).then_some(PLUGIN);
        let output = as_user(self.user, &self.directory.path().join("launch"))
            .arg(wanted(off, user, &self.place))
            .arg(&self.place.attack)
            .arg(name)
            .args(self.places.split_whitespace())
            .arg(format!("data={}", self.place.data.display()))
            .arg(format!("program={}", self.place.program.display()))
            .arg(format!("host_mnt={}", own.display()))
            .stdin(Stdio::piped())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        read(name, &String::from_utf8_lossy(&text))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        drop(self.victim.stdin.take());
        let _ = self.victim.wait();
    }
}

fn copy(from: impl AsRef<Path>, to: &Path, mode: u32) {
    // A process of its own writes it: a child of another test could hold it open otherwise, and it could not be executed.
    assert!(Command::new("cp").arg(from.as_ref()).arg(to).status().unwrap().success());
    fs::set_permissions(to, Permissions::from_mode(mode)).unwrap();
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

/// All attacks in the virtual machine: in the whole sandbox, and without the layers that are to hold them.
fn in_virtual_machine(machine: &Uml) -> BTreeMap<(String, &'static str), Result> {
    copy(env!("CARGO_BIN_EXE_temps-sandbox-launch"), &machine.directory().join("launch"), 0o755);
    copy(env!("CARGO_BIN_EXE_temps-sandbox-attack"), &machine.directory().join("attack"), 0o755);
    let place = Place {
        attack: "/tmp/a/attack".into(),
        program: "/tmp/a/program".into(),
        data: "/tmp/a/data".into(),
    };
    let mut script = format!(
        "ip link set lo up\nhostname victim-machine\nmkdir -p /tmp/a/data /tmp/a/victim\ncd /tmp/a\n\
         cp /run/shared/attack attack\ncp /bin/true program\nchmod 777 program\nchown {PLUGIN}:{PLUGIN} data\n\
         mkfifo hold\nsleep 100000 > hold &\nholder=$!\n./attack victim /tmp/a/victim < hold > places &\n\
         while ! [ -s places ]; do sleep 0.1; done\n\
         export TEMPS_TEST_MACHINE=\"$(/run/shared/launch machine 2>&1 | tail -n 1)\"\n"
    );
    // The controls first: without them nothing that is held anywhere counts.
    for way in ["control", "whole"] {
        for (name, layers) in CASES.iter().filter(|(name, _)| !NOT_VIRTUAL.contains(name)) {
            let off = if way == "whole" { &[][..] } else { *layers };
            let wanted = wanted(off, Some(PLUGIN), &place);
            let _ = writeln!(
                script,
                "echo '== {name} {way}'; timeout {PATIENCE} /run/shared/launch '{wanted}' /tmp/a/attack {name} \
                 $(cat places) data=/tmp/a/data program=/tmp/a/program </dev/null >out 2>err; cat out err"
            );
        }
    }
    script += "kill $holder\n";
    let (text, whole) = match machine.run_within(&script, VIRTUAL_PATIENCE) {
        Ok(output) => (output.text, true),
        Err(text) => (text, false),
    };
    let mut sections: Vec<&str> = text.split("== ").skip(1).collect();
    if !whole {
        // The one in which the time was over says nothing.
        sections.pop();
        let seconds = VIRTUAL_PATIENCE.as_secs();
        let missing = 2 * (CASES.len() - NOT_VIRTUAL.len()) - sections.len();
        skip(
            TEST,
            &format!(
                "the virtual machine did not finish in {seconds} s; {missing} of its runs are not testable here"
            ),
        );
    }
    let mut results = BTreeMap::new();
    for section in sections {
        let (title, text) = section.split_once('\n').unwrap_or((section, ""));
        let (name, way) = title.split_once(' ').unwrap_or((title, ""));
        let way = if way == "whole" { "whole" } else { "control" };
        results.insert((name.to_owned(), way), read(name, text));
    }
    results
}

/// The control of an attack: whether it gets through where nothing is to hold it, and how that was seen.
fn control(case: &Case, virtually: &BTreeMap<(String, &'static str), Result>, here: &Here) -> (bool, String) {
    let (name, layers) = case;
    let seen = virtually.get(&((*name).to_owned(), "control"));
    if let Some(result) = seen.filter(|result| result.word == "through") {
        return (true, format!("virtual machine: {}", result.why));
    }
    let mut why = seen.map_or("there is no virtual machine".to_owned(), |r| {
        format!("virtual machine: {} {}", r.word, r.why)
    });
    // What the other kernel does not have is tried here, in namespaces of its own.
    if !layers.contains(&Files) {
        let result = here.run(name, layers);
        if result.word == "through" {
            return (true, format!("in namespaces here: {}", result.why));
        }
        let _ = write!(why, "; here: {} {}", result.word, result.why);
    }
    (false, why)
}

#[test]
fn no_attack_gets_through_what_this_machine_can_enforce_and_each_that_is_held_has_a_control() {
    let machine = Uml::shared(TEST);
    let virtually = machine.map(in_virtual_machine).unwrap_or_default();
    let me = rustix::process::geteuid().as_raw();
    let users: Vec<u32> = if me == 0 { vec![0, ORDINARY] } else { vec![me] };
    let places: Vec<Here> = users.iter().map(|user| Here::prepare(*user)).collect();
    let mut table = String::new();
    let mut bad = Vec::new();
    for case in CASES {
        let (name, layers) = case;
        let (works, control) = control(case, &virtually, &places[0]);
        let mut results: Vec<(String, Result)> = places
            .iter()
            .map(|here| {
                (
                    if here.user == 0 { "root".into() } else { format!("user {}", here.user) },
                    here.run(name, &[]),
                )
            })
            .collect();
        if !NOT_VIRTUAL.contains(name) {
            let seen = virtually.get(&((*name).to_owned(), "whole")).cloned();
            results.push(("virtual, v2".to_owned(), seen.unwrap_or_else(Result::not_seen)));
        }
        for (who, result) in results {
            let in_force = layers.iter().any(|layer| {
                result
                    .layers
                    .get(layer.as_str())
                    .is_some_and(|state| state == "in_force" || state == "partial")
            });
            let verdict = match (result.word.as_str(), works) {
                ("through", _) => "NOT HELD",
                ("held", true) => "held",
                ("held" | "untestable", _) => "not testable here",
                _ => "?",
            };
            let names: Vec<&str> = layers.iter().map(|layer| layer.as_str()).collect();
            let _ = writeln!(
                table,
                "{name:20} {who:12} {verdict:18} {:45} {}\n{:53}control: {control}",
                names.join(" "),
                result.why,
                ""
            );
            if (verdict == "NOT HELD" && in_force) || verdict == "?" {
                bad.push(format!("{name} as {who}: {result:?}"));
            }
        }
    }
    eprintln!("{table}");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
