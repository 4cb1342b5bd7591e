//! The plugin's side of the channel, and what can be done wrong there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use temps_testkit::{Sin, Step};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::Plugin;
use crate::acks::{self, Confirmation};
use crate::http::Request;

/// Frames that may wait to be sent.
const OUTGOING: usize = 64;

/// What is sent over the channel.
pub(crate) enum Outgoing {
    Text(String),
    Bytes(Vec<u8>),
}

/// Makes the connection a WebSocket that returns each message.
pub(crate) async fn echo(stream: UnixStream, request: &Request, read: Vec<u8>) -> std::io::Result<()> {
    let mut socket = accept(stream, request, read).await?;
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Makes the connection the channel, and serves it until it ends.
pub(crate) async fn serve(
    plugin: &Arc<Plugin>,
    stream: UnixStream,
    request: &Request,
    read: Vec<u8>,
) -> std::io::Result<()> {
    let socket = accept(stream, request, read).await?;
    plugin.exit_if_ordered(Step::Channel);
    if plugin.has(&Sin::SlowReader) {
        let held = socket;
        std::future::pending::<()>().await;
        drop(held);
        return Ok(());
    }
    let (outgoing, frames) = mpsc::channel(OUTGOING);
    if let Ok(mut channel) = plugin.channel.lock() {
        *channel = Some(outgoing.clone());
    }
    tokio::spawn(misbehave(plugin.clone(), outgoing.clone()));
    let lifetime = plugin.sin(|sin| match sin {
        Sin::DropsChannel { after_ms } => Some(Duration::from_millis(*after_ms)),
        _ => None,
    });
    let conversation = converse(plugin, socket, frames);
    match lifetime {
        Some(lifetime) => drop(tokio::time::timeout(lifetime, conversation).await),
        None => conversation.await,
    }
    if let Ok(mut channel) = plugin.channel.lock()
        && channel.as_ref().is_some_and(|current| current.same_channel(&outgoing))
    {
        *channel = None;
        // Whoever still waits for an answer learns that none will come.
        if let Ok(mut waiting) = plugin.waiting.lock() {
            waiting.clear();
        }
    }
    Ok(())
}

async fn accept(
    mut stream: UnixStream,
    request: &Request,
    read: Vec<u8>,
) -> std::io::Result<WebSocketStream<UnixStream>> {
    let key = request.header("sec-websocket-key").unwrap_or_default();
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(head.as_bytes()).await?;
    // No bound on what is sent: a giant frame is one of the sins.
    let config = WebSocketConfig::default();
    Ok(WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await)
}

async fn converse(
    plugin: &Arc<Plugin>,
    mut socket: WebSocketStream<UnixStream>,
    mut frames: mpsc::Receiver<Outgoing>,
) {
    let pause = plugin.sin(|sin| match sin {
        Sin::ReadsSlowly { per_frame_ms } => Some(Duration::from_millis(*per_frame_ms)),
        _ => None,
    });
    loop {
        let sent = tokio::select! {
            frame = frames.recv() => match frame {
                Some(Outgoing::Text(text)) => socket.send(Message::text(text)).await,
                Some(Outgoing::Bytes(bytes)) => socket.send(Message::binary(bytes)).await,
                None => return,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let taken = take_frame(plugin, &text).unwrap_or_default();
                    let sent = acks::confirm(plugin, &mut socket, taken).await;
                    if let Some(pause) = pause {
                        tokio::time::sleep(pause).await;
                    }
                    sent
                }
                Some(Ok(_)) => Ok(()),
                Some(Err(_)) | None => return,
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Takes in one frame of the host; returns how it is to be confirmed, if it is an event.
fn take_frame(plugin: &Plugin, text: &str) -> Option<Confirmation> {
    let frame: Value = serde_json::from_str(text).ok()?;
    match frame["type"].as_str()? {
        "response" => {
            let outcome = frame["error"]["code"].as_str().unwrap_or("ok").to_owned();
            if let Ok(mut answers) = plugin.answers.lock() {
                *answers.entry(outcome).or_default() += 1;
                keep(plugin, &answers);
            }
            let waiting = plugin.waiting.lock().ok()?.remove(&frame["id"].as_u64()?)?;
            // The one who asked may have gone.
            let _ = waiting.send(frame);
            None
        }
        "event" => {
            let event = &frame["event"];
            let confirmation = acks::decide(plugin, event);
            if !confirmation.is_fatal() {
                plugin.record_event(event).ok()?;
            }
            Some(confirmation)
        }
        _ => None,
    }
}

/// Puts the counts where a test finds them that cannot ask for them: the first ones at once, later ones by the hundred.
fn keep(plugin: &Plugin, answers: &BTreeMap<String, u64>) {
    let total: u64 = answers.values().sum();
    if total <= 10 || total.is_multiple_of(100) {
        let _ = std::fs::write(plugin.data_dir.join("answers.json"), json!(answers).to_string());
    }
}

/// Sends what the sins order. It stops when the channel ends.
async fn misbehave(plugin: Arc<Plugin>, outgoing: mpsc::Sender<Outgoing>) {
    for sin in &plugin.order.sins {
        match sin {
            Sin::ChannelFloods { requests } => {
                for number in 0..*requests {
                    let frame = json!({"type": "request", "id": format!("flood-{number}"), "method": "list_projects", "params": {}});
                    if outgoing.send(Outgoing::Text(frame.to_string())).await.is_err() {
                        return;
                    }
                }
            }
            Sin::GarbageFrames => {
                let texts = [
                    "",
                    "{",
                    "[]",
                    "null",
                    r#"{"type":"party"}"#,
                    r#"{"type":"response","id":1,"result":{}}"#,
                    r#"{"type":"ack"}"#,
                    r#"{"type":"request"}"#,
                    r#"{"method":5,"id":{"a":[1]}}"#,
                    "\u{0}",
                ];
                for text in texts {
                    let _ = outgoing.send(Outgoing::Text(text.to_owned())).await;
                }
                let _ = outgoing.send(Outgoing::Bytes(vec![0xff; 1000])).await;
            }
            Sin::GiantFrame { megabytes } => {
                let filler = "a".repeat(megabytes * 1_000_000);
                let frame = json!({"type": "request", "id": 0, "method": "list_projects", "params": {"filler": filler}});
                let _ = outgoing.send(Outgoing::Text(frame.to_string())).await;
            }
            _ => {}
        }
    }
}
