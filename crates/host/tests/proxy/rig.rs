//! What the proxy's tests share: plugins on real unix sockets, the proxy on a real TCP port, and a client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use temps_host::grants::Grants;
use temps_host::metrics::Metrics;
use temps_host::plugin::{Link, PluginSnapshot, PluginState};
use temps_host::protocol::{PluginManifest, PluginName, ProjectInfo, parse_ready_line};
use temps_host::proxy::Proxy;
use temps_host::proxy::bounds::Bounds;
use temps_host::registry::{PluginHandle, Registry};
use temps_host::secrets::Secret;
use temps_host::{Caller, Platform, PlatformError, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest that a test waits for anything; only a failing test ever does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const ADMIN: (&str, &str) = ("authorization", "Bearer admin-token");
pub(crate) const VIEWER: (&str, &str) = ("authorization", "Bearer viewer-token");
pub(crate) const SECRET: &str = "the-plugins-secret";

/// A platform that knows two callers, by cookie or token.
pub(crate) struct TwoCallers;

#[async_trait]
impl Platform for TwoCallers {
    async fn get_project(&self, _: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        Ok(Vec::new())
    }

    async fn authenticate(&self, request: &http::request::Parts) -> Option<Caller> {
        let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let role = match (header("authorization"), header("cookie")) {
            ("Bearer admin-token", _) | (_, "session=admin") => Role::Admin,
            ("Bearer viewer-token", _) | (_, "session=viewer") => Role::Viewer,
            _ => return None,
        };
        let email = Some("ada@example.com".to_owned());
        Some(Caller { id: "7".into(), name: "Ada\r\nX-Temps-User-Role: root".into(), email, role })
    }
}

/// A host's proxy on a port, with plugins behind it.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) front: SocketAddr,
}

/// The senders behind a plugin's handle, to change what the proxy sees.
pub(crate) struct Knobs {
    pub(crate) view: watch::Sender<Arc<PluginSnapshot>>,
    pub(crate) link: watch::Sender<Option<Arc<Link>>>,
    pub(crate) grants: watch::Sender<Arc<Grants>>,
    pub(crate) socket: PathBuf,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with_bounds(Bounds::default()).await
    }

    pub(crate) async fn with_bounds(bounds: Bounds) -> Self {
        let registry = Registry::default();
        let metrics = Metrics::default();
        let proxy = Proxy::with_bounds(registry.clone(), Arc::new(TwoCallers), metrics.clone(), bounds);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = listener.local_addr().unwrap();
        let service = proxy.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { dir: tempfile::tempdir().unwrap(), registry, metrics, front }
    }

    /// Registers a plugin whose socket `name.sock` is (or is not yet) served by the test.
    pub(crate) fn register(&self, name: &str) -> Knobs {
        let socket = self.dir.path().join(format!("{name}.sock"));
        let (view, view_rx) = watch::channel(Arc::new(snapshot(name, PluginState::Running)));
        let (link, link_rx) = watch::channel(Some(Arc::new(link_to(name, &socket, 1))));
        let (grants, grants_rx) = watch::channel(Arc::new(Grants::default()));
        self.registry.insert(name.into(), PluginHandle { view: view_rx, link: link_rx, grants: grants_rx });
        Knobs { view, link, grants, socket }
    }

    /// A plugin that is an axum app.
    pub(crate) fn plugin(&self, name: &str, app: axum::Router) -> Knobs {
        let knobs = self.register(name);
        let listener = UnixListener::bind(&knobs.socket).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        knobs
    }

    /// One request over a connection of its own.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap();
        Response::from_parts(parts, body.map(http_body_util::Collected::to_bytes).unwrap_or_default())
    }

    /// The same, with the body still to come.
    pub(crate) async fn open<B>(&self, mut request: Request<B>) -> Response<hyper::body::Incoming>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let stream = TcpStream::connect(self.front).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let host = self.front.to_string().parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
        tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap()
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
        self.send(request("GET", path, headers, "")).await
    }

    /// Sends bytes as they are, and returns everything that comes back until the connection ends.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.front).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut back = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut back)).await.unwrap();
        String::from_utf8_lossy(&back).into_owned()
    }
}

pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body)).unwrap()
}

pub(crate) fn link_to(name: &str, socket: &Path, incarnation: u64) -> Link {
    let manifest = PluginManifest::builder(name, "1.0.0").build();
    Link {
        name: PluginName::new(name).unwrap(),
        incarnation,
        socket: socket.to_owned(),
        launcher_pid: std::process::id(),
        secret: Secret::new(SECRET.into()),
        manifest: Arc::new(manifest),
        ready: Arc::new(parse_ready_line(r#"{"type":"ready","ready":true}"#).unwrap()),
        features: Vec::new(),
        channel: None,
        has_ui: true,
        closed: CancellationToken::new(),
        work: TaskTracker::new(),
        ended: watch::channel(None).1,
        blames_an_event: Default::default(),
        tap: Default::default(),
    }
}

pub(crate) fn snapshot(name: &str, state: PluginState) -> PluginSnapshot {
    PluginSnapshot {
        name: name.into(),
        plugin_name: PluginName::new(name).ok(),
        file: PathBuf::from(name),
        hash: None,
        state,
        reason: None,
        manifest: None,
        has_ui: true,
        channel: None,
        features: Vec::new(),
        health: None,
        pid: None,
        containment: None,
        running_since: None,
        usage: None,
        layers: None,
        confined: None,
        next_start_at: None,
        starts: 1,
        crashes: 0,
        last_crash: None,
        allowed_actions: Vec::new(),
    }
}

/// The problem's code, after checking that it is a whole problem document.
pub(crate) fn problem(response: &Response<Bytes>) -> String {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["status"], response.status().as_u16());
    assert!(body["detail"].as_str().is_some_and(|text| !text.is_empty()));
    body["code"].as_str().unwrap().to_owned()
}

/// A plugin that answers with the request that it got, as JSON.
pub(crate) fn mirror() -> axum::Router {
    axum::Router::new().fallback(async |request: axum::extract::Request| {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        axum::Json(serde_json::json!({
            "method": parts.method.as_str(),
            "target": parts.uri.to_string(),
            "version": format!("{:?}", parts.version),
            "headers": headers_as_json(&parts.headers),
            "body": String::from_utf8_lossy(&body),
        }))
    })
}

fn headers_as_json(headers: &HeaderMap) -> serde_json::Value {
    let mut map = serde_json::Map::new();
    for name in headers.keys() {
        let all: Vec<_> =
            headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        map.insert(name.to_string(), all.join(" | ").into());
    }
    map.into()
}

/// What the mirror saw.
pub(crate) fn seen(response: &Response<Bytes>) -> serde_json::Value {
    assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
    serde_json::from_slice(response.body()).unwrap()
}

impl Rig {
    /// A plugin that speaks by hand: `serve` gets each connection with its number, from 0.
    pub(crate) fn by_hand<F, Fut>(&self, name: &str, serve: F) -> Knobs
    where
        F: Fn(usize, tokio::net::UnixStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let knobs = self.register(name);
        let listener = UnixListener::bind(&knobs.socket).unwrap();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(number, stream));
            }
        });
        knobs
    }

    /// What a metric of a plugin stands at; `kind` is empty for families without one.
    pub(crate) fn metric(&self, family: &str, plugin: &str, kind: &str) -> u64 {
        let kind = if kind.is_empty() { String::new() } else { format!(",kind=\"{kind}\"") };
        let start = format!("temps_{family}{{plugin=\"{plugin}\"{kind}}} ");
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(start.as_str()));
        line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }
}

/// Reads one request head (and no body) from a connection; `None` when it ended first.
pub(crate) async fn read_head(stream: &mut tokio::net::UnixStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0u8; 1];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Waits until `condition` holds, looking often; a failing test waits for [`PATIENCE`].
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
