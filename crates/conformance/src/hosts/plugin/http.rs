//! HTTP/1.1 over the plugin's socket, by hand.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use super::{Plugin, channel, routes};

/// Longest line of a head, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// Longest body that is kept, in bytes.
const MAX_BODY: u64 = 8 * 1024 * 1024;

/// One request, whole.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) version: String,
    /// Names in lower case, values as they came.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// One answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn json(body: &serde_json::Value) -> Self {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Self { status: 200, headers, body: body.to_string().into_bytes() }
    }
}

/// What becomes of a request.
pub(super) enum Outcome {
    Answer(Answer),
    /// The connection becomes the channel.
    Channel,
    /// A body whose second half comes only when somebody has seen the first.
    Halves,
    /// Nothing is ever answered.
    Silence,
}

/// Serves one connection until it ends.
pub(super) fn serve(plugin: &std::sync::Arc<Plugin>, stream: UnixStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = read(&mut reader)? {
        match routes::answer(plugin, &request) {
            Outcome::Answer(answer) => write(&mut writer, &answer, request.method == "HEAD")?,
            Outcome::Channel => return channel::serve(plugin, &request, reader, writer),
            Outcome::Halves => routes::answer_in_halves(plugin, &mut writer)?,
            Outcome::Silence => {
                // Until the host hangs up.
                while reader.read(&mut [0; 1024])? > 0 {}
                return Ok(());
            }
        }
    }
    Ok(())
}

fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()))
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(first) = line(reader)? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (method, target, version) = (word(), word(), word());
    let mut headers = Vec::new();
    while let Some(line) = line(reader)?.filter(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let mut request = Request { method, target, version, headers, body: Vec::new() };
    let chunked =
        request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    if chunked {
        loop {
            let size = line(reader)?.unwrap_or_default();
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            take(reader, size, &mut request.body)?;
            line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else {
        take(reader, length, &mut request.body)?;
    }
    Ok(Some(request))
}

fn take(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if length + body.len() as u64 > MAX_BODY {
        return Err(io::Error::other("a body that is too long"));
    }
    let read = reader.take(length).read_to_end(body)?;
    if read as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn write(writer: &mut impl Write, answer: &Answer, without_body: bool) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} -\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", answer.body.len()));
    let mut bytes = head.into_bytes();
    if !without_body {
        bytes.extend(&answer.body);
    }
    writer.write_all(&bytes)
}
