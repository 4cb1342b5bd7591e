//! A real PostgreSQL server for tests: a cluster of its own in a temporary directory, gone when the test's process is gone.
//!
//! Most tests share one server ([`Postgres::shared`]) and take a database each; a test that kills or restarts a server starts
//! its own ([`Postgres::start`]). Every connection needs the password, on the socket too, so a test can tell who knows it.
//! It knows PostgreSQL's own programs only, no driver. What fails panics with what was seen, except when there is no server
//! to run at all.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::authority::Certificate;
use crate::skip;

/// Where Debian puts the programs of each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Users that run the server when the test runs as root, as which it refuses to run. The first that exists is taken.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// The superuser of every cluster.
pub const SUPERUSER: &str = "postgres";

/// How long a server may take to start, to stop or to recover. It needs a second; a busy machine many.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks at a server that is starting.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Tries to find a port: another process may take a free one before the server does.
const PORT_TRIES: u32 = 5;

/// Connections that a server takes, for a test binary whose tests run side by side.
const MAX_CONNECTIONS: u32 = 200;

/// Ends the server once nobody holds the other end of its input, however that came, and removes what it left.
///
/// `$1` is the directory. The process must be this cluster's own before it is signalled: its number may be another's by now.
const KEEPER: &str = r#"
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
runs() { tr '\0' ' ' < "/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$1"; }
if [ -n "$pid" ] && runs "$1/data"; then
  kill -QUIT "$pid"
  n=0
  while runs "$1/data" && [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done
  runs "$1/data" && kill -KILL "$pid"
fi
rm -rf -- "$1"
"#;

/// A PostgreSQL server. It ends when this is dropped, and when this process ends in any way.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    user: Option<(u32, u32)>,
    directory: PathBuf,
    password: String,
    port: u16,
    server: Mutex<Option<Child>>,
    keeper: Child,
    databases: AtomicU32,
}

impl Postgres {
    /// The server that all tests of this binary share; `None` when this machine has none, which is recorded as a skip of `test`.
    #[must_use]
    pub fn shared(test: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        match SHARED.get_or_init(|| Self::try_start(&[], None)) {
            Ok(server) => Some(server),
            Err(reason) => {
                skip(test, reason);
                None
            }
        }
    }

    /// A server for one test alone; `None` when this machine has none, which is recorded as a skip of `test`.
    #[must_use]
    pub fn start(test: &str) -> Option<Self> {
        Self::start_with(test, &[])
    }

    /// Like [`Postgres::start`], with further settings, each as `name=value`: `fsync=on` where durability costs are measured.
    #[must_use]
    pub fn start_with(test: &str, settings: &[&str]) -> Option<Self> {
        Self::try_start(settings, None).map_err(|reason| skip(test, &reason)).ok()
    }

    /// Like [`Postgres::start`], with a certificate: over TCP it takes TLS, from those who want it.
    #[must_use]
    pub fn start_with_certificate(test: &str, certificate: &Certificate) -> Option<Self> {
        let settings = ["ssl = on", "ssl_cert_file = '../server.crt'", "ssl_key_file = '../server.key'"];
        Self::try_start(&settings, Some(certificate)).map_err(|reason| skip(test, &reason)).ok()
    }

