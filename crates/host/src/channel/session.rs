//! One open channel: its task, its writing loop, and its end with a reason.
//!
//! Reading (`reader`) and writing are two loops of one task. The reading loop goes first and runs until nothing more is there to read;
//! only then the writing loop takes everything that is queued, and flushes once. So answers and events share system calls.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use temps_protocol::limits::MAX_FRAME_BYTES;
use temps_protocol::{Ack, HostFrame};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::counters::Counters;
use super::open::ChannelSpec;
use super::patient::{PatientStream, Progress};
use super::pings::Pings;
use super::reader::Reader;
use super::{ChannelEnd, ChannelHandle, Outgoing};

/// Queued messages that are sent with one flush at most. More would delay the first of them.
const FLUSH_AFTER: usize = 64;

/// How long nothing at all may have been taken by a plugin that something waits for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the plugin's goodbye is waited for, and a goodbye may take to be sent.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything of one channel that both loops use.
pub(super) struct Context {
    pub(super) spec: ChannelSpec,
    pub(super) counters: Counters,
    /// Whether the plugin sent a request without a type: it then looks for events in the flat shape.
    pub(super) flat: AtomicBool,
    /// Events that were sent over this channel.
    pub(super) events: AtomicU64,
    pings: Mutex<Pings>,
    closing: CancellationToken,
}

/// The WebSocket over a plugin's socket.
pub(super) type Socket = WebSocketStream<PatientStream>;

/// An open channel before its task runs.
pub(super) struct Session {
    context: Arc<Context>,
    progress: Arc<Progress>,
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    queue: mpsc::Receiver<Outgoing>,
    answers: mpsc::WeakSender<Outgoing>,
    acks: mpsc::Sender<Ack>,
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
        acks: mpsc::Sender<Ack>,
    ) -> Self {
        let (sink, stream) = socket.split();
        let counters = Counters::new(&spec.metrics, spec.name.as_str());
        let context = Context {
            spec,
            counters,
            flat: AtomicBool::new(false),
            events: AtomicU64::new(0),
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
            acks,
            closed: handle.closed.clone(),
            end: Arc::clone(&handle.end),
        }
    }

    /// Talks until the channel ends, and says how it did.
    pub(super) async fn run(self) {
        let Self { context, progress, mut sink, stream, mut queue, answers, acks, closed, end } = self;
        // Whatever happens below, nobody waits for a channel that has no task.
        let _closes = closed.drop_guard();
        let mut reader = Reader::new(&context, stream, answers, acks);
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
        let closer = if ended == ChannelEnd::ByHost { "host" } else { "plugin" };
        context.spec.tap.sign(closer, "channel_closed");
        let _ = end.set(ended);
        context.pings().give_up();
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
            context.spec.tap.frame("host", &text);
            context.counters.sent(text.len());
            sink.feed(Message::text(text)).await
        }
        Outgoing::Events(events) => {
            let flat = context.flat.load(Ordering::Relaxed);
            context.events.fetch_add(events.len() as u64, Ordering::Relaxed);
            for event in events {
                let frame = HostFrame::event_json(&event, flat);
                context.counters.sent(frame.len());
                context.spec.tap.frame("host", &frame);
                sink.feed(Message::text(frame)).await?;
            }
            Ok(())
        }
        Outgoing::Ping(told) => {
            let number = context.pings().add(told);
            context.spec.tap.sign("host", "ping");
            sink.feed(Message::Ping(Bytes::copy_from_slice(&number.to_be_bytes()))).await
        }
    }
}

/// What an error of the WebSocket means for the channel.
pub(super) fn lost(error: Error) -> ChannelEnd {
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
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => ChannelEnd::ByPlugin(None),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => ChannelEnd::FrameTooLong,
        error => ChannelEnd::Broken(error.to_string()),
    }
}

impl Context {
    pub(super) fn pings(&self) -> MutexGuard<'_, Pings> {
        self.pings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
