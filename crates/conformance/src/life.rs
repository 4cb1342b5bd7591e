//! One life of the plugin under test: a process started as a host starts it, its two lines, its log, its end.
//!
//! The process has a group of its own, which is killed when the life is dropped, whatever happened before.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use temps_protocol::limits::{HANDSHAKE_TIMEOUT, MAX_MANIFEST_BYTES, MAX_READY_BYTES};
use temps_protocol::{HandshakeError, PluginManifest, Ready, parse_manifest_line, parse_ready_line};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::patience::Patience;

/// Lines of its log that are kept for messages.
const LOG_LINES: usize = 8;

/// Longest line of the log that is kept, in bytes.
const LOG_LINE_BYTES: u64 = 4096;

/// How often a start is tried again while the file is busy (a copy of it may be open in a child that another task is starting), with
/// [`BUSY_PAUSE`] between.
const BUSY_RETRIES: usize = 300;

/// See [`BUSY_RETRIES`].
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How long a plugin that closed its stdout has to end, before the message says that it still runs.
const END_GRACE: Duration = Duration::from_secs(2);

/// How a life is to begin.
#[derive(Debug, Clone)]
pub(crate) struct Spawn {
    /// Directory that holds what this life needs; it is made if need be.
    pub(crate) place: PathBuf,
    /// Where the plugin must listen.
    pub(crate) socket: PathBuf,
    /// The plugin's own directory.
    pub(crate) data: PathBuf,
    /// The value of `TEMPS_FEATURES`.
    pub(crate) features: String,
    /// The value of `TEMPS_API_VERSION`.
    pub(crate) api_version: String,
    /// The value of `TEMPS_PLUGIN_NAME`; absent during inspection.
    pub(crate) name: Option<String>,
    /// Whether the plugin gets a database (a file).
    pub(crate) database: bool,
    /// The auth secret.
    pub(crate) secret: String,
    /// Further arguments, which no host gives.
    pub(crate) extra: Vec<String>,
    /// How its lines are waited for.
    pub(crate) patience: Patience,
}

impl Spawn {
    /// An ordinary start inside of `place`, by a host that has these features.
    pub(crate) fn in_place(place: &Path, features: &str) -> Self {
        Self {
            place: place.to_owned(),
            socket: place.join("plugin.sock"),
            data: place.join("data"),
            features: features.to_owned(),
            api_version: temps_protocol::API_VERSION.to_string(),
            name: None,
            database: false,
            secret: secret(),
            extra: Vec::new(),
            patience: Patience::default(),
        }
    }
}

/// A secret that is another one at each start.
fn secret() -> String {
    let mut bytes = [0_u8; 16];
    // A secret of zeroes is still one; the kit's own sockets are in a private directory.
    let _ =
        std::fs::File::open("/dev/urandom").and_then(|mut file| io::Read::read_exact(&mut file, &mut bytes));
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One running plugin.
#[derive(Debug)]
pub(crate) struct Life {
    child: Child,
    group: Option<Pid>,
    stdout: Option<BufReader<ChildStdout>>,
    log: Arc<Mutex<VecDeque<String>>>,
    patience: Patience,
    /// Lines of the handshake that came.
    lines: usize,
    /// Where it must listen.
    pub(crate) socket: PathBuf,
    /// What the host's requests carry.
    pub(crate) secret: String,
}

/// Why a handshake line did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("nothing for {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Silence,
    #[error("more than {0} bytes without an end of line")]
    TooLong(usize),
    #[error("the end of standard output, {0}")]
    Ended(String),
    #[error("bytes that are not UTF-8")]
    NotText,
}

/// Which line of the handshake was wrong, and how.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the plugin cannot be started: {0}")]
    Spawn(io::Error),
    #[error("instead of the manifest line came {0}")]
    NoManifest(LineError),
    #[error("{0}")]
    BadManifest(HandshakeError),
    #[error("instead of the ready line came {0}")]
    NoReady(LineError),
    #[error("{0}{1}")]
    BadReady(HandshakeError, String),
}

