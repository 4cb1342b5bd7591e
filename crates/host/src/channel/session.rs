//! One open channel: reads requests, answers them, sends what others queued, and ends with a reason.
//!
//! Reading and writing are two loops of one task. The reading loop goes first and runs until nothing more is there to read;
//! only then the writing loop takes everything that is queued, and flushes once. So answers and events share system calls.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use serde_json::value::RawValue;
use temps_protocol::channel::FrameProblem;
use temps_protocol::limits::{MAX_FRAME_BYTES, MAX_REQUESTS_IN_FLIGHT, REQUEST_TIMEOUT};
use temps_protocol::{ChannelError, ErrorCode, HostFrame, PluginFrame, Request};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::methods::{self, Denied, Refusal};
use super::open::ChannelSpec;
use super::patient::{PatientStream, Progress};
use super::tally::{Brake, Tally};
use super::{ChannelEnd, ChannelHandle, Outgoing};
use crate::metrics::Metrics;

/// Queued messages that are sent with one flush at most. More would delay the first of them.
const FLUSH_AFTER: usize = 64;

/// How long nothing at all may have been taken by a plugin that something waits for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the plugin's goodbye is waited for, and a goodbye may take to be sent.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything of one channel that both loops use.
struct Context {
    spec: ChannelSpec,
    counters: Counters,
    /// Whether the plugin sent a request without a type: it then looks for events in the flat shape.
    flat: AtomicBool,
    pings: Mutex<Pings>,
    closing: CancellationToken,
}

/// Pings whose pongs are awaited, oldest first.
#[derive(Default)]
struct Pings {
    sent: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

type Socket = WebSocketStream<PatientStream>;

/// An open channel before its task runs.
pub(super) struct Session {
    context: Arc<Context>,
    progress: Arc<Progress>,
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    queue: mpsc::Receiver<Outgoing>,
    answers: mpsc::WeakSender<Outgoing>,
    closed: CancellationToken,
    end: Arc<OnceLock<ChannelEnd>>,
}

impl Session {
    pub(super) fn new(
        spec: ChannelSpec,
        socket: Socket,
        progress: Arc<Progress>,
        handle: &ChannelHandle,
        queue: mpsc::Receiver<Outgoing>,
    ) -> Self {
        let (sink, stream) = socket.split();
        let counters = Counters::new(&spec.metrics, spec.name.as_str());
        let context = Context {
            spec,
            counters,
            flat: AtomicBool::new(false),
            pings: Mutex::default(),
            closing: handle.closing.clone(),
        };
        Self {
            context: Arc::new(context),
            progress,
            sink,
            stream,
            queue,
            answers: handle.outgoing.downgrade(),
            closed: handle.closed.clone(),
            end: Arc::clone(&handle.end),
        }
    }

