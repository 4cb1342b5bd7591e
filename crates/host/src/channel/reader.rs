//! The reading loop of a channel: takes what the plugin sends, has its requests worked on, and queues the answers.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{FuturesUnordered, SplitStream};
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use serde_json::value::RawValue;
use temps_protocol::channel::FrameProblem;
use temps_protocol::limits::{MAX_FRAME_BYTES, MAX_REQUESTS_IN_FLIGHT, REQUEST_TIMEOUT};
use temps_protocol::{Ack, ChannelError, ErrorCode, HostFrame, PluginFrame, Request};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::brake::Brake;
use super::calls::{self, Call};
use super::methods::{self, Denied, Refusal};
use super::session::{Context, Socket, lost};
use super::{ChannelEnd, Outgoing};
use crate::audit::Tally;

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A request that was worked on.
struct Answer {
    id: Value,
    /// The method that was asked for; `None` when there is no such method.
    method: Option<&'static str>,
    outcome: Result<Box<RawValue>, Refusal>,
}

/// The reading loop with what it counts.
pub(super) struct Reader {
    context: Arc<Context>,
    stream: SplitStream<Socket>,
    answers: mpsc::WeakSender<Outgoing>,
    acks: mpsc::Sender<Ack>,
    acked: u64,
    in_flight: FuturesUnordered<Answering>,
    ignored: Tally,
    failed: Tally,
    denied: HashMap<Denied, Tally>,
    /// By method and code, both of closed lists, so it stays small.
    calls_failed: HashMap<(Option<&'static str>, ErrorCode), Tally>,
    brake: Brake,
    pause_until: Option<Instant>,
}

/// Kinds of denied calls that are told apart. A plugin chooses the project ids that it asks for.
const MAX_DENIALS_TOLD: usize = 100;

/// Acks that are looked at for each event that was sent. An event needs one; what a plugin says twice is looked at, what it
/// says without end is not.
const ACKS_PER_EVENT: u64 = 2;

/// Acks beyond that which are looked at, so that a few mistakes do not cost a plugin the acks that it means.
const SPARE_ACKS: u64 = 64;

impl Reader {
    pub(super) fn new(
        context: &Arc<Context>,
        stream: SplitStream<Socket>,
        answers: mpsc::WeakSender<Outgoing>,
        acks: mpsc::Sender<Ack>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            stream,
            answers,
            acks,
            acked: 0,
            in_flight: FuturesUnordered::new(),
            ignored: Tally::default(),
            failed: Tally::default(),
            denied: HashMap::new(),
            calls_failed: HashMap::new(),
            brake: Brake::new(Instant::now()),
            pause_until: None,
        }
    }

    /// Reads until the channel ends, and says how it did.
    pub(super) async fn run(&mut self) -> ChannelEnd {
        loop {
            let pause = self.pause_until;
            let stream = &mut self.stream;
            let frame = async {
                if let Some(until) = pause {
                    sleep_until(until).await;
                }
                stream.next().await
            };
            tokio::select! {
                biased;
                Some(answer) = self.in_flight.next(), if !self.in_flight.is_empty() => self.answer(answer).await,
                message = frame => {
                    self.pause_until = None;
                    match message {
                        Some(Ok(message)) => {
                            if let Some(end) = self.take(message).await {
                                return end;
                            }
                        }
                        Some(Err(error)) => return lost(error),
                        None => return ChannelEnd::ByPlugin(None),
                    }
                }
            }
        }
    }

    /// Takes one message of the plugin; returns the end when it was its goodbye.
    async fn take(&mut self, message: Message) -> Option<ChannelEnd> {
        match message {
            Message::Text(text) => {
                self.context.counters.took(text.len());
                self.context.spec.tap.frame("plugin", text.as_str());
                self.take_frame(text.as_str()).await;
            }
            Message::Binary(bytes) => {
                self.context.counters.took(bytes.len());
                self.ignore("a binary message; frames are text");
            }
            Message::Pong(payload) => {
                self.brake();
                self.context.spec.tap.sign("plugin", "pong");
                self.context.pings().answered(&payload);
            }
            Message::Close(frame) => {
                let reason = frame.map(|frame| match frame.reason.as_str() {
                    "" => format!("code {}", frame.code),
                    reason => format!("code {}: {reason}", frame.code),
                });
                return Some(ChannelEnd::ByPlugin(reason));
            }
            // Pings are answered by the library at the next read.
            Message::Ping(_) | Message::Frame(_) => self.brake(),
        }
        None
    }