impl Life {
    /// Starts `program`.
    pub(crate) fn spawn(program: &Path, how: &Spawn) -> io::Result<Self> {
        let temporary = how.place.join("tmp");
        std::fs::create_dir_all(&how.data)?;
        std::fs::create_dir_all(&temporary)?;
        let mut command = Command::new(program);
        command.arg("--socket-path").arg(&how.socket);
        command.arg("--auth-secret").arg(&how.secret);
        command.arg("--data-dir").arg(&how.data).args(&how.extra);
        command.env_clear().envs([("PATH", "/usr/local/bin:/usr/bin:/bin"), ("LANG", "C.UTF-8")]);
        command.env("HOME", &how.data).env("TMPDIR", &temporary);
        command.env("TEMPS_API_VERSION", &how.api_version).env("TEMPS_FEATURES", &how.features);
        if let Some(name) = &how.name {
            command.env("TEMPS_PLUGIN_NAME", name);
        }
        if how.database {
            let file = how.data.join("conformance.sqlite");
            command.env("TEMPS_DATABASE_URL", format!("sqlite://{}", file.display()));
        }
        command.current_dir(&how.data).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = patiently(&mut command)?;
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let log = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep(stderr, Arc::clone(&log)));
        }
        let stdout = child.stdout.take().map(BufReader::new);
        let (patience, socket, secret) = (how.patience.clone(), how.socket.clone(), how.secret.clone());
        Ok(Self { child, group, stdout, log, patience, lines: 0, socket, secret })
    }

    /// Starts `program` and reads both lines.
    pub(crate) async fn start(
        program: &Path,
        how: &Spawn,
    ) -> Result<(Self, String, PluginManifest, Ready), StartError> {
        let mut life = Self::spawn(program, how).map_err(StartError::Spawn)?;
        let line = life.line(MAX_MANIFEST_BYTES).await.map_err(StartError::NoManifest)?;
        let manifest = parse_manifest_line(&line).map_err(StartError::BadManifest)?;
        let ready = life.line(MAX_READY_BYTES).await.map_err(StartError::NoReady)?;
        let ready =
            parse_ready_line(&ready).map_err(|error| StartError::BadReady(error, life.last_words()))?;
        life.drain();
        Ok((life, line, manifest, ready))
    }

    /// The next line of the handshake, of at most so many bytes.
    pub(crate) async fn line(&mut self, most: usize) -> Result<String, LineError> {
        let Some(stdout) = &mut self.stdout else {
            return Err(LineError::Ended("which was read before".into()));
        };
        let mut bytes = Vec::new();
        let bound = u64::try_from(most).unwrap_or(u64::MAX);
        let mut bounded = stdout.take(bound);
        let line = if self.lines == 0 { "manifest line" } else { "ready line" };
        let read = self.patience.wait(line, bounded.read_until(b'\n', &mut bytes)).await;
        self.lines += 1;
        match read {
            None => Err(LineError::Silence),
            Some(Ok(_)) if bytes.last() == Some(&b'\n') => {
                bytes.pop();
                String::from_utf8(bytes).map_err(|_| LineError::NotText)
            }
            Some(Ok(_)) if bytes.len() >= most => Err(LineError::TooLong(most)),
            Some(_) => Err(LineError::Ended(self.obituary().await)),
        }
    }

    /// From here on what comes on standard output belongs to the log.
    pub(crate) fn drain(&mut self) {
        if let Some(stdout) = self.stdout.take() {
            tokio::spawn(keep(stdout, Arc::clone(&self.log)));
        }
    }

    /// The process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended, with the last lines of its log.
    pub(crate) async fn obituary(&mut self) -> String {
        let end = match timeout(END_GRACE, self.child.wait()).await {
            Ok(Ok(status)) => format!("and the plugin ended with {status}"),
            Ok(Err(error)) => format!("and the plugin cannot be waited for: {error}"),
            Err(_) => "and the plugin still runs".to_owned(),
        };
        format!("{end}{}", self.last_words())
    }

    /// The last lines of its log, for a message.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.is_empty() {
            return String::new();
        }
        format!("; its log ends: {}", log.iter().map(String::as_str).collect::<Vec<_>>().join(" | "))
    }

    /// Sends a signal to the plugin's process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // It may have ended by itself meanwhile.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits for its end. May be dropped while it waits.
    pub(crate) async fn end(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits for its end for so long; `None` when it did not come.
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        timeout(within, self.child.wait()).await.ok()?.ok()
    }

    /// Kills it and everything in its group, and waits for its end.
    pub(crate) async fn kill(mut self) {
        self.kill_group();
        let _ = self.child.wait().await;
    }

    fn kill_group(&self) {
        if let Some(group) = self.group {
            // Nothing of it may be left, which is the point.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Once waited for, the id may belong to somebody else.
        if self.child.id().is_some() {
            self.kill_group();
        }
    }
}

fn patiently(command: &mut Command) -> io::Result<Child> {
    for _ in 0..BUSY_RETRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::sleep(BUSY_PAUSE),
            outcome => return outcome,
        }
    }
    command.spawn()
}

/// Keeps the last lines of a stream, so that the plugin never waits for a reader.
async fn keep(stream: impl AsyncRead + Unpin, log: Arc<Mutex<VecDeque<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match (&mut stream).take(LOG_LINE_BYTES).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_back(String::from_utf8_lossy(&bytes).trim_end().to_owned());
                if log.len() > LOG_LINES {
                    log.pop_front();
                }
            }
        }
    }
}
