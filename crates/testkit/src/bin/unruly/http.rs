//! HTTP/1.1 over the plugin's socket, by hand: as much as a plugin needs, with bounds.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::{Plugin, channel, routes};

/// Longest request head in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Longest request body in bytes, which is kept in memory.
const MAX_BODY: usize = 128 * 1024 * 1024;

/// One request, whole.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names and values from the query, decoded.
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case, values as they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.query(name)?.parse().ok()
    }
}

/// One answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type".into(), "text/plain".into())], body: body.into() }
    }

    pub(crate) fn json(body: &Value) -> Self {
        let headers = vec![("content-type".into(), "application/json".into())];
        Self { status: 200, headers, body: body.to_string().into_bytes() }
    }
}

/// What becomes of a request.
pub(crate) enum Outcome {
    Answer(Answer),
    /// So many server-sent events, with a pause in milliseconds after each.
    Stream {
        events: u64,
        pause_ms: u64,
    },
    /// The connection becomes a WebSocket that returns each message.
    Echo,
    /// The connection becomes the channel.
    Channel,
}

/// Serves one connection until it ends. An error ends the connection and nothing else.
pub(crate) async fn serve(plugin: Arc<Plugin>, stream: UnixStream) {
    let _ = serve_connection(&plugin, stream).await;
}

async fn serve_connection(plugin: &Arc<Plugin>, mut stream: UnixStream) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        match routes::answer(plugin, &request).await {
            Outcome::Answer(answer) => {
                let without_body = request.method == "HEAD";
                write_answer(&mut stream, &answer, without_body).await?;
            }
            Outcome::Stream { events, pause_ms } => write_stream(&mut stream, events, pause_ms).await?,
            Outcome::Echo => return channel::echo(stream, &request, buffer).await,
            Outcome::Channel => return channel::serve(plugin, stream, &request, buffer).await,
        }
        if request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(())
}

async fn read_request(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
    let head_length = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > MAX_HEAD {
            return Err(std::io::Error::other("the head of a request is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_length]).into_owned();
    buffer.drain(..head_length);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    let mut request = Request { method, path: path.to_owned(), query, headers, body: Vec::new() };
    request.body = read_body(stream, buffer, &request).await?;
    Ok(Some(request))
}

async fn read_body(
    stream: &mut UnixStream,
    buffer: &mut Vec<u8>,
    request: &Request,
) -> std::io::Result<Vec<u8>> {
    if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        let mut body = Vec::new();
        loop {
            let line = take_line(stream, buffer).await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(std::io::Error::other)?;
            if size == 0 {
                while !take_line(stream, buffer).await?.is_empty() {}
                return Ok(body);
            }
            body.extend(take(stream, buffer, size, body.len()).await?);
            take_line(stream, buffer).await?;
        }
    }
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    take(stream, buffer, length, 0).await
}

async fn take(
    stream: &mut UnixStream,
    buffer: &mut Vec<u8>,
    length: usize,
    before: usize,
) -> std::io::Result<Vec<u8>> {
    if length.saturating_add(before) > MAX_BODY {
        return Err(std::io::Error::other("the body of a request is too long"));
    }
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..length).collect())
}

async fn take_line(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> std::io::Result<String> {
    loop {
        if let Some(at) = find(buffer, b"\r\n") {
            let line = String::from_utf8_lossy(&buffer[..at]).into_owned();
            buffer.drain(..at + 2);
            return Ok(line);
        }
        if buffer.len() > MAX_HEAD || stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn write_answer(stream: &mut UnixStream, answer: &Answer, without_body: bool) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if answer.status != 204 && answer.status != 304 {
        let _ = write!(head, "content-length: {}\r\n", answer.body.len());
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    if !without_body && answer.status != 204 && answer.status != 304 {
        stream.write_all(&answer.body).await?;
    }
    Ok(())
}

async fn write_stream(stream: &mut UnixStream, events: u64, pause_ms: u64) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for number in 0..events {
        let part = format!("data: {number}\n\n");
        stream.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await?;
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
    }
    stream.write_all(b"0\r\n\r\n").await
}

pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        404 => "Not Found",
        500 => "Internal Server Error",
        _ => "Answer",
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Decodes `%2F` and `+`; a broken code stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok())
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
