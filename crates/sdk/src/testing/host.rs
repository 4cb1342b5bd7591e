//! A plugin inside the test: assembled as in a process of its own, listening on memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde_json::{Value, json};
use temps_protocol::{Configuration, Feature, HostFrame, PluginEvent, PluginManifest, Ready};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::channel::TestChannel;
use super::client::{Door, TestClient};
use super::memory;
use super::platform::TestPlatform;
use super::{PATIENCE, TestError};
use crate::arguments::{Environment, Launch};
use crate::auth::Secret;
use crate::events::Outcome;
use crate::life::Life;
use crate::plugin::{ExternalPlugin, SharedPlugin};

/// The auth secret of every plugin in a test.
const TEST_SECRET: &str = "test-secret";

/// Outcomes that may wait to be looked at. A test delivers events one by one.
const OUTCOMES: usize = 1024;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Hosts one plugin inside the test. See the [module](super) for an example.
pub struct TestHost {
    life: Life,
    manifest: PluginManifest,
    client: TestClient,
    platform: TestPlatform,
    channel: Mutex<Option<TestChannel>>,
    outcomes: Mutex<mpsc::Receiver<(String, Outcome)>>,
    data_dir: DataDir,
}

/// Prepares a [`TestHost`].
pub struct TestHostBuilder {
    plugin: SharedPlugin,
    platform: TestPlatform,
    with_channel: bool,
    config: Option<Value>,
}

impl TestHost {
    /// Hosts `plugin`, with a channel and a platform that knows nothing yet.
    ///
    /// # Errors
    /// [`TestError::Start`] when the manifest breaks rules, the router panics, or the start hook fails.
    pub async fn start(plugin: impl ExternalPlugin) -> Result<Self, TestError> {
        Self::builder(plugin).start().await
    }

    /// Begins a host with wishes.
    pub fn builder(plugin: impl ExternalPlugin) -> TestHostBuilder {
        TestHostBuilder {
            plugin: Arc::new(plugin),
            platform: TestPlatform::default(),
            with_channel: true,
            config: None,
        }
    }

    /// Begins an event of this type, with an id of its own and the current time.
    #[must_use]
    pub fn event(event_type: &str) -> TestEvent {
        TestEvent::new(event_type)
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

    /// What the plugin said of itself.
    #[must_use]
    pub fn manifest(&self) -> &PluginManifest {
        &self.manifest
    }

    /// What the plugin's ready line says.
    #[must_use]
    pub fn ready(&self) -> Ready {
        self.life.ready()
    }

    /// The plugin's data directory. It is removed with the host.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir.0
    }

    /// Sends an event over the channel and waits until it was handled.
    ///
    /// # Errors
    /// [`TestError::Event`] with the handler's error or panic; [`TestError::Start`] when the plugin did not ask for events
    /// of this type, which a host would never deliver.
    pub async fn deliver(&self, event: impl Into<PluginEvent>) -> Result<(), TestError> {
        let event = event.into();
        if !self.manifest.wants(&event.event_type) {
            let message =
                format!("the manifest asks for {:?}, not for {}", self.manifest.events, event.event_type);
            return Err(TestError::Event(message));
        }
        let mut outcomes = self.outcomes.lock().await;
        let id = event.id.clone();
        let text = serde_json::to_string(&event).map_err(|e| TestError::Wire(e.to_string()))?;
        let channel = self.channel.lock().await;
        let channel = channel.as_ref().ok_or_else(|| TestError::Wire("there is no channel".into()))?;
        channel.send(HostFrame::event_json(&text, false)).await?;
        loop {
            let next = timeout(PATIENCE, outcomes.recv()).await;
            match next.map_err(|_| TestError::Timeout("the handling of an event"))? {
                Some((handled, outcome)) if handled == id => {
                    return match outcome {
                        Outcome::Handled => Ok(()),
                        Outcome::Failed(reason) => Err(TestError::Event(reason)),
                    };
                }
                Some(_) => {}
                None => return Err(TestError::Wire("the plugin has ended".into())),
            }
        }
    }

    /// Sends another configuration, an object, as a host does after a change. Returns once the plugin has read it.
    ///
    /// # Errors
    /// [`TestError::Wire`] when it is no object, or there is no channel.
    pub async fn configure(&self, config: Value) -> Result<(), TestError> {
        let Value::Object(config) = config else {
            return Err(TestError::Wire("a configuration is an object".into()));
        };
        let revision = i64::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(i64::MAX);
        let frame = HostFrame::Config(Configuration { config, revision });
        let text = serde_json::to_string(&frame).map_err(|e| TestError::Wire(e.to_string()))?;
        let channel = self.channel.lock().await;
        let channel = channel.as_ref().ok_or_else(|| TestError::Wire("there is no channel".into()))?;
        channel.send(text).await?;
        channel.ping().await
    }

