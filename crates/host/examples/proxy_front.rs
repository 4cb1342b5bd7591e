//! A stand-in for a whole host, for the browser tests: the real proxy, with a sign-in, an administration API and plugins
//! that are as simple as can be.
//!
//! Its administration is careless on purpose: it believes the cookie alone and has no protection of its own. What a
//! hostile page does not reach here, it does not reach because of where it is kept.
//!
//! `proxy_front ORDINARY_DIR HOSTILE_DIR TOKEN_SECONDS` prints the address that it serves, and ends with its stdin.

#![expect(clippy::unwrap_used, reason = "a test program that cannot go on stops")]

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{any, get, post, put};
use axum::{Json, Router};
use temps_host::grants::Grants;
use temps_host::metrics::Metrics;
use temps_host::plugin::{Link, PluginSnapshot, PluginState};
use temps_host::protocol::{PluginManifest, PluginName, ProjectInfo, parse_ready_line};
use temps_host::proxy::Proxy;
use temps_host::proxy::bounds::Bounds;
use temps_host::registry::{PluginHandle, Registry};
use temps_host::secrets::Secret;
use temps_host::{Caller, Platform, PlatformError, Role};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const COOKIE: &str = "session=admin";

/// What was done with the admin's rights, and what reached the plugin that nobody may reach.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

fn signed_in(headers: &HeaderMap) -> bool {
    headers.get_all(header::COOKIE).iter().any(|value| value.to_str().is_ok_and(|text| text.contains(COOKIE)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, ordinary_dir, hostile_dir, seconds] = &arguments[..] else { return };
    let seconds: u64 = seconds.parse().unwrap();
    let log = Log::default();
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    // The senders must live as long as the plugins do.
    let _kept = [
        serve(&registry, dir.path(), "ordinary", ordinary(ordinary_dir.into())),
        serve(&registry, dir.path(), "hostile", hostile(hostile_dir.into())),
        serve(&registry, dir.path(), "other", other(log.clone())),
    ];
    let bounds = Bounds { page_token: Duration::from_secs(seconds), ..Bounds::default() };
    let proxy = Proxy::with_bounds(registry, Arc::new(OneAdmin), Metrics::default(), bounds);
    let app = console(log).merge(proxy.router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "http://localhost:{}", address.port()).unwrap();
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
}

/// The console and its administration, which believe the cookie.
fn console(log: Log) -> Router {
    let administration = |State(log): State<Log>, request: Request| async move {
        if !signed_in(request.headers()) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        log.add(format!("admin {} {}", request.method(), request.uri()));
        Json(serde_json::json!({ "secret": "the administration's secret" })).into_response()
    };
    Router::new()
        .route("/login", get(async || {
            let cookies = [format!("{COOKIE}; Path=/; HttpOnly; SameSite=Lax"), "seen=1; Path=/; SameSite=Lax".into()];
            let mut response = Redirect::to("/console").into_response();
            for cookie in cookies {
                response.headers_mut().append(header::SET_COOKIE, cookie.parse().unwrap());
            }
            response
        }))
        .route("/console", get(async || {
            Html("<!doctype html><title>Console</title><h1>Console</h1><script>localStorage.setItem('console', 'the console\\'s secret')</script>")
        }))
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .route("/api/admin/{*rest}", any(administration))
        .route("/log", get(async |State(log): State<Log>| Json(log.0.lock().unwrap().clone())))
        .with_state(log)
}

/// A plugin with routes such as an ordinary React app uses.
fn ordinary(dir: PathBuf) -> Router {
    let whoami = async |headers: HeaderMap| {
        let said =
            |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let [id, name, role] = ["id", "name", "role"].map(|field| said(&format!("x-temps-user-{field}")));
        Json(serde_json::json!({ "id": id, "name": name, "role": role }))
    };
    let events = async || {
        let first =
            [Event::default().id("1").data("one"), Event::default().id("2").event("tick").data("two")];
        let stream = futures_util::stream::iter(first.map(Ok::<_, Infallible>));
        Sse::new(futures_util::StreamExt::chain(stream, futures_util::stream::pending()))
    };
    let chat = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                let text = format!("you said {}", message.to_text().unwrap_or_default());
                let _ = socket.send(text.into()).await;
            }
        })
    };
    Router::new()
        .route("/whoami", get(whoami))
        .route("/events", get(events))
        .route("/chat", get(chat))
        .route("/settings", put(async |body: String| body))
        .route(
            "/form",
            post(async |headers: HeaderMap, body: String| {
                format!("{} posted {body}", headers["x-temps-user-name"].to_str().unwrap())
            }),
        )
        .route("/export.csv", get(async || ([(header::CONTENT_TYPE, "text/csv")], "a,b\n1,2\n")))
        .merge(files(dir))
}