    /// `Err` says what this machine lacks.
    fn try_start(settings: &[&str], certificate: Option<&Certificate>) -> Result<Self, String> {
        let programs = programs().ok_or("PostgreSQL's server is not installed (Debian: postgresql)")?;
        let user = unprivileged()?;
        // In /tmp by name, because a socket's path has at most 107 bytes and TMPDIR may be long.
        let directory = tempfile::Builder::new().prefix("temps-pg-").tempdir_in("/tmp");
        let directory = directory.expect("a directory can be made").keep();
        if let Some((uid, gid)) = user {
            chown(&directory, Some(uid), Some(gid)).expect("the directory can be given away");
        }
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&directory).process_group(0).stdin(Stdio::piped());
        let keeper = keeper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh can be started");
        let password = random_word();
        let mut this = Self {
            programs,
            user,
            directory,
            password,
            port: 0,
            server: Mutex::new(None),
            keeper,
            databases: AtomicU32::new(0),
        };
        this.make_cluster();
        if let Some(certificate) = certificate {
            this.give("server.crt", &certificate.certificate);
            this.give("server.key", &certificate.key);
        }
        for attempt in 1.. {
            this.port = free_port();
            this.configure(settings);
            match this.launch() {
                Ok(()) => break,
                Err(log) => assert!(attempt < PORT_TRIES, "PostgreSQL did not start:\n{log}"),
            }
        }
        Ok(this)
    }

    /// The URL of a database for the superuser, over TCP.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The superuser's password. It is random, so a test can look for it where it must not be.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The TCP port on 127.0.0.1. It stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory that the server's Unix socket lies in.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.directory
    }

    /// Makes an empty database and returns its name.
    #[must_use]
    pub fn fresh_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run_sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Runs SQL as the superuser and returns what `psql` prints: a line for each row, `|` between columns.
    pub fn run_sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"]).arg(self.url(database));
        let ended = psql.args(["-c", sql]).stdin(Stdio::null()).output().expect("psql can be started");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{sql}: {said}\n{}", self.log());
        String::from_utf8_lossy(&ended.stdout).trim_end().to_owned()
    }

    /// Ends every process of the server at once, as a power cut does to a machine whose disk survives.
    pub fn kill(&self) {
        let mut server = self.server();
        let Some(mut child) = server.take() else { return };
        let pid = Pid::from_child(&child);
        // It makes no further workers while it stands still.
        kill_process(pid, Signal::STOP).expect("the server can be stopped");
        let workers: Vec<OwnedFd> = children(pid)
            .into_iter()
            .filter_map(|worker| pidfd_open(worker, PidfdFlags::empty()).ok())
            .collect();
        kill_process(pid, Signal::KILL).expect("the server can be killed");
        for worker in workers {
            // One that saw the end of its parent first is gone already.
            let _ = pidfd_send_signal(&worker, Signal::KILL);
            // A server does not start on the memory that a worker still holds.
            let ended = poll(&mut [PollFd::new(&worker, PollFlags::IN)], None);
            ended.expect("the end of a worker can be awaited");
        }
        child.wait().expect("the server ends");
    }

    /// Stops the server in order: sessions are ended, everything is written.
    pub fn stop(&self) {
        let mut server = self.server();
        let Some(mut child) = server.take() else { return };
        kill_process(Pid::from_child(&child), Signal::INT).expect("the server can be told to stop");
        child.wait().expect("the server ends");
    }

    /// Starts the server again at the same place and port, after stopping it if it runs, and waits until it answers.
    pub fn restart(&self) {
        self.stop();
        if let Err(log) = self.launch() {
            panic!("PostgreSQL did not start again:\n{log}");
        }
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("server.log")).unwrap_or_default()
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        // A test that panicked while it held the server says enough itself.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of PostgreSQL's programs, to be run as the server's user with nothing of this process's environment.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir(&self.directory);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.stdin(Stdio::null());
        command
    }

    fn make_cluster(&self) {
        let secret = self.directory.join("password");
        std::fs::write(&secret, &self.password).expect("the password can be written");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644))
            .expect("its mode can be set");
        let mut initdb = self.program("initdb");
        initdb.args([
            "--no-sync",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]);
        initdb.arg(format!("--username={SUPERUSER}")).arg(format!("--pwfile={}", secret.display()));
        let ended = initdb.arg("-D").arg(self.data()).output().expect("initdb can be started");
        assert!(ended.status.success(), "initdb failed: {}", String::from_utf8_lossy(&ended.stderr));
        std::fs::remove_file(&secret).expect("the password's file can be removed");
    }

    /// Writes a file that the server's user alone may read.
    fn give(&self, name: &str, text: &str) {
        let file = self.directory.join(name);
        std::fs::write(&file, text).expect("the file can be written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        if let Some((uid, gid)) = self.user {
            chown(&file, Some(uid), Some(gid)).expect("the file can be given away");
        }
    }

    /// What is not durable here is what only a power cut would lose: a killed server finds all its writes again.
    fn configure(&self, settings: &[&str]) {
        let mut text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             max_connections = {MAX_CONNECTIONS}\nshared_buffers = 16MB\nfsync = off\nfull_page_writes = off\n\
             wal_level = minimal\nmax_wal_senders = 0\n",
            self.port,
            self.directory.display()
        );
        for setting in settings {
            text += setting;
            text.push('\n');
        }
        std::fs::write(self.data().join("postgresql.auto.conf"), text).expect("the settings can be written");
    }

    /// `Err` holds the server's log.
    fn launch(&self) -> Result<(), String> {
        let mut server = self.server();
        let log = File::options().create(true).append(true).open(self.directory.join("server.log"));
        let log = log.expect("the log can be made");
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).process_group(0);
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().expect("PostgreSQL can be started");
        let begin = Instant::now();
        while !self.is_ready(&child) {
            let ended = child.try_wait().expect("the server can be looked at").is_some();
            if ended || begin.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(self.log());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        *server = Some(child);
        Ok(())
    }

    /// The last line of its lock file says so. The first tells it from the file of a server that was killed.
    fn is_ready(&self, server: &Child) -> bool {
        let lock = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = lock.lines();
        lines.next().is_some_and(|pid| pid.parse() == Ok(server.id()))
            && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The directory of the newest server's programs.
fn programs() -> Option<PathBuf> {
    let has_server = |directory: &PathBuf| {
        ["postgres", "initdb", "psql"].iter().all(|program| directory.join(program).is_file())
    };
    let version = |directory: &PathBuf| {
        let name = directory.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<u32>().ok())
    };
    let installed = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let installed = installed.map(|entry| entry.path().join("bin")).filter(has_server);
    installed.max_by_key(version).or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(has_server)
    })
}

/// The user and group that the server has to run as; `None` for those of this process.
fn unprivileged() -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |user: &str| {
        let mut fields = passwd
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(user)).then_some(fields))?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = USERS.into_iter().find_map(find);
    found
        .map(Some)
        .ok_or_else(|| "PostgreSQL does not run as root, and there is no other user for it".to_owned())
}

/// Processes whose parent is `pid`.
fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it has an address").port()
}

/// 32 random hexadecimal digits.
fn random_word() -> String {
    let mut bytes = [0u8; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("there is randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
