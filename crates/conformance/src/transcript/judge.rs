//! What the plugin is expected to do next, and whether what came is it. Pure: it waits for nothing and sends nothing.
//!
//! The steps of a plugin belong to strands, each with an order of its own: the questions and other frames of one channel, its
//! acks, its pongs, each answer to a request. Between strands there is no order, because a plugin may do things beside each other.

use serde_json::Value;

use super::read::{From, Kind, Response, Step};
use super::shape::{Difference, Shapes};
use super::wire::Answer;

/// What came, and is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The line that was expected; without one, nothing was.
    pub(super) line: Option<usize>,
    pub(super) kind: &'static str,
    pub(super) field: String,
    pub(super) expected: String,
    pub(super) got: String,
}

impl Wrong {
    pub(super) fn at(step: &Step, difference: Difference) -> Self {
        let Difference { field, expected, got } = difference;
        Self { line: Some(step.line), kind: step.kind.name(), field, expected, got }
    }

    pub(super) fn instead(step: &Step, got: impl Into<String>) -> Self {
        let (expected, got) = (step.kind.expected(), got.into());
        Self { line: Some(step.line), kind: step.kind.name(), field: String::new(), expected, got }
    }

    pub(super) fn unexpected(kind: &'static str, got: impl Into<String>) -> Self {
        let expected = format!("no further {kind}");
        Self { line: None, kind, field: String::new(), expected, got: got.into() }
    }
}

/// The steps of one life, and which of them came.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    steps: &'a [Step],
    came: Vec<bool>,
    pub(super) shapes: Shapes,
}

impl<'a> Judge<'a> {
    pub(super) fn new(steps: &'a [Step], shapes: Shapes) -> Self {
        Self { steps, came: vec![false; steps.len()], shapes }
    }

    pub(super) fn has_come(&self, at: usize) -> bool {
        self.came[at]
    }

    pub(super) fn comes(&mut self, at: usize) {
        self.came[at] = true;
    }

    /// The first step of the plugin from here on that did not come yet.
    pub(super) fn next(&self, from: usize) -> Option<&'a Step> {
        let mut steps = self.steps.iter().enumerate().skip(from);
        steps.find(|(at, step)| step.from == From::Plugin && !self.came[*at]).map(|(_, step)| step)
    }

    /// The next step of one kind on a channel that did not come yet.
    pub(super) fn open(&self, channel: usize, wanted: impl Fn(&Kind) -> bool) -> Option<usize> {
        (0..self.steps.len()).find(|&at| {
            let step = &self.steps[at];
            step.from == From::Plugin && step.channel == channel && !self.came[at] && wanted(&step.kind)
        })
    }

    /// A frame came over a channel, while the step at `now` is played: what stands behind it was not sent yet.
    pub(super) fn frame(&mut self, channel: usize, text: &str, now: usize) -> Result<(), Wrong> {
        let ack = ack_id(text);
        let candidates = match &ack {
            Some(id) => self.acks(channel, id, now),
            None => self.questions(channel),
        };
        for &at in &candidates {
            let Kind::Frame { text: expected } = &self.steps[at].kind else { continue };
            if self.shapes.frame(expected, text).is_ok() {
                self.came[at] = true;
                return Ok(());
            }
        }
        // The one that was meant is the one of the same method.
        let of_its_method = |at: &&usize| matches!(&self.steps[**at].kind, Kind::Frame { text: expected } if method(expected) == method(text));
        let Some(&meant) = candidates.iter().find(of_its_method).or(candidates.first()) else {
            return Err(self.superfluous(channel, text, ack.is_some(), now));
        };
        let Kind::Frame { text: expected } = &self.steps[meant].kind else { return Ok(()) };
        let judged = self.shapes.clone().frame(expected, text);
        judged.map_err(|difference| Wrong::at(&self.steps[meant], difference))
    }

    fn superfluous(&self, channel: usize, text: &str, ack: bool, now: usize) -> Wrong {
        let is_frame = |kind: &Kind| matches!(kind, Kind::Frame { text } if ack_id(text).is_some() == ack);
        match self.open(channel, is_frame).filter(|at| *at <= now || !ack) {
            Some(at) => Wrong::instead(&self.steps[at], format!("the frame {text}")),
            None => Wrong::unexpected("frame", format!("the frame {text}")),
        }
    }

    /// Acks come in any order, those of one event in theirs, and never before the event was sent as often as in the file.
    fn acks(&self, channel: usize, id: &str, now: usize) -> Vec<usize> {
        let is_its =
            |kind: &Kind| matches!(kind, Kind::Frame { text } if ack_id(text).as_deref() == Some(id));
        let Some(first) = self.open(channel, is_its) else { return Vec::new() };
        let sent_later = (now..first).any(|at| {
            let step = &self.steps[at];
            step.from == From::Host && !self.came[at] && event_id(&step.kind).as_deref() == Some(id)
        });
        if sent_later { Vec::new() } else { vec![first] }
    }

    /// Questions and other frames keep their order; those with no step of the host between them may change places.
    fn questions(&self, channel: usize) -> Vec<usize> {
        let is_question = |kind: &Kind| matches!(kind, Kind::Frame { text } if ack_id(text).is_none());
        let Some(first) = self.open(channel, is_question) else { return Vec::new() };
        let group = (first..self.steps.len()).take_while(|&at| self.steps[at].from == From::Plugin);
        group.filter(|&at| !self.came[at] && is_question(&self.steps[at].kind)).collect()
    }

    /// The answer to the request that is the step `request`.
    pub(super) fn answer(&mut self, request: usize, answer: Result<Answer, String>) -> Result<(), Wrong> {
        let Some(at) = self.steps.iter().position(|step| step.answers == Some(request)) else {
            return Ok(());
        };
        let step = &self.steps[at];
        let Kind::HttpResponse(expected) = &step.kind else { return Ok(()) };
        let answer = answer.map_err(|why| Wrong::instead(step, why))?;
        if answer.status != expected.status {
            return Err(Wrong::at(
                step,
                Difference {
                    field: "status".into(),
                    expected: expected.status.to_string(),
                    got: format!("{}{}", answer.status, shortly(&answer.body)),
                },
            ));
        }
        headers(&mut self.shapes, expected, &answer)
            .and_then(|()| body(&mut self.shapes, expected, &answer))
            .map_err(|difference| Wrong::at(step, difference))?;
        self.came[at] = true;
        Ok(())
    }
}

