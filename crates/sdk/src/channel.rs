//! The plugin's end of the channel: questions to the platform, their answers, and events that come in.
//!
//! The host connects; the plugin accepts. There is one channel at a time: a new one takes the place of the old
//! one, whose unanswered questions fail. Reading never waits for the handler of an event, only for room in the
//! line of events, so that a handler can ask and be answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use temps_protocol::limits::{MAX_FRAME_BYTES, MAX_REQUESTS_IN_FLIGHT, MAX_UNACKED_EVENTS};
use temps_protocol::{Ack, ChannelError, Configuration, HostFrame, Response};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::events::{Done, EventQueue, Outcome};
use crate::platform::PlatformError;

/// Frames that wait to be written: as many questions as may be in flight, and acks as a host's window has events.
const OUTGOING_FRAMES: usize = MAX_REQUESTS_IN_FLIGHT + MAX_UNACKED_EVENTS;

/// How long an ack may wait for room among the outgoing frames. Until then the next event waits.
const ACK_PATIENCE: Duration = Duration::from_secs(2);

/// How long one frame may take to be written before the channel counts as lost.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the closing of a channel may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Frames that are not understood are logged at most this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

type Answer = Result<Value, ChannelError>;

/// The place where the channel is, when there is one.
#[derive(Debug)]
pub(crate) struct Channel {
    state: Mutex<State>,
    /// Counts changes of the state, for those who wait for a channel.
    changes: watch::Sender<u64>,
    /// The configuration that the host sent last.
    config: watch::Sender<Option<Configuration>>,
    /// Connections that are served, until their last frame is written.
    serving: watch::Sender<usize>,
    in_flight: Semaphore,
    next_id: AtomicU64,
    /// Whether the host asks for a confirmation of each event.
    confirms: bool,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    /// Channels that there have been; the newest one has this number.
    made: u64,
    closed: bool,
}

/// One living connection. When it is dropped, everybody who waits on it is told.
#[derive(Debug)]
struct Link {
    number: u64,
    outgoing: mpsc::Sender<String>,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
}