    /// Talks until the channel ends, and says how it did.
    pub(super) async fn run(self) {
        let Self { context, progress, mut sink, stream, mut queue, answers, closed, end } = self;
        // Whatever happens below, nobody waits for a channel that has no task.
        let _closes = closed.drop_guard();
        let mut reader = Reader::new(&context, stream, answers);
        let ended = tokio::select! {
            biased;
            ended = reader.run() => ended,
            ended = write(&context, &progress, &mut sink, &mut queue) => match ended {
                // The goodbye was sent; the plugin's own comes behind what it had sent before.
                ChannelEnd::ByHost => {
                    let _ = timeout(GOODBYE_TIMEOUT, reader.run()).await;
                    ChannelEnd::ByHost
                }
                lost => lost,
            },
        };
        reader.tell_the_rest();
        say_goodbye(&mut sink, &ended).await;
        tracing::debug!(plugin = %context.spec.name, reason = %ended, "the channel ended");
        let _ = end.set(ended);
        context.pings().waiting.clear();
    }
}

/// Tells the plugin why, where that can be told.
async fn say_goodbye(sink: &mut SplitSink<Socket, Message>, ended: &ChannelEnd) {
    let frame = match ended {
        ChannelEnd::FrameTooLong => {
            let reason = format!("a frame has at most {MAX_FRAME_BYTES} bytes");
            Some(Message::Close(Some(CloseFrame { code: CloseCode::Size, reason: reason.into() })))
        }
        ChannelEnd::Broken(_) => {
            Some(Message::Close(Some(CloseFrame { code: CloseCode::Protocol, reason: "".into() })))
        }
        // The answer to the plugin's own goodbye is ready to be flushed.
        ChannelEnd::ByPlugin(_) => None,
        ChannelEnd::ByHost | ChannelEnd::SlowReader(_) => return,
    };
    let said = async {
        if let Some(frame) = frame {
            sink.feed(frame).await?;
        }
        sink.flush().await
    };
    // The other side may be gone, or not read; then there is nobody to tell.
    let _ = timeout(GOODBYE_TIMEOUT, said).await;
}

/// The writing loop: takes all that is queued, up to a bound, and flushes once.
async fn write(
    context: &Context,
    progress: &Progress,
    sink: &mut SplitSink<Socket, Message>,
    queue: &mut mpsc::Receiver<Outgoing>,
) -> ChannelEnd {
    let mut batch = Vec::with_capacity(FLUSH_AFTER);
    loop {
        let goodbye = tokio::select! {
            biased;
            taken = queue.recv_many(&mut batch, FLUSH_AFTER) => taken == 0,
            // Reached only when nothing is queued.
            () = context.closing.cancelled() => true,
        };
        let sent = async {
            for message in batch.drain(..) {
                feed(context, sink, message).await?;
            }
            if goodbye {
                let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                sink.feed(Message::Close(Some(frame))).await?;
            }
            sink.flush().await
        };
        let sent = tokio::select! {
            biased;
            sent = sent => sent,
            end = stuck(context, progress) => return end,
        };
        match sent {
            Err(error) => return lost(error),
            Ok(()) if goodbye => return ChannelEnd::ByHost,
            Ok(()) => {}
        }
    }
}

/// Resolves when nothing more can be sent: the plugin reads nothing, or it reads too slowly for a host that wants to close.
async fn stuck(context: &Context, progress: &Progress) -> ChannelEnd {
    let begun = Instant::now();
    let reads_nothing = async {
        loop {
            let patience_ends = progress.last().max(begun) + WRITE_TIMEOUT;
            if patience_ends <= Instant::now() {
                return;
            }
            sleep_until(patience_ends).await;
        }
    };
    let must_go = async {
        context.closing.cancelled().await;
        sleep(GOODBYE_TIMEOUT).await;
    };
    tokio::select! {
        () = reads_nothing => ChannelEnd::SlowReader(WRITE_TIMEOUT.as_secs()),
        () = must_go => ChannelEnd::ByHost,
    }
}

async fn feed(
    context: &Context,
    sink: &mut SplitSink<Socket, Message>,
    message: Outgoing,
) -> Result<(), Error> {
    match message {
        Outgoing::Frame(text) => {
            context.counters.frames_out.inc();
            sink.feed(Message::text(text)).await
        }
        Outgoing::Events(events) => {
            let flat = context.flat.load(Ordering::Relaxed);
            for event in events {
                context.counters.frames_out.inc();
                sink.feed(Message::text(HostFrame::event_json(&event, flat))).await?;
            }
            Ok(())
        }
        Outgoing::Ping(told) => {
            let number = context.pings().add(told);
            sink.feed(Message::Ping(Bytes::copy_from_slice(&number.to_be_bytes()))).await
        }
    }
}

fn lost(error: Error) -> ChannelEnd {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => ChannelEnd::ByPlugin(None),
        Error::Io(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::BrokenPipe
                    | std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            ChannelEnd::ByPlugin(None)
        }
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => ChannelEnd::ByPlugin(None),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => ChannelEnd::FrameTooLong,
        error => ChannelEnd::Broken(error.to_string()),
    }
}

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A request that was worked on.
struct Answer {
    id: Value,
    outcome: Result<Box<RawValue>, Refusal>,
}

/// The reading loop with what it counts.
struct Reader {
    context: Arc<Context>,
    stream: SplitStream<Socket>,
    answers: mpsc::WeakSender<Outgoing>,
    in_flight: FuturesUnordered<Answering>,
    ignored: Tally,
    failed: Tally,
    denied: HashMap<Denied, Tally>,
    brake: Brake,
    pause_until: Option<Instant>,
}

/// Kinds of denied calls that are told apart. A plugin chooses the project ids that it asks for.
const MAX_DENIALS_TOLD: usize = 100;

impl Reader {
    fn new(context: &Arc<Context>, stream: SplitStream<Socket>, answers: mpsc::WeakSender<Outgoing>) -> Self {
        Self {
            context: Arc::clone(context),
            stream,
            answers,
            in_flight: FuturesUnordered::new(),
            ignored: Tally::default(),
            failed: Tally::default(),
            denied: HashMap::new(),
            brake: Brake::new(Instant::now()),
            pause_until: None,
        }
    }

