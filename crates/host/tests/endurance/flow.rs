//! What flows while plugins are killed: requests of several clients over TCP, and published events.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use temps_host::PluginHost;
use temps_host::protocol::PluginEvent;
use tokio::net::TcpStream;

use crate::rig::PATIENCE;

/// Ends everything that flows.
#[derive(Default, Clone)]
pub(crate) struct Over(Arc<AtomicBool>);

impl Over {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Serves the host's routes on a port of this machine.
pub(crate) async fn serve(host: &PluginHost) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap();
    let service = host.router().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    front
}

/// One client with one connection, which it opens again when it ended.
pub(crate) struct Client {
    front: SocketAddr,
    connection: Option<SendRequest<Body>>,
}

impl Client {
    pub(crate) fn new(front: SocketAddr) -> Self {
        Self { front, connection: None }
    }

    /// Asks, and reads the whole answer. An answer that was cut short is an error.
    pub(crate) async fn get(&mut self, path: &str) -> Result<(StatusCode, String), hyper::Error> {
        let answer = tokio::time::timeout(PATIENCE, self.ask(path)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{path} was never answered"));
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    async fn ask(&mut self, path: &str) -> Result<(StatusCode, String), hyper::Error> {
        let request = Request::get(path).header("host", self.front.to_string()).body(Body::empty()).unwrap();
        let response = self.connection().await?.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn connection(&mut self) -> Result<&mut SendRequest<Body>, hyper::Error> {
        let usable = match &mut self.connection {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let stream = TcpStream::connect(self.front).await.unwrap();
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            self.connection = Some(sender);
        }
        Ok(self.connection.as_mut().unwrap())
    }
}

/// What came of the requests.
#[derive(Default)]
pub(crate) struct Answers {
    /// Requests that the neighbour answered, all of them.
    pub(crate) neighbour: AtomicU64,
    /// Requests that the victim answered.
    pub(crate) victim: AtomicU64,
    /// Requests that found no victim, by status; 0 for an answer that was cut short.
    pub(crate) without: std::sync::Mutex<BTreeMap<u16, u64>>,
}

/// Asks both plugins again and again until it is over.
///
/// The neighbour must answer each time and whole. The victim may be missing, which the host has to say as itself.
pub(crate) async fn ask_both(front: SocketAddr, over: Over, answers: Arc<Answers>) {
    let mut client = Client::new(front);
    while !over.is_set() {
        let path = "/api/x/neighbour/stream?n=3&ms=2";
        let (status, body) = client.get(path).await.expect("an answer of the neighbour was cut short");
        assert_eq!((status, body.as_str()), (StatusCode::OK, "data: 0\n\ndata: 1\n\ndata: 2\n\n"));
        answers.neighbour.fetch_add(1, Ordering::Relaxed);
        let status = match client.get("/api/x/victim/pid").await {
            Ok((status, body)) => {
                let whole = status == StatusCode::OK || body.contains(r#""code""#);
                assert!(whole, "{status} without a problem: {body}");
                status.as_u16()
            }
            Err(_) => 0,
        };
        match status {
            200 => drop(answers.victim.fetch_add(1, Ordering::Relaxed)),
            0 | 502 | 503 => *answers.without.lock().unwrap().entry(status).or_default() += 1,
            other => panic!("the victim's route answered {other}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An event of which only the id matters.
pub(crate) fn event(id: String) -> PluginEvent {
    PluginEvent {
        id,
        event_type: "deployment.succeeded".into(),
        timestamp: chrono::Utc::now(),
        project_id: Some(1),
        data: serde_json::json!({}),
    }
}

/// Publishes events until it is over, and says which.
pub(crate) async fn publish(host: PluginHost, over: Over) -> Vec<String> {
    let mut ids = Vec::new();
    while !over.is_set() {
        let id = format!("event-{}", ids.len());
        host.publish(event(id.clone())).await.unwrap();
        ids.push(id);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ids
}

/// The ids of all events that a plugin ever got, oldest first.
pub(crate) fn received(state_dir: &Path, plugin: &str) -> Vec<String> {
    let path = state_dir.join("data").join(plugin).join("events.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // A line that the kill cut short does not end, and the next life writes behind it.
    let id = |line: &str| serde_json::from_str::<PluginEvent>(line).ok().map(|event| event.id);
    text.lines().filter_map(id).collect()
}

/// Waits until a plugin got all of these events at least once, in whatever order.
pub(crate) async fn has_received(state_dir: &Path, plugin: &str, wanted: &[String]) {
    let missing = || {
        let got: std::collections::HashSet<String> = received(state_dir, plugin).into_iter().collect();
        wanted.iter().filter(|id| !got.contains(*id)).cloned().collect::<Vec<_>>()
    };
    let all = async {
        while !missing().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // Events that were alone in flight at a death are sent alone again, and have to be survived for five seconds each.
    if tokio::time::timeout(PATIENCE * 8, all).await.is_err() {
        panic!("{plugin} never got {:?}", missing());
    }
}
