//! The host's end of the channel: sends what a scene orders, answers what the plugin asks, and writes down everything
//! that came.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use temps_protocol::channel::FrameProblem;
use temps_protocol::limits::MAX_FRAME_BYTES;
use temps_protocol::{Ack, PluginFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::platform::Platform;

/// How long a plugin has to answer the upgrade.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Messages that wait to be sent. A scene sends at most some hundreds at a time.
const QUEUE: usize = 4096;

/// How a plugin answered the channel's upgrade.
pub(crate) enum Opened {
    Channel(Channel),
    /// It has none, and said so with this status.
    Refused(u16),
}

/// Everything that came over one channel.
#[derive(Debug, Default, Clone)]
pub(crate) struct Notebook {
    pub(crate) acks: Vec<Ack>,
    /// Payloads of pongs, in order.
    pub(crate) pongs: Vec<Vec<u8>>,
    /// Method and parameters of each question.
    pub(crate) asked: Vec<(String, Value)>,
    /// Rules that a frame broke: the clause, and what came.
    pub(crate) broken: Vec<(&'static str, String)>,
    /// Why it is closed.
    pub(crate) closed: Option<String>,
}

/// An open channel.
#[derive(Debug)]
pub(crate) struct Channel {
    orders: mpsc::Sender<Message>,
    seen: watch::Receiver<Notebook>,
    platform: Arc<Mutex<Platform>>,
    task: tokio::task::JoinHandle<()>,
    pings: u32,
}

impl Channel {
    /// Asks the plugin for its channel. The error says what came instead of an answer that the protocol knows.
    pub(crate) async fn open(
        socket: &Path,
        secret: Option<&str>,
        platform: Arc<Mutex<Platform>>,
    ) -> Result<Opened, String> {
        let headers = secret.map(|secret| format!("Authorization: Bearer {secret}\r\n")).unwrap_or_default();
        Ok(match upgrade(socket, &headers).await? {
            Ok(stream) => Opened::Channel(Self::over(stream, platform)),
            Err(status) => Opened::Refused(status),
        })
    }

    fn over(socket: WebSocketStream<UnixStream>, platform: Arc<Mutex<Platform>>) -> Self {
        let (orders, waiting) = mpsc::channel(QUEUE);
        let (write, seen) = watch::channel(Notebook::default());
        let task = tokio::spawn(serve(socket, waiting, write, Arc::clone(&platform)));
        Self { orders, seen, platform, task, pings: 0 }
    }

    /// Sends a frame.
    pub(crate) async fn send(&self, frame: &Value) {
        self.send_text(frame.to_string()).await;
    }

    /// Sends a text message as it is.
    pub(crate) async fn send_text(&self, text: String) {
        self.order(Message::text(text)).await;
    }

    /// Sends a binary message.
    pub(crate) async fn send_bytes(&self, bytes: Vec<u8>) {
        self.order(Message::binary(bytes)).await;
    }

    async fn order(&self, message: Message) {
        // When the channel is closed, the notebook says so.
        let _ = self.orders.send(message).await;
    }

    /// Sends an event.
    pub(crate) async fn event(&self, event: &Value) {
        self.send(&json!({"type": "event", "event": event})).await;
    }

    /// Sends the configuration, whole.
    pub(crate) async fn configure(&self, config: &Value, revision: i64) {
        {
            let mut platform = self.platform.lock().unwrap_or_else(PoisonError::into_inner);
            (platform.config, platform.config_revision) = (config.clone(), revision);
        }
        self.send(&json!({"type": "config", "config": config, "revision": revision})).await;
    }

    /// Sends a ping behind everything that was sent, and waits for its pong.
    pub(crate) async fn ping(&mut self, within: Duration) -> Result<(), String> {
        self.pings += 1;
        let payload = format!("ping {}", self.pings).into_bytes();
        self.order(Message::Ping(payload.clone().into())).await;
        let pong = |seen: &Notebook| seen.pongs.contains(&payload);
        self.until(within, pong)
            .await
            .map_err(|why| format!("no pong for the payload {:?}: {why}", String::from_utf8_lossy(&payload)))
    }

    /// Waits until the notebook fulfils a condition. The error says why it cannot or did not.
    pub(crate) async fn until(
        &mut self,
        within: Duration,
        fulfilled: impl Fn(&Notebook) -> bool,
    ) -> Result<(), String> {
        let wait = self.seen.wait_for(|seen| fulfilled(seen) || seen.closed.is_some());
        let Ok(Ok(seen)) = timeout(within, wait).await else {
            return Err(format!("not within {} ms", within.as_millis()));
        };
        match &seen.closed {
            Some(why) if !fulfilled(&seen) => Err(format!("the channel was closed ({why})")),
            _ => Ok(()),
        }
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Notebook {
        self.seen.borrow().clone()
    }

    /// Closes the channel in order, as a host does that stops a plugin.
    pub(crate) async fn close(&mut self) {
        self.order(Message::Close(None)).await;
    }

    /// Loses the channel: the connection is gone without a word.
    pub(crate) fn lose(self) {
        self.task.abort();
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks for the channel with these lines of headers. `Ok(Err)` is the status of a refusal; the error says what came instead
/// of an answer that the protocol knows.
pub(crate) async fn upgrade(
    socket: &Path,
    headers: &str,
) -> Result<Result<WebSocketStream<UnixStream>, u16>, String> {
    let work = async {
        let mut stream = crate::http::connect(socket).await.map_err(|e| format!("no connection ({e})"))?;
        let key = generate_key();
        let request = format!(
            "GET /_temps/channel HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(|e| format!("no connection ({e})"))?;
        let (head, rest) = read_head(&mut stream).await?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok());
        match status {
            Some(101) if !has_accept(&head, &key) => {
                Err("101 without the right Sec-WebSocket-Accept".to_owned())
            }
            Some(101) => {
                let config = WebSocketConfig::default()
                    .max_message_size(Some(MAX_FRAME_BYTES))
                    .max_frame_size(Some(MAX_FRAME_BYTES));
                Ok(Ok(WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await))
            }
            Some(status) => Ok(Err(status)),
            None => Err(format!("no HTTP ({:?})", shorten(&head))),
        }
    };
    let late = || Err(format!("no answer within {} s", UPGRADE_TIMEOUT.as_secs()));
    timeout(UPGRADE_TIMEOUT, work).await.unwrap_or_else(|_| late())
}

/// The head of an answer in any version of HTTP/1, and what came behind it. A plugin may refuse in HTTP/1.0.
async fn read_head(stream: &mut UnixStream) -> Result<(String, Vec<u8>), String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            return Ok((head, bytes.split_off(end + 4)));
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) => return Err("the end of the connection instead of an answer".into()),
            Ok(_) if bytes.len() > MAX_HEAD => return Err("a head without an end".into()),
            Ok(_) => {}
            Err(error) => return Err(format!("no answer ({error})")),
        }
    }
}

fn has_accept(head: &str, key: &str) -> bool {
    let accept = derive_accept_key(key.as_bytes());
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == accept)
}