    async fn take_frame(&mut self, text: &str) {
        match PluginFrame::parse(text) {
            Ok(PluginFrame::Request { request, typed }) => {
                if !typed {
                    self.context.flat.store(true, Ordering::Relaxed);
                }
                self.take_request(request).await;
            }
            Ok(PluginFrame::Ack(ack)) => self.take_ack(ack),
            Err(FrameProblem::Ignore { reason }) => self.ignore(&reason),
            Err(FrameProblem::Answer { id, error }) => {
                self.brake();
                let id = serde_json::from_str(&id).unwrap_or(Value::Null);
                let refusal = Refusal { error, denied: None, cause: None };
                self.answer(Answer { id, method: None, outcome: Err(refusal) }).await;
            }
        }
    }

    /// Hands an ack on without waiting. Which event it is of, and whether that one was in hand, is found out there; here
    /// it is only seen to that there are not many more acks than events.
    fn take_ack(&mut self, ack: Ack) {
        if !self.context.spec.acks {
            return self.ignore("an ack, and the feature is not in force");
        }
        self.acked += 1;
        let events = self.context.events.load(Ordering::Relaxed);
        if self.acked > events.saturating_mul(ACKS_PER_EVENT) + SPARE_ACKS {
            return self.ignore("an ack of an event that was not sent");
        }
        if self.acks.try_send(ack).is_err() {
            self.ignore("more acks than events that wait for one");
        }
    }

    async fn take_request(&mut self, request: Request) {
        let method = calls::known(&request.method);
        if self.in_flight.len() >= MAX_REQUESTS_IN_FLIGHT {
            self.brake();
            let message = format!("{MAX_REQUESTS_IN_FLIGHT} requests are in flight; wait for an answer");
            let refusal = methods::plain(ErrorCode::Busy, message);
            return self.answer(Answer { id: request.id, method, outcome: Err(refusal) }).await;
        }
        let read = calls::read(&request.method, &request.params, &self.context.spec.grants.borrow());
        match read {
            Err(refusal) => {
                self.brake();
                self.answer(Answer { id: request.id, method, outcome: Err(refusal) }).await;
            }
            Ok(call) => self.in_flight.push(Box::pin(work(Arc::clone(&self.context), request.id, call))),
        }
    }

    /// Sends an answer and counts it. Waits while the queue is full, and so does the plugin then.
    async fn answer(&mut self, Answer { id, method, outcome }: Answer) {
        let outcome = outcome.map_err(|refusal| {
            if let Some(denied) = refusal.denied {
                self.tell_denied(denied);
            } else {
                self.tell_call_failed(method, refusal.error.code);
            }
            if let Some(cause) = refusal.cause {
                self.tell_failure(&cause);
            }
            refusal.error
        });
        let mut frame = HostFrame::response_json(&id, &outcome);
        let mut code = outcome.as_ref().err().map(|error| error.code);
        if frame.len() > MAX_FRAME_BYTES {
            let message = format!("the answer has more than {MAX_FRAME_BYTES} bytes; ask for less at once");
            code = Some(ErrorCode::Internal);
            self.tell_call_failed(method, ErrorCode::Internal);
            let error = ChannelError::new(ErrorCode::Internal, message);
            // An id so long that not even this fits was part of a frame of almost the largest size.
            let id = if id.to_string().len() > MAX_FRAME_BYTES / 2 { Value::Null } else { id };
            frame = HostFrame::response_json(&id, &Err(error));
        }
        self.context.counters.call(code).inc();
        if let Some(answers) = self.answers.upgrade() {
            // The queue is closed only when the channel ends.
            let _ = answers.send(Outgoing::Frame(frame)).await;
        }
    }

