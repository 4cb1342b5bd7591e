//! A plugin's built executable, started as a host starts it, over a real socket.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use temps_protocol::channel::Ack;
use temps_protocol::{HostFrame, PluginEvent, PluginManifest, Ready, parse_manifest_line, parse_ready_line};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::channel::TestChannel;
use super::client::{Door, TestClient, TestResponse};
use super::host::DataDir;
use super::platform::TestPlatform;
use super::{PATIENCE, TestError};

const TEST_SECRET: &str = "test-secret";

/// Most bytes of standard error that are kept.
const MAX_LOG_BYTES: usize = 4 * 1024 * 1024;

/// How long the log of a plugin that did not start is waited for.
const LAST_LINES: std::time::Duration = std::time::Duration::from_secs(1);

/// A running plugin process. It is killed when this is dropped.
pub struct PluginProcess {
    child: Child,
    stdout: BufReader<ChildStdout>,
    manifest: PluginManifest,
    ready: Ready,
    client: TestClient,
    platform: TestPlatform,
    channel: Option<TestChannel>,
    log: Log,
    directory: Arc<DataDir>,
}

/// Prepares a [`PluginProcess`].
pub struct PluginProcessBuilder {
    executable: PathBuf,
    platform: TestPlatform,
    with_channel: bool,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<Arc<DataDir>>,
}

impl PluginProcess {
    /// Starts `executable` and makes a channel.
    ///
    /// # Errors
    /// [`TestError::Start`] when the two handshake lines did not come; it has the plugin's log.
    pub async fn start(executable: impl AsRef<Path>) -> Result<Self, TestError> {
        Self::builder(executable).start().await
    }

    /// Begins a start with wishes.
    pub fn builder(executable: impl AsRef<Path>) -> PluginProcessBuilder {
        PluginProcessBuilder {
            executable: executable.as_ref().to_owned(),
            platform: TestPlatform::default(),
            with_channel: true,
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
        }
    }

    /// Begins a start of `executable` in the place of this one, with its data directory, as after an update.
    pub fn successor(&self, executable: impl AsRef<Path>) -> PluginProcessBuilder {
        PluginProcessBuilder { directory: Some(Arc::clone(&self.directory)), ..Self::builder(executable) }
    }

    /// Requests to the plugin, with the auth secret.
    #[must_use]
    pub fn http(&self) -> &TestClient {
        &self.client
    }

    /// The platform that the plugin asks.
    #[must_use]
    pub fn platform(&self) -> &TestPlatform {
        &self.platform
    }

    /// The manifest line.
    #[must_use]
    pub fn manifest(&self) -> &PluginManifest {
        &self.manifest
    }

