//! The place of a run: a home, a daemon that is killed and started again, its plugins, its disk and its database.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use tokio::sync::watch;

use super::plan::{Engine, Settings};
use super::rest::Target;
use super::verdict::Kind;
use crate::behaviour::{Behaviour, Sin};
use crate::binaries::{built_example, built_executable};
use crate::daemon::{put_plugin, runs, temps};
use crate::postgres::Postgres;

/// The plugins of every run.
pub const PLUGINS: [(&str, Kind); 3] = [("acks", Kind::Acks), ("reads", Kind::Reads), ("posts", Kind::Posts)];

/// What the daemon is told to do otherwise than by default. The output of a run says it, too.
pub const SETTINGS: &str = r#"# Plugins are killed many times a minute: none is quarantined for it, and none waits for long.
[restart]
quarantine_after = 0
backoff_min = "50ms"
backoff_max = "1s"
reset_after = "2s"
"#;

/// How long a daemon may take to start, and anything to happen that must happen.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Time between two looks at something that no event tells of.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Names the home whose `state` is a small disk of this process's own. Set by whoever made that.
pub const SMALL_DISK: &str = "TEMPS_FAULTS_SMALL_DISK";

/// Everything that a run works with.
#[derive(Debug)]
pub struct Stage {
    /// The home.
    pub home: PathBuf,
    /// The database server, when there is one.
    pub server: Option<Postgres>,
    database: Option<String>,
    failpoints: String,
    daemon: Option<Daemon>,
    target: watch::Sender<Option<Target>>,
    /// Daemons that were started.
    pub starts: u64,
}

