//! The plugin's end of the channel, which is the server's.

use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temps_protocol::limits::MAX_FRAME_BYTES;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::http::Request;
use super::wire::{BINARY, CLOSE, PING, PONG, TEXT, read_frame, write_frame};
use super::{Plugin, events, locked, questions, start};
use crate::hosts::script::Script;

/// How long an answer may take. The host has 10 s; the rest is for a machine that is busy.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the first frame may take, for a plugin that has settings.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// One channel.
pub(super) struct Channel {
    /// Counts all channels of all lives.
    pub(super) number: u64,
    writer: Mutex<UnixStream>,
    /// Who waits for an answer, by id; nobody any more once the channel is lost.
    waiting: Mutex<Option<HashMap<String, Sender<Value>>>>,
    /// The frame with the settings that came first.
    pub(super) config: Mutex<Option<Value>>,
}

impl Channel {
    pub(super) fn send(&self, opcode: u8, payload: &[u8]) {
        // A channel that is gone is seen by its reader.
        let _ = write_frame(&mut *locked(&self.writer), opcode, payload);
    }

    pub(super) fn tell(&self, frame: &Value) {
        self.send(TEXT, frame.to_string().as_bytes());
    }

    pub(super) fn ack(&self, id: &Value, outcome: Result<(), &str>) {
        self.tell(&match outcome {
            Ok(()) => json!({"type": "ack", "id": id, "status": "ok"}),
            Err(why) => json!({"type": "ack", "id": id, "status": "error", "error": why}),
        });
    }

    /// Sends a text that is a request, and returns where its answer comes.
    pub(super) fn begin(&self, id: &Value, text: &str) -> Receiver<Value> {
        let (tell, told) = channel();
        if let Some(waiting) = locked(&self.waiting).as_mut() {
            waiting.insert(id.to_string(), tell);
        }
        self.send(TEXT, text.as_bytes());
        told
    }

    /// Waits for an answer.
    pub(super) fn answer(told: &Receiver<Value>) -> Result<Value, String> {
        Self::answer_by(told, Instant::now() + ANSWER_TIMEOUT)
    }

    /// Waits for an answer until then.
    pub(super) fn answer_by(told: &Receiver<Value>, deadline: Instant) -> Result<Value, String> {
        told.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            RecvTimeoutError::Disconnected => "the loss of the channel".to_owned(),
        })
    }

    /// Asks, and waits for the whole answer.
    pub(super) fn ask_as(&self, id: &Value, method: &str, params: &Value) -> Result<Value, String> {
        let frame = json!({"type": "request", "id": id, "method": method, "params": params});
        Self::answer(&self.begin(id, &frame.to_string()))
    }

    /// Asks, and returns the result, or the error with its code.
    pub(super) fn ask(&self, plugin: &Plugin, method: &str, params: &Value) -> Result<Value, Value> {
        let number = plugin.ledger.number("requests") + 1;
        plugin.ledger.remember("requests", number);
        let answer = self.ask_as(&json!(number), method, params).map_err(|why| json!({"code": why}))?;
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer.get("result").cloned().unwrap_or_default()),
        }
    }

    /// Whether it was not lost.
    pub(super) fn is_open(&self) -> bool {
        locked(&self.waiting).is_some()
    }

    /// Loses the connection without a word.
    pub(super) fn lose(&self) {
        let _ = locked(&self.writer).shutdown(Shutdown::Both);
    }
}

