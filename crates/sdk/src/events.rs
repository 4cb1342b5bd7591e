//! Events on their way from the wire to the plugin's handler: a bounded line, and one thread that works it off.
//!
//! The thread is separate so that a handler may block, or wait for an answer of the platform, while the
//! plugin's routes, health and channel go on. Events are handled in the order in which they came, one at a time.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use temps_protocol::PluginEvent;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::channel::Confirmation;
use crate::context::PluginContext;
use crate::log::describe;
use crate::plugin::SharedPlugin;

/// Most events that wait at once. A host stops at this number of unsettled events itself.
pub(crate) const MAX_WAITING_EVENTS: usize = 10_000;

/// Most bytes of waiting events, as they stood on the wire. A host stops there itself.
pub(crate) const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;

/// How long one event may be worked on. A handler that hangs must not hold back the others for ever, and a host counts an
/// event as failed that is not settled in 30 s: the plugin's own word must come first.
pub(crate) const HANDLING_TIMEOUT: Duration = Duration::from_secs(25);

/// How the handling of one event ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The handler returned without an error.
    Handled,
    /// The handler returned an error, panicked, or took too long; the text says which.
    Failed(String),
}

/// Told after each event how it ended: its id and the outcome. For tests, which wait for it.
pub(crate) type Observer = Arc<dyn Fn(&str, &Outcome) + Send + Sync>;

/// The plugin is ending, so nothing more is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// Who is told how the handling of an event ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// Nobody: the event came over a channel whose host asks for no confirmation.
    Nobody,
    /// The request that posted the event.
    Request(oneshot::Sender<Outcome>),
    /// The host, over the channel that the event came over.
    Channel(Confirmation),
}

struct Waiting {
    event: PluginEvent,
    done: Done,
    /// Given back when the event leaves the line.
    _room: OwnedSemaphorePermit,
}

/// The line of events.
#[derive(Debug)]
pub(crate) struct EventQueue {
    entrance: Mutex<Option<mpsc::Sender<Waiting>>>,
    room: Arc<Semaphore>,
}

impl EventQueue {
    /// Makes the line and starts the thread that works it off once `started` turns true.
    ///
    /// The receiver resolves when the thread has ended, which it does after [`close`](Self::close).
    pub(crate) fn start(
        plugin: SharedPlugin,
        ctx: PluginContext,
        started: watch::Receiver<bool>,
        observer: Observer,
    ) -> std::io::Result<(Arc<Self>, oneshot::Receiver<()>)> {
        let (entrance, line) = mpsc::channel(MAX_WAITING_EVENTS);
        let (ended, end) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("events".into()).spawn(move || {
            runtime.block_on(work(plugin, ctx, line, started, observer));
            let _ = ended.send(());
        })?;
        let room = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        Ok((Arc::new(Self { entrance: Mutex::new(Some(entrance)), room }), end))
    }

    /// Puts an event of `bytes` bytes at the end of the line, waiting for room if need be.
    ///
    /// `done` is told how its handling ended.
    ///
    /// # Errors
    /// [`Closed`] when the plugin is ending.
    pub(crate) async fn push(&self, event: PluginEvent, bytes: usize, done: Done) -> Result<(), Closed> {
        let entrance = self.entrance.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Closed)?;
        let bytes = u32::try_from(bytes.clamp(1, MAX_WAITING_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Closed)?;
        entrance.send(Waiting { event, done, _room: room }).await.map_err(|_| Closed)
    }

    /// Takes in nothing more; what is in the line is still handled.
    pub(crate) fn close(&self) {
        self.entrance.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.room.close();
    }
}