async fn serve(
    mut socket: WebSocketStream<UnixStream>,
    mut orders: mpsc::Receiver<Message>,
    write: watch::Sender<Notebook>,
    platform: Arc<Mutex<Platform>>,
) {
    let mut ids = HashSet::new();
    loop {
        let came = tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return };
                if let Err(error) = socket.send(order).await {
                    return write.send_modify(|seen| seen.closed = Some(error.to_string()));
                }
                continue;
            }
            came = socket.next() => came,
        };
        let text = match came {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Pong(payload))) => {
                write.send_modify(|seen| seen.pongs.push(payload.to_vec()));
                continue;
            }
            Some(Ok(Message::Binary(bytes))) => {
                let what = format!("a binary message of {} bytes", bytes.len());
                write.send_modify(|seen| seen.broken.push(("C-3", what)));
                continue;
            }
            Some(Ok(Message::Close(_))) => {
                write.send_modify(|seen| seen.closed = Some("the plugin said close".into()));
                return;
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => {
                let why = error.to_string();
                return write.send_modify(|seen| {
                    if matches!(error, Error::Capacity(_) | Error::Utf8(_) | Error::Protocol(_)) {
                        let abrupt = matches!(error, Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake));
                        if !abrupt {
                            seen.broken.push(("C-3", why.clone()));
                        }
                    }
                    seen.closed = Some(why);
                });
            }
            None => return write.send_modify(|seen| seen.closed = Some("the connection ended".into())),
        };
        if let Some(answer) = read(text.as_str(), &mut ids, &write, &platform)
            && let Err(error) = socket.send(Message::text(answer.to_string())).await
        {
            return write.send_modify(|seen| seen.closed = Some(error.to_string()));
        }
    }
}

/// Writes down what a frame says; returns the answer that it waits for.
fn read(
    text: &str,
    ids: &mut HashSet<String>,
    write: &watch::Sender<Notebook>,
    platform: &Mutex<Platform>,
) -> Option<Value> {
    let broke =
        |clause: &'static str, what: String| write.send_modify(|seen| seen.broken.push((clause, what)));
    match PluginFrame::parse(text) {
        Ok(PluginFrame::Ack(ack)) => {
            write.send_modify(|seen| seen.acks.push(ack));
            None
        }
        Ok(PluginFrame::Request { request, .. }) => {
            if request.id.is_null() {
                broke("C-7", format!("a request with the id null: {}", shorten(text)));
            } else if !ids.insert(request.id.to_string()) {
                broke("C-7", format!("a second request with the id {}", request.id));
            }
            let answered = platform
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .answer(&request.method, &request.params);
            write.send_modify(|seen| {
                seen.broken.extend(answered.broken);
                seen.asked.push((request.method, request.params));
            });
            Some(match answered.outcome {
                Ok(result) => json!({"type": "response", "id": request.id, "result": result}),
                Err(error) => json!({"type": "response", "id": request.id, "error": error}),
            })
        }
        Err(FrameProblem::Answer { id, error }) => {
            broke("C-7", format!("{}: {}", error.message, shorten(text)));
            let id: Value = serde_json::from_str(&id).unwrap_or_default();
            Some(json!({"type": "response", "id": id, "error": error}))
        }
        // A type of a later version is allowed; everything else is no frame.
        Err(FrameProblem::Ignore { .. }) if is_typed(text) => None,
        Err(FrameProblem::Ignore { reason }) => {
            broke("C-3", format!("{reason}: {}", shorten(text)));
            None
        }
    }
}

fn is_typed(text: &str) -> bool {
    let known = ["request", "ack"];
    serde_json::from_str::<Value>(text)
        .is_ok_and(|frame| frame["type"].as_str().is_some_and(|kind| !known.contains(&kind)))
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}
