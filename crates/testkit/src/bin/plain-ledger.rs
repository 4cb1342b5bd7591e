//! A plugin of the fault runs that knows nothing of acks: it handles an event by writing it to its ledger.
//!
//! Its order stands behind its program, as the unruly plugin's does: the name, and whether it refuses the channel and so
//! gets its events by `POST /_events` alone. It speaks the protocol by hand.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use temps_testkit::Sin;
use temps_testkit::behaviour::{Behaviour, MAX_TRAILER_BYTES};
use temps_testkit::faults::ledger::{FILE, Line};

/// Longest frame in bytes.
const MAX_FRAME: usize = 1024 * 1024;

/// Longest event in bytes.
const MAX_EVENT: usize = 256 * 1024;

/// Where events are written.
#[derive(Clone)]
struct Ledger {
    file: Arc<Mutex<File>>,
    life: u64,
}

impl Ledger {
    /// Opens the ledger and writes that a life began, behind whatever the last one left half written.
    fn open(path: PathBuf) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let ledger = Self { file: Arc::new(Mutex::new(file)), life: now() };
        ledger.write("\n", None)?;
        Ok(ledger)
    }

    fn handle(&self, event: &Value) -> std::io::Result<()> {
        let id = event["id"].as_str().ok_or_else(|| std::io::Error::other("an event without an id"))?;
        self.write("", Some(id.to_owned()))
    }

    fn write(&self, before: &str, event: Option<String>) -> std::io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(&Line { life: self.life, at: now(), event })?;
        file.write_all(format!("{before}{line}\n").as_bytes())?;
        file.sync_data()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let order = order()?;
    let refuses_channel = order.sins.iter().any(|sin| matches!(sin, Sin::ChannelRefused { .. }));
    let (socket, data) = (argument("--socket-path")?, argument("--data-dir")?);
    say(&json!({"type": "manifest", "name": order.name, "version": "1.0.0", "events": order.events}))?;
    let ledger = Ledger::open(data.join(FILE))?;
    let _ = std::fs::remove_file(&socket);
    let listener = tokio::net::UnixListener::bind(&socket)?;
    say(&json!({"type": "ready", "ready": true}))?;
    let mut routes =
        Router::new().route("/health", get(|| async { "ok" })).route("/_events", post(take_post));
    if !refuses_channel {
        routes = routes.route("/_temps/channel", get(open_channel));
    }
    let mut termination = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(listener, routes.with_state(ledger)) => served,
        _ = termination.recv() => Ok(()),
    }
}

async fn open_channel(State(ledger): State<Ledger>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MAX_FRAME).on_upgrade(move |socket| converse(ledger, socket))
}

/// Handles events in the order in which they come. Pings are answered when the next message is asked for, so a pong says
/// that everything before it stands in the ledger.
async fn converse(ledger: Ledger, mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(text) = message else { continue };
        let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
        if frame["type"] == "event"
            && let Err(error) = ledger.handle(&frame["event"])
        {
            // Going on would answer the ping, which says that the event was read.
            complain(&error);
            std::process::exit(1);
        }
    }
}

async fn take_post(State(ledger): State<Ledger>, request: Request) -> Response {
    let taken = async {
        let body =
            axum::body::to_bytes(request.into_body(), MAX_EVENT).await.map_err(std::io::Error::other)?;
        ledger.handle(&serde_json::from_slice(&body)?)
    };
    match taken.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn say(line: &Value) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

fn complain(error: &std::io::Error) {
    let _ = writeln!(std::io::stderr(), "the ledger cannot be written: {error}");
}

fn argument(name: &str) -> std::io::Result<PathBuf> {
    let mut arguments = std::env::args_os().skip_while(|argument| argument != name).skip(1);
    arguments.next().map(PathBuf::from).ok_or_else(|| std::io::Error::other(format!("{name} is missing")))
}

fn order() -> std::io::Result<Behaviour> {
    use std::os::unix::fs::FileExt;
    let file = File::open("/proc/self/exe")?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(MAX_TRAILER_BYTES as u64);
    let mut tail = vec![0; (length - from) as usize];
    file.read_exact_at(&mut tail, from)?;
    Behaviour::from_tail(&tail).ok_or_else(|| std::io::Error::other("there is no order behind the program"))
}
