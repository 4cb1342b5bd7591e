//! Server-sent events, read from an answer as they come. It knows their format and nothing of what they carry.

use std::collections::VecDeque;

use reqwest::Response;
use serde::de::DeserializeOwned;

use crate::exit::{Exit, Failure};

/// Longest event that is read, in bytes. The daemon's largest is an event of 256 KiB with its escapes.
const MAX_EVENT: usize = 4 * 1024 * 1024;

/// A stream of server-sent events.
#[derive(Debug)]
pub(crate) struct EventStream {
    response: Response,
    parser: Parser,
}

impl EventStream {
    pub(crate) fn new(response: Response) -> Self {
        Self { response, parser: Parser::default() }
    }

    /// The data of the next event, or `None` when the daemon ended the stream.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        loop {
            if let Some(data) = self.parser.ready.pop_front() {
                let value = serde_json::from_str(&data).map_err(|error| {
                    Failure::other(
                        "unexpected_answer",
                        format!("the daemon sent something else than expected: {error}"),
                    )
                })?;
                return Ok(Some(value));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.parser.take(&chunk)?,
                Ok(None) => return Ok(None),
                Err(error) if error.is_timeout() => {
                    return Err(Failure::new(
                        Exit::Timeout,
                        "timeout",
                        "nothing came from the daemon in time",
                    ));
                }
                Err(_) => {
                    return Err(Failure::new(
                        Exit::Unreachable,
                        "unreachable",
                        "the connection to the daemon was lost",
                    ));
                }
            }
        }
    }
}

/// Cuts bytes into events.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    data: String,
    ready: VecDeque<String>,
}

impl Parser {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else {
                self.line.push(*byte);
            }
            if self.line.len() + self.data.len() > MAX_EVENT {
                return Err(Failure::other("too_large", "the daemon sent an event of more than 4 MiB"));
            }
        }
        Ok(())
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            if !self.data.is_empty() {
                self.ready.push_back(std::mem::take(&mut self.data));
            }
        } else if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(&String::from_utf8_lossy(data));
        }
        // Other fields and comments (keep-alive) carry nothing that is needed here.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_wherever_the_bytes_are_cut() {
        let stream = ": hello\n\nid: 1\nevent: log\ndata: {\"a\":\ndata: 1}\n\ndata: 2\r\n\r\n".as_bytes();
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            parser.take(&stream[..cut]).unwrap();
            parser.take(&stream[cut..]).unwrap();
            assert_eq!(parser.ready, ["{\"a\":\n1}", "2"], "cut at {cut}");
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut parser = Parser::default();
        let endless = vec![b'x'; MAX_EVENT + 1];
        assert!(parser.take(&endless).is_err());
    }
}