async fn work(
    plugin: SharedPlugin,
    ctx: PluginContext,
    mut line: mpsc::Receiver<Waiting>,
    mut started: watch::Receiver<bool>,
    observer: Observer,
) {
    // An error means that the start failed; whatever waits is dropped, and the host sends it again.
    if started.wait_for(|started| *started).await.is_err() {
        return;
    }
    while let Some(Waiting { event, done, _room }) = line.recv().await {
        let (id, event_type) = (event.id.clone(), event.event_type.clone());
        let outcome = handle(&plugin, &ctx, event).await;
        if let Outcome::Failed(reason) = &outcome {
            tracing::error!(event_id = id, event_type, "the event was not handled: {reason}");
        }
        observer(&id, &outcome);
        match done {
            Done::Nobody => {}
            // Whoever posted it may have gone.
            Done::Request(waiting) => drop(waiting.send(outcome)),
            Done::Channel(confirmation) => confirmation.send(&id, outcome).await,
        }
    }
}

async fn handle(plugin: &SharedPlugin, ctx: &PluginContext, event: PluginEvent) -> Outcome {
    let handling = AssertUnwindSafe(async { plugin.handle_event(ctx, event).await }).catch_unwind();
    match tokio::time::timeout(HANDLING_TIMEOUT, handling).await {
        Ok(Ok(Ok(()))) => Outcome::Handled,
        Ok(Ok(Err(error))) => Outcome::Failed(error.to_string()),
        Ok(Err(panic)) => Outcome::Failed(format!("the handler panicked: {}", describe(&*panic))),
        Err(_) => Outcome::Failed(format!("the handler took longer than {} s", HANDLING_TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Environment, Launch};
    use crate::auth::Secret;
    use crate::channel::Channel;
    use crate::platform::PlatformClient;
    use crate::plugin::ExternalPlugin;
    use temps_protocol::PluginManifest;

    struct Silent;

    impl ExternalPlugin for Silent {
        fn manifest(&self) -> PluginManifest {
            PluginManifest::builder("silent", "1.0.0").build()
        }
    }

    /// A line whose plugin has not started yet, so nothing leaves it.
    fn line(started: &watch::Sender<bool>) -> (Arc<EventQueue>, oneshot::Receiver<()>) {
        let launch = Launch {
            socket_path: "/none".into(),
            secret: Secret::new("s"),
            data_dir: "/none".into(),
            environment: Environment::default(),
        };
        let platform = PlatformClient::new(Arc::new(Channel::new(false)));
        let ctx = PluginContext::new("silent", &launch, platform, watch::Sender::new(false).subscribe());
        EventQueue::start(Arc::new(Silent), ctx, started.subscribe(), Arc::new(|_, _| {})).unwrap()
    }

    fn event() -> PluginEvent {
        let text = r#"{"id":"1","event_type":"a.b","timestamp":"2026-06-06T12:00:00Z"}"#;
        serde_json::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn a_full_line_makes_the_next_event_wait_until_there_is_room() {
        let started = watch::Sender::new(false);
        let (events, _end) = line(&started);
        for _ in 0..4 {
            events.push(event(), MAX_WAITING_BYTES / 4, Done::Nobody).await.unwrap();
        }
        let mut next = Box::pin(events.push(event(), 1, Done::Nobody));
        assert_eq!((&mut next).now_or_never(), None);
        started.send_replace(true);
        assert_eq!(next.await, Ok(()));
    }

    #[tokio::test]
    async fn a_closed_line_takes_nothing_and_ends_after_what_it_has() {
        let started = watch::Sender::new(true);
        let (events, end) = line(&started);
        let (done, outcome) = oneshot::channel();
        events.push(event(), 1, Done::Request(done)).await.unwrap();
        events.close();
        assert_eq!(events.push(event(), 1, Done::Nobody).await, Err(Closed));
        end.await.unwrap();
        assert_eq!(outcome.await, Ok(Outcome::Handled));
    }

    #[tokio::test]
    async fn a_start_that_failed_ends_the_line_unhandled() {
        let started = watch::Sender::new(false);
        let (events, end) = line(&started);
        let (done, outcome) = oneshot::channel();
        events.push(event(), 1, Done::Request(done)).await.unwrap();
        drop(started);
        end.await.unwrap();
        assert!(outcome.await.is_err());
    }
}
