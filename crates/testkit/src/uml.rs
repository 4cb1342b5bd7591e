//! A small virtual machine for tests that need what this machine does not have: a kernel with control groups of version 2, and
//! a place in which attacks may succeed. User Mode Linux runs as an ordinary process over this machine's own files, read-only.
//!
//! It boots once ([`Uml::shared`]) and runs one command after the other. It ends when this process ends, however that comes. What
//! the machine must not be taken for: its kernel is older than most (no Landlock), and it has one processor and no network.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::skip;

/// The program of Debian's package `user-mode-linux`.
const PROGRAM: &str = "/usr/bin/linux.uml";

/// Memory of the machine. It is taken from `/dev/shm` as far as it is used.
const MEMORY: &str = "1024M";

/// How long the machine may take to boot or to run one command. It boots in seconds; a long list of attacks on a busy
/// machine takes minutes.
const PATIENCE: Duration = Duration::from_secs(900);

/// Hands the console's input on to the machine. When that ends, with the process that wrote it, the machine is ended.
///
/// It is several processes in a session of its own, which the first of them leads: a signal to the keeper's group misses them.
const KEEPER: &str = r#"
shared=$1
shift
mkfifo "$shared/console"
"$@" <"$shared/console" &
machine=$!
# The machine's own end is then the end of what it says.
exec >/dev/null
cat >"$shared/console"
kill -KILL -- "-$machine" "$machine" 2>/dev/null
rm -rf -- "$shared"
"#;

/// The first process of the machine: mounts what it needs, then takes numbers of commands from the console.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /dev/shm
for d in /tmp /run /dev/shm; do mount -t tmpfs tmpfs $d; done
chmod 1777 /tmp /dev/shm
mkdir /run/shared
mount -t hostfs -o SHARED shared /run/shared
stty raw -echo
cd /run
echo up
while read -r n; do
  sh /run/shared/$n.sh </dev/null >/run/shared/$n.out 2>&1
  echo "$?" >/run/shared/$n.status
  sync
  echo "done $n"
done
echo o >/proc/sysrq-trigger
"#;

/// A running machine.
#[derive(Debug)]
pub struct Uml {
    shared: PathBuf,
    running: Mutex<Running>,
    keeper: Child,
}

#[derive(Debug)]
struct Running {
    console: Option<ChildStdin>,
    said: Receiver<String>,
    commands: u32,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// What it wrote to its output and its error output.
    pub text: String,
}

impl Uml {
    /// The machine that all tests of this binary share; `None` when there is none, which is recorded as a skip of `test`.
    #[must_use]
    pub fn shared(test: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Result<Uml, String>> = OnceLock::new();
        match SHARED.get_or_init(Self::boot) {
            Ok(machine) => Some(machine),
            Err(reason) => {
                skip(test, reason);
                None
            }
        }
    }

    /// Runs a script of `sh` as the machine's root, and waits for its end. Commands of several threads run one after the other.
    ///
    /// # Panics
    /// When the machine is gone or the script takes longer than a quarter of an hour.
    pub fn run(&self, script: &str) -> Output {
        self.run_within(script, PATIENCE).unwrap_or_else(|said| panic!("the command did not end: {said}"))
    }

    /// Like [`Uml::run`], with a bound. The machine is of no use afterwards when the bound was met.
    ///
    /// # Errors
    /// What the script had written when its time was over.
    ///
    /// # Panics
    /// When the machine is gone.
    pub fn run_within(&self, script: &str, patience: Duration) -> Result<Output, String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.commands += 1;
        let number = running.commands;
        let file = |kind: &str| self.shared.join(format!("{number}.{kind}"));
        fs::write(file("sh"), script).expect("the script can be written");
        let console = running.console.as_mut().expect("it is there until the machine is dropped");
        writeln!(console, "{number}").expect("the machine takes a command");
        let wanted = format!("done {number}");
        let ended = wait_for(&running.said, &wanted, patience);
        let text = fs::read(file("out")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        if ended.is_err() {
            return Err(text);
        }
        let status = fs::read_to_string(file("status")).expect("the command left its status");
        let status = status.trim().parse().expect("a status is a number");
        Ok(Output { status, text })
    }

    /// A directory of this machine that the virtual one sees as `/run/shared`, for files that a command needs or leaves.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.shared
    }

    fn boot() -> Result<Self, String> {
        if !Path::new(PROGRAM).exists() {
            return Err("there is no virtual machine to test in (Debian: user-mode-linux)".into());
        }
        let shared = tempfile::Builder::new().prefix("temps-uml-").tempdir_in("/var/tmp");
        let shared = shared.expect("a directory can be made").keep();
        // Every user of the machine may go there.
        set_mode(&shared);
        let init = shared.join("init");
        let script = INIT.replace("SHARED", &shared.to_string_lossy());
        fs::write(&init, script).expect("the first program can be written");
        set_mode(&init);
        let init = format!("init={}", init.display());
        let memory = format!("mem={MEMORY}");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&shared)
            .args([PROGRAM, &memory, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", &init])
            .args(["con=null", "con0=fd:0,fd:1", "quiet", "panic=-1"])
            .env("TMPDIR", "/dev/shm")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh can be started");
        let console = keeper.stdin.take().expect("it was asked for");
        let output = keeper.stdout.take().expect("it was asked for");
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let machine = Self {
            shared,
            running: Mutex::new(Running { console: Some(console), said, commands: 0 }),
            keeper,
        };
        let up = {
            let running = machine.running.lock().unwrap_or_else(PoisonError::into_inner);
            wait_for(&running.said, "up", PATIENCE)
        };
        up.map_err(|said| format!("the virtual machine did not boot: {said}"))?;
        Ok(machine)
    }
}

impl Drop for Uml {
    fn drop(&mut self) {
        // The end of its input is what the keeper waits for; it ends the machine and removes the directory.
        self.running.get_mut().unwrap_or_else(PoisonError::into_inner).console.take();
        let _ = self.keeper.wait();
    }
}

fn set_mode(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
}

/// Waits for a line of the console; otherwise what it said instead.
fn wait_for(said: &Receiver<String>, wanted: &str, patience: Duration) -> Result<(), String> {
    let mut seen = Vec::new();
    let until = Instant::now() + patience;
    loop {
        match said.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) if line.trim_end() == wanted => return Ok(()),
            Ok(line) => seen.push(line),
            Err(RecvTimeoutError::Timeout) => return Err(format!("no answer in time; it said {seen:?}")),
            Err(RecvTimeoutError::Disconnected) => return Err(format!("it is gone; it said {seen:?}")),
        }
    }
}