/// Makes the connection the channel, and reads it until it ends.
pub(super) fn serve(
    plugin: &Arc<Plugin>,
    request: &Request,
    mut reader: BufReader<UnixStream>,
    mut writer: UnixStream,
) -> io::Result<()> {
    start::judge(plugin);
    judge_upgrade(plugin, request);
    let accept = derive_accept_key(request.header("sec-websocket-key").unwrap_or_default().as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let number = plugin.ledger.number("channels") + 1;
    plugin.ledger.remember("channels", number);
    judge_reconnect(plugin);
    writer.write_all(head.as_bytes())?;
    let mine = Arc::new(Channel {
        number,
        writer: Mutex::new(writer),
        waiting: Mutex::new(Some(HashMap::new())),
        config: Mutex::default(),
    });
    *locked(&plugin.channel) = Some(Arc::clone(&mine));
    if plugin.script() == Script::Acks {
        let (plugin, mine) = (Arc::clone(plugin), Arc::clone(&mine));
        thread::spawn(move || begin(&plugin, &mine));
    } else if plugin.script() == Script::Plain && plugin.life == 1 {
        let (plugin, mine) = (Arc::clone(plugin), Arc::clone(&mine));
        thread::spawn(move || questions::ask_without_a_grant(&plugin, &mine));
    }
    let ended = read(plugin, &mine, &mut reader);
    let mut current = locked(&plugin.channel);
    if current.as_ref().is_some_and(|current| current.number == number) {
        *current = None;
    }
    // Whoever still waits learns that nothing will come.
    *locked(&mine.waiting) = None;
    ended
}

/// Sees that the settings come first, and asks the questions once.
fn begin(plugin: &Arc<Plugin>, mine: &Arc<Channel>) {
    let deadline = Instant::now() + FIRST_FRAME_TIMEOUT;
    while locked(&mine.config).is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let came = locked(&mine.config).is_some();
    plugin.ledger.judge("config.first", came, "a channel", || "no config frame within 5 s".into());
    if plugin.ledger.fact("asking").is_null() {
        plugin.ledger.remember("asking", true);
        questions::ask_all(plugin, mine);
        plugin.ledger.remember("asked", true);
    }
}

fn judge_upgrade(plugin: &Plugin, request: &Request) {
    let has = |name: &str, word: &str| {
        request
            .header(name)
            .is_some_and(|value| value.to_ascii_lowercase().split(',').any(|part| part.trim() == word))
    };
    let key = request.header("sec-websocket-key").unwrap_or_default();
    let right = request.method == "GET"
        && has("connection", "upgrade")
        && has("upgrade", "websocket")
        && has("sec-websocket-version", "13")
        && key.len() == 24;
    plugin.ledger.judge("channel.upgrade", right, "ready", || {
        format!("{} {} with {:?}", request.method, request.target, plugin.without_secret(&request.headers))
    });
}

fn judge_reconnect(plugin: &Plugin) {
    let Some(lost) = plugin.ledger.fact("lost").as_u64() else { return };
    let (check, kept) = match plugin.script() {
        Script::Acks => ("channel.reconnect", lost == plugin.life),
        _ => ("plain.restart", lost < plugin.life),
    };
    plugin.ledger.remember("lost", Value::Null);
    plugin.ledger.judge(check, kept, "the loss of the channel", || {
        format!("a channel in life {} of the plugin, lost in life {lost}", plugin.life)
    });
}

fn read(plugin: &Arc<Plugin>, mine: &Arc<Channel>, reader: &mut BufReader<UnixStream>) -> io::Result<()> {
    loop {
        let frame = read_frame(reader)?;
        let control = frame.opcode >= CLOSE;
        let whole = frame.whole && frame.masked && !frame.reserved;
        let fits = frame.payload.len() <= MAX_FRAME_BYTES && (control || frame.opcode == TEXT);
        plugin.ledger.judge("channel.frames", whole && fits, "nothing", || {
            let (opcode, length) = (frame.opcode, frame.payload.len());
            let (end, mask) = (frame.whole, frame.masked);
            format!("a frame with the opcode {opcode}, FIN {end}, MASK {mask}, of {length} bytes")
        });
        match frame.opcode {
            TEXT => take(plugin, mine, &frame.payload),
            BINARY | PONG => {}
            PING => {
                events::pinged(plugin);
                mine.send(PONG, &frame.payload);
            }
            CLOSE => {
                mine.send(CLOSE, &frame.payload);
                return Ok(());
            }
            _ => return Err(io::Error::other("a frame of an unknown kind")),
        }
    }
}

fn take(plugin: &Arc<Plugin>, mine: &Arc<Channel>, text: &[u8]) {
    let frame: Value = serde_json::from_slice(text).unwrap_or_default();
    plugin.ledger.judge("channel.frames", frame.is_object(), "nothing", || {
        format!("a text that is no JSON object: {}", String::from_utf8_lossy(&text[..text.len().min(200)]))
    });
    match frame["type"].as_str() {
        Some("event") => {
            let configured = plugin.script() != Script::Acks || locked(&mine.config).is_some();
            plugin
                .ledger
                .judge("config.first", configured, "a channel", || "an event before the config frame".into());
            events::take_over(plugin, mine, &frame["event"]);
        }
        Some("response") => take_response(plugin, mine, frame),
        Some("config") if plugin.script() == Script::Plain => {
            plugin
                .ledger
                .judge("plain.no_config", false, "a ready line without features", || frame.to_string());
        }
        Some("config") => questions::take_config(plugin, mine, frame),
        // A later version may say more.
        _ => {}
    }
}

fn take_response(plugin: &Plugin, mine: &Channel, frame: Value) {
    let (result, error) = (frame.get("result"), frame.get("error"));
    let told = |error: &Value| error["code"].is_string() && error["message"].is_string();
    let right = result.is_some() != error.is_some() && error.is_none_or(told);
    plugin.ledger.judge("channel.outcomes", right, "a request", || frame.to_string());
    let waiting = locked(&mine.waiting).as_mut().and_then(|waiting| waiting.remove(&frame["id"].to_string()));
    let has_id = frame.get("id").is_some();
    plugin.ledger.judge("channel.ids", waiting.is_some() && has_id, "one request", || {
        format!("an answer that nobody waits for: {frame}")
    });
    if let Some(waiting) = waiting {
        let _ = waiting.send(frame);
    }
}