    /// Cuts the channel, as a host that lost it.
    pub async fn cut_channel(&self) {
        self.channel.lock().await.take();
    }

    /// Makes a channel, in place of the one that there may be.
    ///
    /// # Errors
    /// [`TestError::Wire`] when the plugin does not accept it.
    pub async fn connect_channel(&self) -> Result<(), TestError> {
        let channel = TestChannel::connect(&self.client.door, self.platform.clone()).await?;
        *self.channel.lock().await = Some(channel);
        Ok(())
    }

    /// Ends the plugin as SIGTERM does: events that wait, shutdown hook, channel, server.
    pub async fn shutdown(self) {
        self.life.end().await;
    }
}

impl TestHostBuilder {
    /// Uses this platform, which may have been told things before the plugin starts.
    #[must_use]
    pub fn platform(mut self, platform: TestPlatform) -> Self {
        self.platform = platform;
        self
    }

    /// Sends this configuration, an object, before the start hook runs. Neither schema nor defaults are looked at.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = Some(config);
        self
    }

    /// Makes no channel, as some hosts.
    #[must_use]
    pub fn without_channel(mut self) -> Self {
        self.with_channel = false;
        self
    }

    /// Starts the plugin; its start hook has returned when this does.
    ///
    /// # Errors
    /// [`TestError::Start`] when the manifest breaks rules, the router panics, or the start hook fails.
    pub async fn start(self) -> Result<TestHost, TestError> {
        let failed = |e: &dyn std::fmt::Display| TestError::Start(e.to_string());
        let manifest = self.plugin.manifest();
        manifest.check().map_err(|e| {
            let problems: Vec<String> = e.problems.iter().map(ToString::to_string).collect();
            TestError::Start(format!("the manifest breaks rules: {}", problems.join("; ")))
        })?;
        let data_dir = DataDir::make().map_err(|e| failed(&e))?;
        let launch = Launch {
            socket_path: PathBuf::new(),
            secret: Secret::new(TEST_SECRET),
            data_dir: data_dir.0.clone(),
            environment: Environment {
                features: self.config.iter().map(|_| Feature::Config).collect(),
                ..Environment::default()
            },
        };
        let (outcome, outcomes) = mpsc::channel(OUTCOMES);
        let observer = Arc::new(move |id: &str, result: &Outcome| {
            let _ = outcome.try_send((id.to_owned(), result.clone()));
        });
        let (listener, connector) = memory::listener();
        let life =
            Life::begin(self.plugin, &manifest, &launch, listener, observer).map_err(|e| failed(&e))?;
        let host = TestHost {
            life,
            manifest,
            client: TestClient::new(Door::Memory(connector), TEST_SECRET),
            platform: self.platform,
            channel: Mutex::new(None),
            outcomes: Mutex::new(outcomes),
            data_dir,
        };
        if self.with_channel {
            host.connect_channel().await?;
        }
        if let Some(config) = self.config {
            host.configure(config).await?;
        }
        host.life.start().await.map_err(|e| failed(&e))?;
        Ok(host)
    }
}

/// An event for a test, made step by step.
#[derive(Debug, Clone)]
pub struct TestEvent {
    event: PluginEvent,
}

impl TestEvent {
    fn new(event_type: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let event = PluginEvent {
            id: format!("00000000-0000-4000-8000-{number:012x}"),
            event_type: event_type.to_owned(),
            timestamp: SystemTime::now().into(),
            project_id: None,
            data: json!({}),
        };
        Self { event }
    }

    /// Concerns this project.
    #[must_use]
    pub fn project(mut self, id: i32) -> Self {
        self.event.project_id = Some(id);
        self
    }

    /// Carries this payload, an object.
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.event.data = data;
        self
    }
}

impl From<TestEvent> for PluginEvent {
    fn from(event: TestEvent) -> Self {
        event.event
    }
}

/// A directory that goes with the test.
pub(super) struct DataDir(pub(super) PathBuf);

impl DataDir {
    pub(super) fn make() -> std::io::Result<Self> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("temps-test-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(path)),
            }
        }
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
