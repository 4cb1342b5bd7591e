//! A real daemon in this process, on a port and in a home of its own.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use temps_server::config::Places;
use temps_server::{Config, Server, ServerHandle, Started};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a test waits for what must come. Generous, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that answers until it is stopped or dropped.
pub(crate) struct Rig {
    pub(crate) home: tempfile::TempDir,
    pub(crate) started: Started,
    pub(crate) handle: ServerHandle,
    pub(crate) config: Config,
    pub(crate) admin: String,
    pub(crate) client: reqwest::Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

/// A client that follows no redirect, so that tests see each answer.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let home = tempfile::Builder::new().prefix("temps-").tempdir_in("/tmp").unwrap();
        Self::start_in(home, change).await
    }

    pub(crate) async fn start_in(home: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::defaults(Places::below(home.path()));
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.launcher =
            Some(temps_testkit::binaries::built_executable("temps-host", "temps-host-test-launcher"));
        // Tests need not wait as long as people would.
        config.probe.interval = Duration::from_millis(50);
        config.probe.healthy_for = Duration::from_millis(300);
        change(&mut config);
        let server = Server::start(config.clone()).await.unwrap();
        let (started, handle) = (server.started().clone(), server.handle());
        let admin = std::fs::read_to_string(config.places.admin_token_file()).unwrap().trim().to_owned();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { home, started, handle, config, admin, client: client(), stop, running }
    }

    /// Ends the daemon in order and gives its home back.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.running).await.expect("the daemon must end").unwrap();
        self.home
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.started.url)
    }

    /// A request without credentials.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// A request with the admin token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.admin)
    }

    /// Looks, and must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        success(self.request(Method::GET, path).send().await.unwrap()).await.1
    }

    /// Posts, and must succeed.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        success(self.request(Method::POST, path).json(body).send().await.unwrap()).await
    }

    /// Reports a deployment, and must succeed.
    pub(crate) async fn report(&self, body: &Value) -> Value {
        self.post("/api/deployments", body).await.1
    }

    /// Makes a token and returns its secret.
    pub(crate) async fn token(&self, name: &str, role: &str) -> String {
        let made = self.post("/api/tokens", &serde_json::json!({ "name": name, "role": role })).await.1;
        made["secret"].as_str().unwrap().to_owned()
    }

    /// Types of all events so far, oldest first.
    pub(crate) async fn event_types(&self) -> Vec<String> {
        let page = self.get("/api/events?after=0&limit=500").await;
        let items = page["items"].as_array().unwrap();
        items.iter().map(|event| event["event_type"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a deployment is in a state. The journal wakes us, no clock does.
    pub(crate) async fn wait_for(&self, id: i64, state: &str) -> Value {
        let waiting = async {
            let path = "/api/events/stream?after=0&type=deployment.*";
            let mut stream = self.request(Method::GET, path).send().await.unwrap();
            loop {
                let deployment = self.get(&format!("/api/deployments/{id}")).await;
                if deployment["state"] == state {
                    return deployment;
                }
                stream.chunk().await.unwrap().expect("the stream goes on");
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(deployment) => deployment,
            Err(_) => panic!("not {state}: {}", self.get(&format!("/api/deployments/{id}")).await),
        }
    }
}

/// Status and body of an answer that must be a success.
pub(crate) async fn success(response: Response) -> (StatusCode, Value) {
    let (status, url) = (response.status(), response.url().clone());
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status}: {text}");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// The problem of an answer that must be one, with this status and code.
pub(crate) async fn problem(response: Response, status: u16, code: &str) -> Value {
    let url = response.url().clone();
    assert_eq!(response.status(), status, "{url}");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{url}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], code, "{url}: {problem}");
    assert_eq!(problem["status"], status, "{url}");
    assert_eq!(problem["type"], format!("urn:temps:problem:{code}"), "{url}");
    for field in ["title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{url}: no {field}");
    }
    problem
}
