//! A transcript as its file has it: the lives in it, and their steps with the numbers of their lines.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

/// What stands in the place of a secret.
pub(super) const MASK: &str = "[masked]";

/// Where the channel is opened.
pub(super) const CHANNEL_PATH: &str = "/_temps/channel";

/// Why a file is no transcript.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    /// It cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, std::io::Error),
    /// A line is no step.
    #[error("{file}, line {line}: {reason}")]
    NoStep {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing in it.
    #[error("{0} has no steps")]
    Empty(String),
}

/// Who does a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum From {
    Host,
    Plugin,
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) from: From,
    pub(super) kind: Kind,
    /// The channel that is open at this step, counted from 1 within its life.
    pub(super) channel: usize,
    /// Of a response, the place of its request among the steps of its life.
    pub(super) answers: Option<usize>,
}

/// What happens in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Kind {
    Spawn { args: Vec<String>, env: Map<String, Value> },
    Stdout { line: String },
    HttpRequest(Request),
    HttpResponse(Response),
    Frame { text: String },
    Ping,
    Pong,
    ChannelClosed,
    Signal { signal: String },
    Exit { code: Option<i32>, signal: Option<String> },
    Lost { steps: u64 },
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Request {
    pub(super) id: Option<u64>,
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) headers: Map<String, Value>,
    #[serde(flatten)]
    pub(super) body: Body,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Response {
    pub(super) id: Option<u64>,
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: Map<String, Value>,
    #[serde(flatten)]
    pub(super) body: Body,
    #[serde(default)]
    pub(super) stream: bool,
}

/// What is known of a body.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Body {
    pub(super) body: Option<Value>,
    pub(super) body_base64: Option<String>,
    /// The length of a body that was not kept whole.
    pub(super) body_bytes: Option<u64>,
}

/// A file with one life of a plugin, or with several after each other.
#[derive(Debug)]
pub(super) struct Transcript {
    pub(super) lives: Vec<Vec<Step>>,
    pub(super) steps: usize,
}

impl Transcript {
    pub(super) fn read(path: &Path) -> Result<Self, TranscriptError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| TranscriptError::Unreadable(file.clone(), error))?;
        let mut lives: Vec<Vec<Step>> = Vec::new();
        let mut steps = 0;
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let wrong = |reason: String| TranscriptError::NoStep { file: file.clone(), line, reason };
            let (from, kind) = step(text).map_err(|error| wrong(format!("it is no step: {error}")))?;
            let begins = matches!(kind, Kind::Spawn { .. });
            if begins {
                lives.push(Vec::new());
            }
            let life = lives.last_mut().ok_or_else(|| {
                wrong(
                    "a transcript begins with the step \"spawn\"; this one begins in the middle of a life \
                       (`temps plugin record --restart` records a whole one)"
                        .into(),
                )
            })?;
            life.push(Step { line, from, kind, channel: 0, answers: None });
            steps += 1;
        }
        if steps == 0 {
            return Err(TranscriptError::Empty(file));
        }
        for life in &mut lives {
            connect(life).map_err(|(line, reason)| TranscriptError::NoStep {
                file: file.clone(),
                line,
                reason: reason.into(),
            })?;
        }
        Ok(Self { lives, steps })
    }
}

fn step(text: &str) -> Result<(From, Kind), serde_json::Error> {
    #[derive(Deserialize)]
    struct Line {
        from: From,
        #[serde(flatten)]
        kind: Kind,
    }
    let Line { from, kind } = serde_json::from_str(text)?;
    Ok((from, kind))
}

/// Finds the request of each response, and the channel that is open at each step.
fn connect(life: &mut [Step]) -> Result<(), (usize, &'static str)> {
    let mut waiting: Vec<usize> = Vec::new();
    let mut channel = 0;
    for at in 0..life.len() {
        match &life[at].kind {
            Kind::HttpRequest(_) => waiting.push(at),
            Kind::HttpResponse(response) => {
                let is_its = |place: &usize| match &life[*place].kind {
                    Kind::HttpRequest(request) => response.id.is_none() || request.id == response.id,
                    _ => false,
                };
                let place = waiting.iter().position(is_its);
                let place = place.ok_or((life[at].line, "it answers no request"))?;
                let request = waiting.remove(place);
                if opens_channel(&life[request].kind) && response.status == 101 {
                    channel += 1;
                }
                life[at].answers = Some(request);
            }
            Kind::Frame { .. } | Kind::Ping | Kind::Pong if channel == 0 => {
                return Err((life[at].line, "no channel is open yet"));
            }
            _ => {}
        }
        life[at].channel = channel;
    }
    Ok(())
}

/// Whether a step is the request for the channel.
pub(super) fn opens_channel(kind: &Kind) -> bool {
    matches!(kind, Kind::HttpRequest(request) if request.path == CHANNEL_PATH)
}

impl Kind {
    /// The step's name in a file.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Spawn { .. } => "spawn",
            Kind::Stdout { .. } => "stdout",
            Kind::HttpRequest(_) => "http_request",
            Kind::HttpResponse(_) => "http_response",
            Kind::Frame { .. } => "frame",
            Kind::Ping => "ping",
            Kind::Pong => "pong",
            Kind::ChannelClosed => "channel_closed",
            Kind::Signal { .. } => "signal",
            Kind::Exit { .. } => "exit",
            Kind::Lost { .. } => "lost",
        }
    }

    /// What a plugin is expected to do, in words.
    pub(super) fn expected(&self) -> String {
        match self {
            Kind::Stdout { line } => format!("the line {line}"),
            Kind::HttpResponse(response) => format!("an answer with status {}", response.status),
            Kind::Frame { text } => format!("the frame {text}"),
            Kind::Pong => "a pong".into(),
            Kind::ChannelClosed => "the end of the channel".into(),
            Kind::Exit { code: Some(code), .. } => format!("an end with code {code}"),
            Kind::Exit { signal: Some(signal), .. } => format!("an end by {signal}"),
            Kind::Exit { .. } => "its end".into(),
            other => other.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Transcript, TranscriptError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Transcript::read(file.path())
    }

    #[test]
    fn a_line_that_is_no_step_is_named_with_its_number() {
        let spawn = r#"{"from":"host","kind":"spawn","args":[],"env":{}}"#;
        let line = |text: String| match read(&text) {
            Err(TranscriptError::NoStep { line, reason, .. }) => (line, reason),
            other => panic!("{other:?}"),
        };
        assert_eq!(line(format!("{spawn}\nnonsense")).0, 2);
        assert_eq!(
            line(format!("{spawn}\n{}", r#"{"from":"plugin","kind":"http_response","status":200}"#)).0,
            2
        );
        let (at, reason) = line(r#"{"from":"host","kind":"ping"}"#.into());
        assert!(at == 1 && reason.contains("--restart"), "{reason}");
        assert!(matches!(read(""), Err(TranscriptError::Empty(_))));
    }

    #[test]
    fn an_answer_belongs_to_the_request_with_its_id_or_to_the_oldest() {
        let text = r#"{"from":"host","kind":"spawn","args":[],"env":{}}
{"from":"host","kind":"http_request","id":1,"method":"GET","path":"/a"}
{"from":"host","kind":"http_request","id":2,"method":"GET","path":"/b"}
{"from":"plugin","kind":"http_response","id":2,"status":200}
{"from":"plugin","kind":"http_response","status":200}"#;
        let life = read(text).unwrap().lives.remove(0);
        assert_eq!((life[3].answers, life[4].answers), (Some(2), Some(1)));
    }
}