fn hostile(dir: PathBuf) -> Router {
    let page = dir.join("index.html");
    let raw = async move || Html(std::fs::read_to_string(&page).unwrap());
    let cookie = async || ([(header::SET_COOKIE, "session=stolen; Path=/")], "x");
    Router::new().route("/raw", get(raw)).route("/cookie", get(cookie)).merge(files(dir))
}

/// A plugin whose routes only its own page may use.
fn other(log: Log) -> Router {
    Router::new().fallback(async move |request: Request| {
        if request.headers().contains_key("x-temps-user-id") {
            log.add(format!("other {} {}", request.method(), request.uri()));
        }
        Html("<!doctype html><title>Other</title><p>the other plugin's secret</p>")
    })
}

/// The files of a page, as a plugin would serve them.
fn files(dir: PathBuf) -> Router {
    Router::new().route("/ui/{*path}", get(file)).route("/ui/", get(file)).with_state(Arc::new(dir))
}

async fn file(State(dir): State<Arc<PathBuf>>, request: Request) -> Response {
    let name = request.uri().path().strip_prefix("/ui/").unwrap_or_default();
    let name = if name.is_empty() { "index.html" } else { name };
    let kind = match Path::new(name).extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    match std::fs::read(dir.join(name)) {
        Ok(content) => ([(header::CONTENT_TYPE, kind)], content).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Keeps a plugin registered.
type Kept =
    (watch::Sender<Arc<PluginSnapshot>>, watch::Sender<Option<Arc<Link>>>, watch::Sender<Arc<Grants>>);

fn serve(registry: &Registry, dir: &Path, name: &str, app: Router) -> Kept {
    let socket = dir.join(format!("{name}.sock"));
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let manifest =
        Arc::new(PluginManifest::builder(name, "1.0.0").display_name(format!("The {name} plugin")).build());
    let link = Link {
        name: PluginName::new(name).unwrap(),
        incarnation: 1,
        socket,
        launcher_pid: std::process::id(),
        secret: Secret::generate().unwrap(),
        manifest: manifest.clone(),
        ready: Arc::new(parse_ready_line(r#"{"type":"ready","ready":true}"#).unwrap()),
        features: Vec::new(),
        channel: None,
        has_ui: true,
        closed: CancellationToken::new(),
        work: TaskTracker::new(),
        ended: watch::channel(None).1,
        blames_an_event: Default::default(),
        tap: Default::default(),
    };
    let view = PluginSnapshot {
        name: name.into(),
        plugin_name: PluginName::new(name).ok(),
        file: PathBuf::new(),
        hash: None,
        state: PluginState::Running,
        reason: None,
        manifest: Some(manifest),
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
    };
    let (view, view_rx) = watch::channel(Arc::new(view));
    let (link, link_rx) = watch::channel(Some(Arc::new(link)));
    let (grants, grants_rx) = watch::channel(Arc::new(Grants::default()));
    registry.insert(name.into(), PluginHandle { view: view_rx, link: link_rx, grants: grants_rx });
    (view, link, grants)
}

/// A platform that knows its admin by the cookie alone.
struct OneAdmin;

#[async_trait]
impl Platform for OneAdmin {
    async fn get_project(&self, _: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        Ok(Vec::new())
    }

    async fn authenticate(&self, request: &http::request::Parts) -> Option<Caller> {
        let caller = Caller { id: "7".into(), name: "Ada".into(), email: None, role: Role::Admin };
        signed_in(&request.headers).then_some(caller)
    }
}