impl Channel {
    /// A channel that is not there yet. `confirms`: each event that comes over it is confirmed once it was handled.
    pub(crate) fn new(confirms: bool) -> Self {
        Self {
            state: Mutex::new(State::default()),
            changes: watch::Sender::new(0),
            serving: watch::Sender::new(0),
            config: watch::Sender::new(None),
            in_flight: Semaphore::new(MAX_REQUESTS_IN_FLIGHT),
            next_id: AtomicU64::new(1),
            confirms,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state().link.is_some()
    }

    /// The configuration that the host sent last.
    pub(crate) fn config(&self) -> watch::Receiver<Option<Configuration>> {
        self.config.subscribe()
    }

    /// Asks `method` and waits for the answer, all within `limit`.
    pub(crate) async fn call(
        &self,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<Value, PlatformError> {
        let method = method.to_owned();
        let deadline = Instant::now() + limit;
        let late = |method| PlatformError::Timeout { method, waited: limit };
        let Ok(_place) = timeout_at(deadline, self.in_flight.acquire()).await else {
            return Err(late(method));
        };
        // Ids stay within 31 bits: some hosts read them as such.
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
        let frame = json!({"type": "request", "id": id, "method": method, "params": params}).to_string();
        if frame.len() > MAX_FRAME_BYTES {
            return Err(PlatformError::TooLarge { method, bytes: frame.len() });
        }
        let Ok((number, outgoing, answer)) = timeout_at(deadline, self.enlist(id)).await else {
            return Err(PlatformError::NoChannel { method, waited: limit });
        };
        let _enlisted = Enlisted { channel: self, number, id };
        match timeout_at(deadline, outgoing.send(frame)).await {
            Ok(Ok(())) => drop(outgoing),
            Ok(Err(_)) => return Err(PlatformError::ChannelLost { method }),
            Err(_) => return Err(late(method)),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(PlatformError::Refused { method, error }),
            Ok(Err(_)) => Err(PlatformError::ChannelLost { method }),
            Err(_) => Err(late(method)),
        }
    }

    /// Waits for a channel and leaves word there that the answer to `id` is awaited.
    async fn enlist(&self, id: u64) -> (u64, mpsc::Sender<String>, oneshot::Receiver<Answer>) {
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(link) = &mut self.state().link {
                let (sender, receiver) = oneshot::channel();
                link.waiting.insert(id, sender);
                return (link.number, link.outgoing.clone(), receiver);
            }
            // The sender lives as long as this channel, so this cannot fail; if it did, waiting is still right.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Serves one connection until it is lost, replaced by a newer one, or the plugin ends.
    pub(crate) async fn serve(self: &Arc<Self>, socket: WebSocket, events: &EventQueue) {
        let Some((number, outgoing)) = self.attach() else { return };
        let _served = Served::begin(&self.serving);
        tracing::debug!(number, "the host made a channel");
        let (mut sink, stream) = socket.split();
        let reason = tokio::select! {
            reason = write(&mut sink, outgoing) => reason,
            reason = self.read(number, stream, events) => reason,
        };
        self.detach(number);
        let _ = timeout(CLOSE_TIMEOUT, sink.close()).await;
        tracing::info!(number, "the channel ended: {reason}");
    }

    fn attach(&self) -> Option<(u64, mpsc::Receiver<String>)> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        let (outgoing, frames) = mpsc::channel(OUTGOING_FRAMES);
        state.made += 1;
        let number = state.made;
        // Dropping the old link ends its writer and fails its questions.
        state.link = Some(Link { number, outgoing, waiting: HashMap::new() });
        drop(state);
        self.changes.send_modify(|count| *count += 1);
        Some((number, frames))
    }

    fn detach(&self, number: u64) {
        let mut state = self.state();
        if state.link.as_ref().is_some_and(|link| link.number == number) {
            state.link = None;
        }
    }

    /// Ends the channel and accepts no other; returns once what was to be sent is written, or its time is over.
    pub(crate) async fn close(&self) {
        {
            let mut state = self.state();
            state.closed = true;
            state.link = None;
        }
        let mut serving = self.serving.subscribe();
        let _ = timeout(CLOSE_TIMEOUT, serving.wait_for(|serving| *serving == 0)).await;
    }

    async fn read(
        self: &Arc<Self>,
        number: u64,
        mut stream: SplitStream<WebSocket>,
        events: &EventQueue,
    ) -> String {
        let mut complaints = Complaints::default();
        while let Some(message) = stream.next().await {
            match message {
                Ok(Message::Text(text)) => match serde_json::from_str::<HostFrame>(&text) {
                    Ok(HostFrame::Response(response)) => self.answered(number, response, &mut complaints),
                    // An error means that the plugin is ending; the host sends the event again to the next start.
                    Ok(HostFrame::Event { event }) => {
                        let _ = events.push(event, text.len(), self.done(number)).await;
                    }
                    Ok(HostFrame::Config(config)) => _ = self.config.send_replace(Some(config)),
                    Err(e) => complaints.add(&format!("a frame that cannot be read: {e}")),
                },
                // Pings are answered by the WebSocket itself, after everything that came before them was read.
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Binary(_)) => complaints.add("a binary frame"),
                Ok(Message::Close(_)) => return "the host closed it".to_owned(),
                Err(e) => return e.to_string(),
            }
        }
        "the connection was lost".to_owned()
    }

    /// Who is told of the events that come over connection `number`.
    fn done(self: &Arc<Self>, number: u64) -> Done {
        match self.confirms {
            true => Done::Channel(Confirmation { channel: Arc::clone(self), number }),
            false => Done::Nobody,
        }
    }

    fn answered(&self, number: u64, response: Response, complaints: &mut Complaints) {
        let waiting = response.id.as_u64().and_then(|id| {
            let mut state = self.state();
            state.link.as_mut().filter(|link| link.number == number)?.waiting.remove(&id)
        });
        let Some(waiting) = waiting else {
            complaints.add("an answer that nobody waits for");
            return;
        };
        let answer = match response.error {
            Some(error) => Err(error),
            None => Ok(response.result.unwrap_or_default()),
        };
        let _ = waiting.send(answer);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way back of one event's outcome: the connection that it came over. When that is gone the host sends the event again,
/// and a confirmation over another connection would speak of something that the host did not send there.
#[derive(Debug)]
pub(crate) struct Confirmation {
    channel: Arc<Channel>,
    number: u64,
}

impl Confirmation {
    /// Tells the host how the handling of the event `id` ended. Waits for room among the outgoing frames, two seconds at
    /// most: the host sends again what was not confirmed.
    pub(crate) async fn send(self, id: &str, outcome: Outcome) {
        let outgoing = {
            let state = self.channel.state();
            state.link.as_ref().filter(|link| link.number == self.number).map(|link| link.outgoing.clone())
        };
        let Some(outgoing) = outgoing else {
            tracing::debug!(event_id = id, "the channel was lost before the event could be confirmed");
            return;
        };
        let outcome = match &outcome {
            Outcome::Handled => Ok(()),
            Outcome::Failed(reason) => Err(reason.as_str()),
        };
        if timeout(ACK_PATIENCE, outgoing.send(Ack::new(id, outcome).to_json())).await.is_err() {
            tracing::warn!(event_id = id, "the host reads nothing; the event is not confirmed");
        }
    }
}

async fn write(sink: &mut SplitSink<WebSocket, Message>, mut frames: mpsc::Receiver<String>) -> String {
    while let Some(frame) = frames.recv().await {
        match timeout(WRITE_TIMEOUT, sink.send(Message::Text(frame.into()))).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return e.to_string(),
            Err(_) => return format!("the host read nothing for {} s", WRITE_TIMEOUT.as_secs()),
        }
    }
    "a newer one took its place, or the plugin ends".to_owned()
}

/// Counts a connection as served while it lives.
struct Served<'a>(&'a watch::Sender<usize>);

impl<'a> Served<'a> {
    fn begin(serving: &'a watch::Sender<usize>) -> Self {
        serving.send_modify(|count| *count += 1);
        Self(serving)
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Removes the mark of a question when the one who asked stops waiting, for whatever reason.
struct Enlisted<'a> {
    channel: &'a Channel,
    number: u64,
    id: u64,
}

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.channel.state().link.as_mut().filter(|link| link.number == self.number) {
            link.waiting.remove(&self.id);
        }
    }
}