    fn ignore(&mut self, reason: &str) {
        self.context.counters.refused.inc();
        self.brake();
        if let Some(count) = self.ignored.count(Instant::now()) {
            let reason: String = reason.chars().take(200).collect();
            tracing::warn!(plugin = %self.context.spec.name, count, reason, "frames that were not understood");
        }
    }

    /// Slows down a plugin that sends too much of what costs work and brings nothing.
    fn brake(&mut self) {
        self.pause_until = self.brake.count(Instant::now());
    }

    fn tell_failure(&mut self, cause: &str) {
        if let Some(count) = self.failed.count(Instant::now()) {
            tracing::warn!(plugin = %self.context.spec.name, count, cause, "requests were not answered by the platform");
        }
    }

    /// Records a call that failed. That something does not exist, or that another write was faster, is an answer and no failure.
    fn tell_call_failed(&mut self, method: Option<&'static str>, code: ErrorCode) {
        if matches!(code, ErrorCode::NotFound | ErrorCode::Conflict) {
            return;
        }
        if let Some(count) = self.calls_failed.entry((method, code)).or_default().count(Instant::now()) {
            self.record_failed(method, code, count);
        }
    }

    /// Neither the parameters nor the name of an unknown method are recorded: the plugin chose them, and may put secrets there.
    fn record_failed(&self, method: Option<&'static str>, code: ErrorCode, count: u64) {
        let spec = &self.context.spec;
        let detail = serde_json::json!({ "method": method, "code": code.as_str(), "count": count });
        let actor = format!("plugin:{}", spec.name);
        spec.audit.record("plugin.call_failed", Some(spec.name.as_str()), &actor, detail);
    }

    fn tell_denied(&mut self, denied: Denied) {
        if self.denied.len() >= MAX_DENIALS_TOLD && !self.denied.contains_key(&denied) {
            self.denied.retain(|_, tally| !tally.is_old(Instant::now()));
            if self.denied.len() >= MAX_DENIALS_TOLD {
                return;
            }
        }
        if let Some(count) = self.denied.entry(denied).or_default().count(Instant::now()) {
            self.record(denied, count);
        }
    }

    fn record(&self, denied: Denied, count: u64) {
        let spec = &self.context.spec;
        let project = match denied {
            Denied::Method(_) => None,
            Denied::Project(_, project) => Some(project),
        };
        let detail =
            serde_json::json!({ "method": denied.method().as_str(), "project_id": project, "count": count });
        spec.audit.record(
            "plugin.call_denied",
            Some(spec.name.as_str()),
            &format!("plugin:{}", spec.name),
            detail,
        );
    }

    /// Tells what was counted and not told yet.
    pub(super) fn tell_the_rest(&mut self) {
        if let Some(count) = self.ignored.rest() {
            tracing::warn!(plugin = %self.context.spec.name, count, "further frames that were not understood");
        }
        for ((method, code), mut tally) in std::mem::take(&mut self.calls_failed) {
            if let Some(count) = tally.rest() {
                self.record_failed(method, code, count);
            }
        }
        for (denied, mut tally) in std::mem::take(&mut self.denied) {
            if let Some(count) = tally.rest() {
                self.record(denied, count);
            }
        }
    }
}

/// Works on one granted request: asks the platform or the store, within the time that a request has.
async fn work(context: Arc<Context>, id: Value, call: Call) -> Answer {
    let method = call.method();
    let asked = AssertUnwindSafe(calls::carry_out(call, &context.spec)).catch_unwind();
    let outcome = match timeout(REQUEST_TIMEOUT, asked).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(methods::internal(format!("the platform panicked in {method}"))),
        Err(_) => {
            let message = format!("the platform did not answer within {} s", REQUEST_TIMEOUT.as_secs());
            Err(methods::plain(ErrorCode::Timeout, message))
        }
    };
    Answer { id, method: Some(method), outcome }
}