    async fn run(&mut self) -> ChannelEnd {
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
                self.context.counters.frames_in.inc();
                self.take_frame(text.as_str()).await;
            }
            Message::Binary(_) => {
                self.context.counters.frames_in.inc();
                self.ignore("a binary message; frames are text");
            }
            Message::Pong(payload) => {
                self.brake();
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
            Ok(PluginFrame::Ack(_)) => self.ignore("an ack, and the feature is not in force"),
            Err(FrameProblem::Ignore { reason }) => self.ignore(&reason),
            Err(FrameProblem::Answer { id, error }) => {
                self.brake();
                let id = serde_json::from_str(&id).unwrap_or(Value::Null);
                self.answer(Answer { id, outcome: Err(Refusal { error, denied: None, cause: None }) }).await;
            }
        }
    }

    async fn take_request(&mut self, request: Request) {
        if self.in_flight.len() >= MAX_REQUESTS_IN_FLIGHT {
            self.brake();
            let message = format!("{MAX_REQUESTS_IN_FLIGHT} requests are in flight; wait for an answer");
            let refusal = methods::plain(ErrorCode::Busy, message);
            return self.answer(Answer { id: request.id, outcome: Err(refusal) }).await;
        }
        let read = methods::read(&request.method, &request.params, &self.context.spec.grants.borrow());
        match read {
            Err(refusal) => {
                self.brake();
                self.answer(Answer { id: request.id, outcome: Err(refusal) }).await;
            }
            Ok(call) => self.in_flight.push(Box::pin(work(Arc::clone(&self.context), request.id, call))),
        }
    }

    /// Sends an answer and counts it. Waits while the queue is full, and so does the plugin then.
    async fn answer(&mut self, Answer { id, outcome }: Answer) {
        let outcome = outcome.map_err(|refusal| {
            if let Some(denied) = refusal.denied {
                self.tell_denied(denied);
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
            let error = ChannelError { code: ErrorCode::Internal, message };
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
    fn tell_the_rest(&mut self) {
        if let Some(count) = self.ignored.rest() {
            tracing::warn!(plugin = %self.context.spec.name, count, "further frames that were not understood");
        }
        for (denied, mut tally) in std::mem::take(&mut self.denied) {
            if let Some(count) = tally.rest() {
                self.record(denied, count);
            }
        }
    }
}

/// Works on one granted request: asks the platform, within the time that a request has.
async fn work(context: Arc<Context>, id: Value, call: methods::Call) -> Answer {
    let spec = &context.spec;
    let asked = AssertUnwindSafe(methods::carry_out(call, &*spec.platform, &spec.grants)).catch_unwind();
    let outcome = match timeout(REQUEST_TIMEOUT, asked).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(methods::internal(format!("the platform panicked in {}", call.method().as_str()))),
        Err(_) => {
            let message = format!("the platform did not answer within {} s", REQUEST_TIMEOUT.as_secs());
            Err(methods::plain(ErrorCode::Timeout, message))
        }
    };
    Answer { id, outcome }
}

impl Context {
    fn pings(&self) -> std::sync::MutexGuard<'_, Pings> {
        self.pings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pings {
    /// Remembers who waits for the next ping's pong, and returns the ping's number.
    fn add(&mut self, told: oneshot::Sender<()>) -> u64 {
        // Those who gave up waiting make room.
        self.waiting.retain(|(_, told)| !told.is_closed());
        self.sent += 1;
        self.waiting.push_back((self.sent, told));
        self.sent
    }

    /// A pong proves that its ping was read, and so were all before it. Others are unasked for and mean nothing.
    fn answered(&mut self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        if number > self.sent {
            return;
        }
        while self.waiting.front().is_some_and(|(waiting, _)| *waiting <= number) {
            if let Some((_, told)) = self.waiting.pop_front() {
                let _ = told.send(());
            }
        }
    }
}

/// Counters of one plugin's channel, looked up once.
struct Counters {
    frames_in: Counter,
    frames_out: Counter,
    refused: Counter,
    ok: Counter,
    errors: Vec<(ErrorCode, Counter)>,
}

impl Counters {
    fn new(metrics: &Metrics, plugin: &str) -> Self {
        let frames = |kind| metrics.channel_frames.get_or_create(&Metrics::of_and(plugin, kind)).clone();
        let calls = |kind| metrics.channel_calls.get_or_create(&Metrics::of_and(plugin, kind)).clone();
        Self {
            frames_in: frames("in"),
            frames_out: frames("out"),
            refused: frames("refused"),
            ok: calls("ok"),
            errors: ErrorCode::ALL.map(|code| (code, calls(code.as_str()))).to_vec(),
        }
    }

    fn call(&self, error: Option<ErrorCode>) -> &Counter {
        let found = error.and_then(|code| self.errors.iter().find(|(known, _)| *known == code));
        found.map_or(&self.ok, |(_, counter)| counter)
    }
}