/// Counts frames that were not understood, and logs them once in a while.
#[derive(Default)]
struct Complaints {
    count: u64,
    logged: Option<Instant>,
}

impl Complaints {
    fn add(&mut self, what: &str) {
        self.count += 1;
        if self.logged.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
            self.logged = Some(Instant::now());
            tracing::warn!(count = self.count, "the host sent {what}; it is ignored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_any_more_leaves_nothing_behind() {
        let channel = Channel::new(false);
        let (_number, _frames) = channel.attach().unwrap();
        let answer = channel.call("get_project", json!({}), Duration::from_millis(10)).await;
        assert!(matches!(answer, Err(PlatformError::Timeout { .. })), "{answer:?}");
        assert!(channel.state().link.as_ref().unwrap().waiting.is_empty());
    }

    #[tokio::test]
    async fn an_event_is_confirmed_over_the_connection_that_it_came_over_and_no_other() {
        let channel = Arc::new(Channel::new(true));
        let (first, mut frames) = channel.attach().unwrap();
        let confirmation = |number| Confirmation { channel: Arc::clone(&channel), number };
        confirmation(first).send("1", Outcome::Handled).await;
        assert_eq!(frames.recv().await.as_deref(), Some(r#"{"type":"ack","id":"1","status":"ok"}"#));
        let (_second, mut frames) = channel.attach().unwrap();
        confirmation(first).send("2", Outcome::Handled).await;
        assert!(frames.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_host_that_takes_no_acks_does_not_hold_the_line_of_events_for_ever() {
        let channel = Arc::new(Channel::new(true));
        let (number, _unread) = channel.attach().unwrap();
        for _ in 0..=OUTGOING_FRAMES {
            let confirmation = Confirmation { channel: Arc::clone(&channel), number };
            confirmation.send("1", Outcome::Failed("no".into())).await;
        }
    }

    #[tokio::test]
    async fn after_the_end_no_channel_is_accepted() {
        let channel = Channel::new(false);
        let (_number, mut frames) = channel.attach().unwrap();
        channel.close().await;
        assert_eq!(frames.recv().await, None);
        assert!(channel.attach().is_none());
    }
}
