//! What the channel's tests share: a platform with a few things in it, an open channel, and the plugin's side of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use temps_host::audit::Audit;
use temps_host::channel::{ChannelHandle, ChannelSpec, Opened, open_over};
use temps_host::grants::Grants;
use temps_host::metrics::Metrics;
use temps_host::protocol::data::Method;
use temps_host::protocol::{DeploymentInfo, EnvironmentInfo, PluginName, ProjectInfo};
use temps_host::secrets::Secret;
use temps_host::store::sqlite::SqliteStore;
use temps_host::store::{AuditFilter, AuditRecord, AuditStore};
use temps_host::{Platform, PlatformError};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// The longest that a test waits for anything; only a failing test ever does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) const SECRET: &str = "the-secret-of-this-start";

/// A platform with projects 1 and 2; project N has environment N0 and deployments from N00 on.
pub(crate) struct Shelf {
    pub(crate) mood: Mood,
}

/// How the platform answers.
pub(crate) enum Mood {
    Honest,
    Fails,
    Panics,
    /// Answers one request for each permit, and never without.
    Waits(Arc<Semaphore>),
    /// Has projects with names of so many bytes.
    Wordy(usize),
}

impl Shelf {
    async fn answer<T>(&self, value: T) -> Result<T, PlatformError> {
        match &self.mood {
            Mood::Honest | Mood::Wordy(_) => Ok(value),
            Mood::Fails => Err(PlatformError("the password of the database is hunter2".into())),
            Mood::Panics => panic!("a platform that panics"),
            Mood::Waits(permits) => {
                permits.acquire().await.unwrap().forget();
                Ok(value)
            }
        }
    }
}

const AT: &str = "2026-06-06T12:00:00Z";

pub(crate) fn project(id: i32, name: &str) -> ProjectInfo {
    let value = json!({"id": id, "name": name, "slug": "p", "created_at": AT, "updated_at": AT});
    serde_json::from_value(value).unwrap()
}

fn environment(id: i32) -> EnvironmentInfo {
    let value = json!({"id": id, "project_id": id / 10, "name": "production", "slug": "production", "created_at": AT, "updated_at": AT});
    serde_json::from_value(value).unwrap()
}

fn deployment(id: i32) -> DeploymentInfo {
    let value = json!({"id": id, "project_id": id / 100, "environment_id": id / 10, "state": "succeeded", "created_at": AT});
    serde_json::from_value(value).unwrap()
}

#[async_trait]
impl Platform for Shelf {
    async fn get_project(&self, id: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        self.answer([1, 2].contains(&id).then(|| project(id, "p"))).await
    }
    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        let name = match self.mood {
            Mood::Wordy(bytes) => "x".repeat(bytes),
            _ => "p".to_owned(),
        };
        self.answer(vec![project(1, &name), project(2, &name)]).await
    }
    async fn get_environment(&self, id: i32) -> Result<Option<EnvironmentInfo>, PlatformError> {
        self.answer([10, 20].contains(&id).then(|| environment(id))).await
    }
    async fn list_environments(&self, project: i32) -> Result<Vec<EnvironmentInfo>, PlatformError> {
        self.answer(if [1, 2].contains(&project) { vec![environment(project * 10)] } else { Vec::new() })
            .await
    }
    async fn get_deployment(&self, id: i32) -> Result<Option<DeploymentInfo>, PlatformError> {
        self.answer((100..300).contains(&id).then(|| deployment(id))).await
    }
    async fn list_deployments(
        &self,
        project: i32,
        environment: Option<i32>,
        limit: u32,
    ) -> Result<Vec<DeploymentInfo>, PlatformError> {
        let known = [1, 2].contains(&project) && environment.is_none_or(|e| e == project * 10);
        let count = if known { limit.try_into().unwrap() } else { 0 };
        self.answer((project * 100..).take(count).map(deployment).collect()).await
    }
}

/// The host's side.
pub(crate) struct Rig {
    pub(crate) spec: ChannelSpec,
    pub(crate) grants: watch::Sender<Arc<Grants>>,
    pub(crate) metrics: Metrics,
    audit: Audit,
    store: Arc<SqliteStore>,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) fn everything() -> Grants {
    Grants { methods: Method::ALL.to_vec(), ..Grants::default() }
}

impl Rig {
    pub(crate) fn new(mood: Mood) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("temps.db")).unwrap();
        let audit = Audit::start(store.clone());
        let (grants, granted) = watch::channel(Arc::new(everything()));
        let metrics = Metrics::default();
        let spec = ChannelSpec {
            acks: false,
            name: PluginName::new("tried").unwrap(),
            secret: Secret::new(SECRET.into()),
            grants: granted,
            platform: Arc::new(Shelf { mood }),
            store: store.clone(),
            config: watch::channel(temps_host::configuration::Injected::default()).1,
            audit: audit.clone(),
            metrics: metrics.clone(),
            tap: Default::default(),
        };
        Self { spec, grants, metrics, audit, store, directory }
    }

    pub(crate) async fn open(&self) -> (ChannelHandle, Plugin) {
        let (host, plugin) = UnixStream::pair().unwrap();
        let (opened, accepted) =
            tokio::join!(open_over(self.spec.clone(), host), tokio_tungstenite::accept_async(plugin));
        match opened.unwrap() {
            Opened::Channel(handle) => (handle, Plugin(accepted.unwrap())),
            Opened::Unsupported { status } => panic!("refused with {status}"),
        }
    }

    pub(crate) fn grant(&self, change: impl FnOnce(&mut Grants)) {
        self.grants.send_modify(|grants| change(Arc::make_mut(grants)));
    }

    pub(crate) async fn audited(&self) -> Vec<AuditRecord> {
        assert!(self.audit.flush().await);
        self.store.audit(AuditFilter { limit: 1000, ..AuditFilter::default() }).await.unwrap()
    }

    pub(crate) fn metric(&self, line: &str) -> u64 {
        let text = self.metrics.encode();
        let value = text.lines().find_map(|found| found.strip_prefix(line));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }
}

/// The plugin's side of an open channel.
pub(crate) struct Plugin(pub(crate) WebSocketStream<UnixStream>);

impl Plugin {
    pub(crate) async fn send(&mut self, frame: impl ToString) {
        in_time(self.0.send(Message::text(frame.to_string()))).await.unwrap();
    }

    pub(crate) async fn message(&mut self) -> Message {
        in_time(self.0.next()).await.expect("the channel ended").unwrap()
    }

    /// The next text frame. What else comes (pings) is dealt with by the library.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            if let Message::Text(text) = self.message().await {
                return text.as_str().to_owned();
            }
        }
    }

    pub(crate) async fn frame(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(json!({"type": "request", "id": 7, "method": method, "params": params})).await;
        let mut answer = self.frame().await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("response"), &json!(7)));
        assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{answer}");
        let answer = answer.as_object_mut().unwrap();
        answer.remove("result").or_else(|| answer.remove("error")).unwrap()
    }

    pub(crate) async fn code(&mut self, method: &str, params: Value) -> String {
        self.ask(method, params).await["code"].as_str().unwrap_or("no error").to_owned()
    }
}

pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen")
}

pub(crate) fn event(number: usize) -> Arc<str> {
    format!(
        r#"{{"id":"{number}","event_type":"deployment.ready","timestamp":"{AT}","data":{{"n":{number}}}}}"#
    )
    .into()
}