fn method(text: &str) -> Option<String> {
    let frame: Value = serde_json::from_str(text).ok()?;
    Some(frame["method"].as_str()?.to_owned())
}

/// The event that a frame of the plugin acknowledges.
fn ack_id(text: &str) -> Option<String> {
    let frame: Value = serde_json::from_str(text).ok()?;
    (frame["type"] == "ack").then(|| frame["id"].as_str().unwrap_or_default().to_owned())
}

/// The event that a frame of the host carries.
fn event_id(kind: &Kind) -> Option<String> {
    let Kind::Frame { text } = kind else { return None };
    let frame: Value = serde_json::from_str(text).ok()?;
    Some(frame["event"]["id"].as_str()?.to_owned())
}

/// Headers that say something else in each life, or are looked at by whoever reads the answer.
const NOT_COMPARED: [&str; 11] = [
    "connection",
    "content-length",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "sec-websocket-accept",
    "server",
    "transfer-encoding",
    "upgrade",
];

/// Those that the file names; it leaves out what does not matter.
fn headers(shapes: &mut Shapes, expected: &Response, answer: &Answer) -> Result<(), Difference> {
    for (name, value) in &expected.headers {
        let lower = name.to_ascii_lowercase();
        let Some(wanted) = value.as_str().filter(|_| !NOT_COMPARED.contains(&lower.as_str())) else {
            continue;
        };
        let field = format!("headers.{name}");
        let all = answer.headers.get_all(&lower);
        let came: Vec<_> = all.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        if came.is_empty() {
            return Err(Difference { field, expected: wanted.to_owned(), got: "no such header".into() });
        }
        let came = came.join(", ");
        // `; charset=utf-8` says nothing new of a type whose parameters the file leaves out.
        let bare = came.split(';').next().unwrap_or_default().trim().to_owned();
        let came = if lower == "content-type" && !wanted.contains(';') { bare } else { came };
        shapes.text(&field, wanted, &came)?;
    }
    Ok(())
}

fn body(shapes: &mut Shapes, expected: &Response, answer: &Answer) -> Result<(), Difference> {
    let kept = &expected.body;
    let text = String::from_utf8_lossy(&answer.body);
    if let Some(bytes) = &kept.body_base64 {
        use base64::Engine;
        let wanted = base64::engine::general_purpose::STANDARD.decode(bytes).unwrap_or_default();
        let same =
            if kept.body_bytes.is_some() { answer.body.starts_with(&wanted) } else { answer.body == wanted };
        let got = || format!("{} other bytes", answer.body.len());
        return if same {
            Ok(())
        } else {
            Err(Difference {
                field: "body_base64".into(),
                expected: format!("{} bytes", wanted.len()),
                got: got(),
            })
        };
    }
    match (&kept.body, kept.body_bytes) {
        (None, _) => Ok(()),
        (Some(Value::String(begin)), Some(_)) => {
            let part: String = text.chars().take(begin.chars().count()).collect();
            shapes.text("body", begin, &part)
        }
        (Some(Value::String(wanted)), None) if text == *wanted => Ok(()),
        (Some(wanted), _) => match serde_json::from_slice::<Value>(&answer.body) {
            Ok(came) if !wanted.is_string() || came.is_string() => shapes.value("body", wanted, &came),
            _ => match wanted.as_str() {
                Some(wanted) => shapes.text("body", wanted, &text),
                None => Err(Difference {
                    field: "body".into(),
                    expected: wanted.to_string(),
                    got: format!("no JSON: {:?}", text.chars().take(200).collect::<String>()),
                }),
            },
        },
    }
}

fn shortly(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    if text.is_empty() { text } else { format!(" with the body {text:?}") }
}