#[derive(Debug)]
struct Daemon {
    process: Child,
    // Kept open, so that the daemon never writes into a closed pipe.
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Stage {
    /// Prepares a home with all plugins, and the database. Nothing runs yet.
    ///
    /// # Errors
    /// What this machine lacks, or what went wrong.
    pub fn prepare(home: PathBuf, settings: &Settings) -> Result<Self, String> {
        let server = match settings.store {
            Engine::Sqlite => None,
            Engine::Postgres => Some(Postgres::start("faults").ok_or("PostgreSQL is not installed here")?),
        };
        let database = server.as_ref().map(|server| server.url(&server.fresh_database()));
        std::fs::write(home.join("temps.toml"), SETTINGS).map_err(|error| error.to_string())?;
        put_plugin(&home, "acks", &built_example("temps-plugin-sdk", "ledger"));
        let plain = built_executable("temps-testkit", "plain-ledger");
        let posts = Behaviour::sinful("posts", Sin::ChannelRefused { status: 404 });
        for order in [Behaviour::honest("reads"), posts] {
            crate::unruly::install(&plain, &home.join("plugins"), &order.name, &order)
                .map_err(|error| error.to_string())?;
        }
        let target = watch::Sender::new(None);
        let failpoints = settings.failpoints.clone();
        Ok(Self { home, server, database, failpoints, daemon: None, target, starts: 0 })
    }

    /// Where the daemon is at any time.
    #[must_use]
    pub fn target(&self) -> watch::Receiver<Option<Target>> {
        self.target.subscribe()
    }

    /// Starts the daemon and waits until it answers. A daemon that cannot start yet is started again: its database may be
    /// recovering.
    ///
    /// # Errors
    /// What the daemon said last.
    pub fn start(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            match self.try_start() {
                Ok(()) => return Ok(()),
                Err(error) if begin.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn try_start(&mut self) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let log = File::options().create(true).append(true).open(self.log_file()).map_err(text)?;
        let mut command = temps(&self.home);
        command.args(["--json", "serve", "--log-format", "json", "--log", "warn", "--listen", "127.0.0.1:0"]);
        if let Some(url) = &self.database {
            command.env("TEMPS_DATABASE", url);
        }
        // Only the first daemon is broken on purpose; the next ones have to cope with what it left.
        if !self.failpoints.is_empty() && self.starts == 0 {
            command.env("TEMPS_FAILPOINTS", &self.failpoints);
        }
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().map_err(text)?;
        let Some(stdout) = process.stdout.take() else { return Err("stdout is not piped".into()) };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let read = stdout.read_line(&mut line).map_err(text);
        let url =
            serde_json::from_str::<Value>(&line).ok().and_then(|said| Some(said["url"].as_str()?.to_owned()));
        let (Ok(_), Some(url)) = (read, url) else {
            let _ = process.kill();
            let _ = process.wait();
            return Err(format!("the daemon did not start; the end of its log:\n{}", self.log_end()));
        };
        let token = std::fs::read_to_string(self.home.join("state/admin-token")).map_err(text)?;
        self.daemon = Some(Daemon { process, _stdout: stdout });
        self.starts += 1;
        self.target.send_replace(Some(Target { url, token: token.trim().to_owned() }));
        Ok(())
    }

    /// Kills the daemon with -9 and waits until nothing of it is left. Returns when that was, in milliseconds.
    ///
    /// # Errors
    /// When the daemon had ended by itself, or something of it is left.
    pub fn kill_daemon(&mut self) -> Result<u64, String> {
        self.check_daemon()?;
        let Some(mut daemon) = self.daemon.take() else { return Err("there is no daemon".into()) };
        let family = family_of(daemon.process.id());
        // Publishers find out by themselves: the kill comes first.
        let killed = daemon.process.kill().and_then(|()| daemon.process.wait());
        self.target.send_replace(None);
        killed.map_err(|error| error.to_string())?;
        wait_until("no process of the killed daemon is left", || {
            !family.iter().any(|pid| runs(u64::from(*pid)))
        })?;
        Ok(now())
    }

    /// Stops the daemon in order.
    ///
    /// # Errors
    /// When it had ended before, or does not end well.
    pub fn stop_daemon(&mut self) -> Result<(), String> {
        self.check_daemon()?;
        let Some(mut daemon) = self.daemon.take() else { return Err("there is no daemon".into()) };
        self.target.send_replace(None);
        kill_process(Pid::from_child(&daemon.process), Signal::TERM).map_err(|error| error.to_string())?;
        let status = daemon.process.wait().map_err(|error| error.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the daemon ended with {status} when it was told to stop"))
        }
    }

    /// How the daemon ended by itself, if it did.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let status = self.daemon.as_mut()?.process.try_wait().ok().flatten()?;
        self.daemon = None;
        self.target.send_replace(None);
        Some(status)
    }

    /// How the daemon ended by itself, if it does so within this time.
    pub fn ended_within(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let pid = Pid::from_child(&self.daemon.as_ref()?.process);
        // A descriptor of a process is readable once it has ended. A child that was not waited for keeps its number.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
            let patience = Timespec::try_from(patience).ok();
            let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], patience.as_ref());
        }
        self.ended()
    }

    /// Whether the daemon still runs, as it should.
    ///
    /// # Errors
    /// How it ended.
    pub fn check_daemon(&mut self) -> Result<(), String> {
        match self.ended() {
            None => Ok(()),
            Some(status) => {
                Err(format!("the daemon ended by itself ({status}); the end of its log:\n{}", self.log_end()))
            }
        }
    }

    /// Sends a signal to a plugin's process, which must be one of this daemon's.
    ///
    /// # Errors
    /// When the process is not a plugin of this run.
    pub fn signal_plugin(&self, pid: u32, signal: Signal) -> Result<(), String> {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&arguments).contains(&*self.home.to_string_lossy()) {
            return Err(format!("process {pid} is not a plugin of this run"));
        }
        let pid = Pid::from_raw(pid.cast_signed()).ok_or("no process id")?;
        kill_process(pid, signal).map_err(|error| error.to_string())
    }

    /// Fills the disk that the daemon's state is on, to the last byte.
    ///
    /// # Errors
    /// What the file system says otherwise than that it is full.
    pub fn fill_disk(&self) -> Result<(), String> {
        let mut ballast = File::create(self.ballast()).map_err(|error| error.to_string())?;
        let mut size = 1 << 20;
        while size > 0 {
            match ballast.write(&vec![0; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Frees the disk.
    pub fn free_disk(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.home.join("state/.ballast")
    }

    /// The data directory of a plugin.
    #[must_use]
    pub fn data_dir(&self, plugin: &str) -> PathBuf {
        self.home.join("state/data").join(plugin)
    }

    /// Whether any daemon of the run panicked.
    #[must_use]
    pub fn panics(&self) -> usize {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        log.lines().filter(|line| line.contains("panicked at")).count()
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("daemon.log")
    }

    /// The last lines of the daemons' log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.process.kill();
            let _ = daemon.process.wait();
        }
    }
}

/// Whether `home` has a small disk for its state.
#[must_use]
pub fn has_small_disk(home: &Path) -> bool {
    std::env::var_os(SMALL_DISK).is_some_and(|named| named == home.as_os_str())
}

/// A command that runs `program` where the state of `home` is a file system of `megabytes` of its own, in a private mount
/// namespace. Plugins' data stays outside of it: a plugin with a full disk is not what the runs are about.
///
/// `None` where this user cannot mount.
#[must_use]
pub fn on_a_small_disk(home: &Path, megabytes: u64, program: &Path) -> Option<Command> {
    // As root this works everywhere; an ordinary user needs a user namespace.
    let flags = [&[][..], &["--user", "--map-root-user"][..]].into_iter().find(|flags| can_mount(flags))?;
    let script = r#"mkdir -p "$1/state" "$1/ledgers" && chmod 700 "$1/state" "$1/ledgers" &&
        mount -t tmpfs -o size="$2m",mode=700 tmpfs "$1/state" &&
        mkdir -m 700 "$1/state/data" && mount --bind "$1/ledgers" "$1/state/data" &&
        home=$1 && shift 2 && exec env TEMPS_FAULTS_SMALL_DISK="$home" "$@""#;
    let mut command = unshare(flags);
    command.args(["sh", "-c", script, "sh"]).arg(home).arg(megabytes.to_string()).arg(program);
    Some(command)
}

fn unshare(flags: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(flags).args(["--mount", "--propagation", "private", "--"]);
    command
}

fn can_mount(flags: &[&str]) -> bool {
    let tried = unshare(flags).args(["mount", "-t", "tmpfs", "tmpfs", "/tmp"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// A process and everything below it.
fn family_of(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut at = 0;
    while at < family.len() {
        let pid = family[at];
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    family
}

/// Waits for something that no event tells of.
///
/// # Errors
/// When it is not so after [`PATIENCE`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > PATIENCE {
            return Err(format!("not so after {PATIENCE:?}: {what}"));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// Milliseconds since 1970, the clock of all ledgers.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}