    /// The ready line.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The plugin's data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.directory.0.join("data")
    }

    /// The plugin's socket.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.directory.0.join("plugin.sock")
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What the plugin has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until the log contains `wanted`.
    ///
    /// # Errors
    /// [`TestError::Timeout`] when it does not come.
    pub async fn logged(&self, wanted: &str) -> Result<(), TestError> {
        self.log.wait_for(wanted).await
    }

    /// Sends an event over the channel; returns when the plugin has read it, which is before it was handled.
    ///
    /// # Errors
    /// [`TestError::Wire`] without a channel.
    pub async fn send_event(&self, event: impl Into<PluginEvent>) -> Result<(), TestError> {
        let text = serde_json::to_string(&event.into()).map_err(|e| TestError::Wire(e.to_string()))?;
        self.send_frame(HostFrame::event_json(&text, false)).await
    }

    /// Waits for the plugin's next confirmation of an event (feature `ack`, which has to stand in `TEMPS_FEATURES`).
    ///
    /// # Errors
    /// [`TestError::Timeout`] when none comes, [`TestError::Wire`] without a channel.
    pub async fn ack(&self) -> Result<Ack, TestError> {
        self.channel.as_ref().ok_or_else(|| TestError::Wire("there is no channel".into()))?.ack().await
    }

    /// Sends any text over the channel, for frames that are wrong on purpose; returns when the plugin has read it.
    ///
    /// # Errors
    /// [`TestError::Wire`] without a channel, or when the plugin ends it.
    pub async fn send_frame(&self, text: String) -> Result<(), TestError> {
        let channel = self.channel.as_ref().ok_or_else(|| TestError::Wire("there is no channel".into()))?;
        channel.send(text).await?;
        channel.ping().await
    }

    /// Sends an event by `POST /_events`, as hosts without a channel do.
    ///
    /// # Errors
    /// [`TestError::Wire`] when no answer came.
    pub async fn post_event(&self, event: impl Into<PluginEvent>) -> Result<TestResponse, TestError> {
        let body: Value = serde_json::to_value(event.into()).map_err(|e| TestError::Wire(e.to_string()))?;
        self.client.send("POST", "/_events", Some(&body)).await
    }

    /// Cuts the channel, as a host that lost it.
    pub fn cut_channel(&mut self) {
        self.channel = None;
    }

    /// Makes a channel. The one that there may be is left open until the plugin has ended it.
    ///
    /// # Errors
    /// [`TestError`] when the plugin does not accept the new one, or does not end the old one.
    pub async fn connect_channel(&mut self) -> Result<(), TestError> {
        let new = TestChannel::connect(&self.client.door, self.platform.clone()).await?;
        if let Some(mut old) = self.channel.replace(new) {
            old.ended().await?;
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// [`TestError::Timeout`] when it does not end.
    pub async fn terminate(&mut self) -> Result<ExitStatus, TestError> {
        self.signal(Signal::TERM);
        self.exit().await
    }

    /// Sends SIGINT and waits for the end.
    ///
    /// # Errors
    /// [`TestError::Timeout`] when it does not end.
    pub async fn interrupt(&mut self) -> Result<ExitStatus, TestError> {
        self.signal(Signal::INT);
        self.exit().await
    }

    /// Kills it at once, as a crash does.
    ///
    /// # Errors
    /// [`TestError::Timeout`] when it does not end.
    pub async fn kill(&mut self) -> Result<ExitStatus, TestError> {
        self.signal(Signal::KILL);
        self.exit().await
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`TestError::Timeout`] when it does not end.
    pub async fn exit(&mut self) -> Result<ExitStatus, TestError> {
        timeout(PATIENCE, self.child.wait())
            .await
            .map_err(|_| TestError::Timeout("the end of the plugin"))?
            .map_err(|e| TestError::Wire(e.to_string()))
    }

    /// Everything that the plugin wrote to standard output after the two lines. Call it after the end.
    ///
    /// # Errors
    /// [`TestError::Timeout`] when something still holds the pipe.
    pub async fn later_stdout(&mut self) -> Result<String, TestError> {
        let mut text = String::new();
        timeout(PATIENCE, self.stdout.read_to_string(&mut text))
            .await
            .map_err(|_| TestError::Timeout("the end of standard output"))?
            .map_err(|e| TestError::Wire(e.to_string()))?;
        Ok(text)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl PluginProcessBuilder {
    /// Uses this platform, which may have been told things before the plugin starts.
    #[must_use]
    pub fn platform(mut self, platform: TestPlatform) -> Self {
        self.platform = platform;
        self
    }

    /// Makes no channel, as some hosts.
    #[must_use]
    pub fn without_channel(mut self) -> Self {
        self.with_channel = false;
        self
    }

    /// Adds an argument after those of the protocol.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable in the plugin's environment, which is empty otherwise.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the plugin and reads its two lines.
    ///
    /// # Errors
    /// [`TestError::Start`] when the lines did not come or are wrong; it has the plugin's log.
    pub async fn start(self) -> Result<PluginProcess, TestError> {
        let failed = |e: std::io::Error| TestError::Start(e.to_string());
        let directory = match self.directory {
            Some(directory) => directory,
            None => Arc::new(DataDir::make().map_err(failed)?),
        };
        let socket_path = directory.0.join("plugin.sock");
        let mut child = Command::new(&self.executable)
            .arg("--socket-path")
            .arg(&socket_path)
            .args(["--auth-secret", TEST_SECRET, "--data-dir"])
            .arg(directory.0.join("data"))
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let log = Log::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log.clone().collect(stderr));
        }
        let stdout = child.stdout.take().ok_or_else(|| TestError::Start("no standard output".into()))?;
        let mut stdout = BufReader::new(stdout);
        let line = read_line(&mut stdout, &log).await?;
        let manifest = match parse_manifest_line(&line) {
            Ok(manifest) => manifest,
            Err(e) => return Err(log.failed_start(&e).await),
        };
        let line = read_line(&mut stdout, &log).await?;
        let ready = match parse_ready_line(&line) {
            Ok(ready) => ready,
            Err(e) => return Err(log.failed_start(&e).await),
        };
        let client = TestClient::new(Door::Socket(socket_path), TEST_SECRET);
        let channel = if self.with_channel {
            Some(TestChannel::connect(&client.door, self.platform.clone()).await?)
        } else {
            None
        };
        let platform = self.platform;
        Ok(PluginProcess { child, stdout, manifest, ready, client, platform, channel, log, directory })
    }
}

async fn read_line(stdout: &mut BufReader<ChildStdout>, log: &Log) -> Result<String, TestError> {
    let mut line = String::new();
    let read = timeout(PATIENCE, stdout.read_line(&mut line)).await;
    match read.map_err(|_| TestError::Timeout("a handshake line"))? {
        Ok(0) => Err(log.failed_start(&"it ended").await),
        Ok(_) => Ok(line),
        Err(e) => Err(TestError::Start(e.to_string())),
    }
}

/// What a plugin wrote to standard error.
#[derive(Debug, Clone)]
struct Log {
    text: Arc<StdMutex<String>>,
    /// Bytes so far, and whether that is all.
    progress: Arc<watch::Sender<(usize, bool)>>,
}

impl Default for Log {
    fn default() -> Self {
        Self { text: Arc::default(), progress: Arc::new(watch::Sender::new((0, false))) }
    }
}

impl Log {
    async fn collect(self, mut stderr: impl AsyncRead + Unpin) {
        let mut buffer = [0; 8192];
        while let Ok(count) = stderr.read(&mut buffer).await
            && count > 0
        {
            let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
            if text.len() < MAX_LOG_BYTES {
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            let length = text.len();
            drop(text);
            self.progress.send_replace((length, false));
        }
        self.progress.send_modify(|progress| progress.1 = true);
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The error of a start, with the log that usually says why; its last lines may still be on their way.
    async fn failed_start(&self, why: &(dyn std::fmt::Display + Sync)) -> TestError {
        let mut progress = self.progress.subscribe();
        let _ = timeout(LAST_LINES, progress.wait_for(|progress| progress.1)).await;
        TestError::Start(format!("{why}; its log: {}", self.text()))
    }

    async fn wait_for(&self, wanted: &str) -> Result<(), TestError> {
        let mut progress = self.progress.subscribe();
        let waiting = progress.wait_for(|progress| progress.1 || self.text().contains(wanted));
        timeout(PATIENCE, waiting).await.map(|_| ()).map_err(|_| TestError::Timeout("a line of the log"))?;
        if self.text().contains(wanted) {
            return Ok(());
        }
        Err(TestError::Wire(format!("the log ended without {wanted:?}: {}", self.text())))
    }
}
