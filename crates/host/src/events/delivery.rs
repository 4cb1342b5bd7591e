//! The delivery of events to one plugin: takes them from the journal, sends them while there is a link, and sends again
//! what a crash left in doubt. What to send, and what a crash means, is decided in [`Line`].
//!
//! Each plugin has a task of its own, so a plugin that stands still holds up nobody else.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use temps_store::{DeliveryRecord, DeliveryState, HostStore, Seq, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::account::{Account, DeliveryStatus};
use super::journal::{Entry, Journal};
use super::line::{Line, Now, Tries};
use super::post::{PostError, post};
use super::recorder::Note;
use crate::channel::{ChannelClosed, ChannelHandle};
use crate::metrics::Metrics;
use crate::plugin::{Ended, Link};
use crate::registry::PluginHandle;

/// Events that are looked at before anything else gets its turn.
const PAGE: usize = 256;

/// Deliveries with failed attempts that are looked up at the beginning. The line stands at a failing event, so there is
/// one as a rule.
const REMEMBERED: usize = 1_000;

/// Time between two tries while the store refuses.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a post without an answer waits to learn that the plugin went, before it counts as a failure of the event.
/// An exit is seen within milliseconds.
const EXIT_SHOWS_WITHIN: Duration = Duration::from_secs(1);

/// What every delivery works with.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) store: Store,
    pub(super) journal: Arc<Journal>,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) metrics: Metrics,
    /// How long a plugin must live after it read an event.
    pub(super) survive: Duration,
    pub(super) stop: CancellationToken,
}

/// The store, which cannot show itself.
#[derive(Clone)]
pub(super) struct Store(pub(super) Arc<dyn HostStore>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// The task of one plugin.
pub(super) struct Delivery {
    name: Arc<str>,
    handle: PluginHandle,
    tools: Tools,
    account: Account,
    reached: watch::Receiver<Seq>,
    /// The link that was served last; it is not served again.
    served: Option<Arc<Link>>,
}

/// Why serving a link ended.
enum Over {
    /// The host stops.
    Shutdown,
    /// The plugin's run ended.
    Ended(Ended),
    /// The same run goes on with a new channel.
    SameRun,
}

type Sending = Pin<Box<dyn Future<Output = Result<(), ChannelClosed>> + Send>>;

impl Delivery {
    pub(super) fn new(
        name: &str,
        handle: PluginHandle,
        tools: Tools,
        status: watch::Sender<DeliveryStatus>,
    ) -> Self {
        let reached = tools.journal.reached();
        let name: Arc<str> = name.into();
        let account = Account::new(name.clone(), &tools, status);
        Self { name, handle, tools, account, reached, served: None }
    }

    /// Delivers until the host stops or the plugin's handle is dropped.
    pub(super) async fn run(mut self) {
        let mut line = None;
        while let Some(link) = self.next_link().await {
            let line = match &mut line {
                Some(line) => line,
                None => match self.load().await {
                    Some(loaded) => line.insert(loaded),
                    None => return,
                },
            };
            let (over, via) = match &link.channel {
                Some(channel) => (self.serve_channel(&link, channel, line).await, "channel"),
                None => (self.serve_posts(&link, line).await, "http"),
            };
            match over {
                Over::Shutdown => break,
                Over::SameRun => line.channel_lost(),
                Over::Ended(Ended::Stopped) => line.stopped(),
                Over::Ended(Ended::Crashed) => {
                    let record = line.crashed(Now::read(), via);
                    self.account.note(line, record).await;
                }
            }
            self.account.show(line);
        }
        if let Some(line) = &mut line {
            line.stopped();
            self.account.note(line, None).await;
        }
    }

    /// Waits for a link that takes work. `None` when the host stops or the plugin is gone.
    async fn next_link(&mut self) -> Option<Arc<Link>> {
        let served = self.served.take();
        let is_served = |link: &Arc<Link>| served.as_ref().is_some_and(|served| Arc::ptr_eq(served, link));
        let usable = |link: &Arc<Link>| !link.closed.is_cancelled() && !is_served(link);
        self.served = tokio::select! {
            () = self.tools.stop.cancelled() => None,
            link = self.handle.link.wait_for(|link| link.as_ref().is_some_and(usable)) => link.ok()?.clone(),
        };
        self.served.clone()
    }

    /// Reads where the plugin's deliveries stood. `None` when the host stops first.
    async fn load(&self) -> Option<Line> {
        loop {
            match self.try_load().await {
                Ok(line) => return Some(line),
                Err(error) => {
                    tracing::error!(plugin = %self.name, %error, "the plugin's place in the journal cannot be read")
                }
            }
            tokio::select! {
                () = self.tools.stop.cancelled() => return None,
                () = sleep(RETRY_AFTER) => {}
            }
        }
    }

    async fn try_load(&self) -> Result<Line, StoreError> {
        let store = &self.tools.store.0;
        let cursor = match store.cursor(&self.name).await? {
            Some(cursor) => cursor,
            None => {
                let known = store.plugins().await?.into_iter().find(|record| *record.name == *self.name);
                known.map_or_else(|| *self.reached.borrow(), |record| record.subscribed_from)
            }
        };
        let retrying = Some(DeliveryState::Retrying);
        let open = store.deliveries(Some(&self.name), retrying, cursor, REMEMBERED).await?;
        let tries = |record: &DeliveryRecord| Tries {
            failed: record.attempts,
            crashed: if record.via == "channel" { record.attempts } else { 0 },
        };
        let open: HashMap<_, _> = open.iter().map(|record| (record.seq, tries(record))).collect();
        Ok(Line::new(cursor, self.tools.survive, open))
    }

    async fn serve_channel(&mut self, link: &Arc<Link>, channel: &ChannelHandle, line: &mut Line) -> Over {
        let mut sending: Option<Sending> = None;
        let mut links = self.handle.link.clone();
        let mut reached = self.reached.clone();
        loop {
            let more = self.refill(link, line).await;
            let mut records = line.settle(Now::read());
            records.extend(line.tell_unread(Now::read()));
            self.account.note(line, records).await;
            if sending.is_none() {
                let batch = line.next_batch(Now::read(), |entry| wanted(link, &self.handle, entry));
                sending = (!batch.is_empty()).then(|| send(channel.clone(), &batch));
            }
            self.account.show(line);
            let due_at = line.next_due_at();
            let due = async move {
                match due_at {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let sent = async {
                match &mut sending {
                    Some(sending) => sending.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.tools.stop.cancelled() => return Over::Shutdown,
                () = is_over(link, channel, &mut links) => return self.how_it_ended(link).await,
                result = sent => {
                    sending = None;
                    match result {
                        Ok(()) => line.read(Now::read()),
                        Err(ChannelClosed) => return self.how_it_ended(link).await,
                    }
                }
                () = due => {}
                () = more.wait(), if line.has_room() => {}
                _ = reached.changed(), if matches!(more, More::WhenPublished) => {}
            }
        }
    }

    /// Takes a page of the journal into the line, if there is room and a page.
    async fn refill(&mut self, link: &Link, line: &mut Line) -> More {
        if line.place() >= *self.reached.borrow_and_update() || !line.has_room() {
            return More::WhenPublished;
        }
        match self.tools.journal.after(&*self.tools.store.0, line.place(), PAGE).await {
            Ok(page) if page.is_empty() => More::WhenPublished,
            Ok(page) => {
                for entry in page {
                    if !line.has_room() {
                        break;
                    }
                    line.take(&entry, wanted(link, &self.handle, &entry));
                }
                More::Now
            }
            Err(error) => {
                tracing::error!(plugin = %self.name, %error, "the journal cannot be read; trying again");
                More::Later
            }
        }
    }

    async fn serve_posts(&mut self, link: &Arc<Link>, line: &mut Line) -> Over {
        let mut retry_at = None;
        let mut reached = self.reached.clone();
        loop {
            let more = self.refill(link, line).await;
            let standing = retry_at.is_some_and(|at| at > Instant::now());
            let next = match standing || link.closed.is_cancelled() {
                true => None,
                false => line.next_post(Now::read(), |entry| wanted(link, &self.handle, entry)),
            };
            self.account.note(line, None).await;
            self.account.show(line);
            if let Some(entry) = next {
                match self.post_one(link, line, &entry).await {
                    Ok(wait) => retry_at = Some(Instant::now() + wait),
                    Err(over) => return over,
                }
                continue;
            }
            let retry = async {
                match retry_at {
                    Some(at) if standing => sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.tools.stop.cancelled() => return Over::Shutdown,
                () = link.closed.cancelled() => return self.how_it_ended(link).await,
                () = retry => {}
                () = more.wait(), if line.has_room() => {}
                _ = reached.changed(), if matches!(more, More::WhenPublished) => {}
            }
        }
    }

    /// Posts one event. Returns how long the line waits before the next, or that the link ended meanwhile.
    async fn post_one(&self, link: &Arc<Link>, line: &mut Line, entry: &Entry) -> Result<Duration, Over> {
        // A stop waits for the answer: it is bounded, and saves the plugin from getting the event twice.
        let _at_work = link.work.token();
        let mut ended = link.ended.clone();
        let answer = tokio::select! {
            biased;
            answer = post(link, &entry.json) => Some(answer),
            Ok(_) = ended.wait_for(Option::is_some) => None,
            () = self.tools.stop.cancelled() => return Err(Over::Shutdown),
        };
        let Some(answer) = answer else { return Err(self.how_it_ended(link).await) };
        if let Err(PostError::NoAnswer(_)) = &answer
            && timeout(EXIT_SHOWS_WITHIN, link.closed.cancelled()).await.is_ok()
        {
            return Err(self.how_it_ended(link).await);
        }
        let (record, wait) = match answer {
            Ok(said) => (line.posted(Now::read(), said), Duration::ZERO),
            Err(error) => line
                .post_failed(Now::read(), error.to_string())
                .map_or((None, Duration::ZERO), |(record, wait)| (Some(record), wait)),
        };
        self.account.note(line, record).await;
        Ok(wait)
    }

    /// Waits until it shows what became of the plugin whose link no longer takes work.
    async fn how_it_ended(&self, link: &Arc<Link>) -> Over {
        let mut ended = link.ended.clone();
        let mut links = self.handle.link.clone();
        let another = |now: &Option<Arc<Link>>| now.as_ref().is_some_and(|now| !Arc::ptr_eq(now, link));
        tokio::select! {
            biased;
            how = ended.wait_for(Option::is_some) => {
                Over::Ended(how.ok().and_then(|how| *how).unwrap_or(Ended::Stopped))
            }
            now = links.wait_for(another) => match now {
                Ok(now) if now.as_ref().is_some_and(|now| now.incarnation == link.incarnation) => Over::SameRun,
                _ => Over::Ended(Ended::Stopped),
            },
            () = self.tools.stop.cancelled() => Over::Shutdown,
        }
    }
}

/// When the journal is to be looked at again.
#[derive(Debug, Clone, Copy)]
enum More {
    /// At once: there was a page, so there may be another.
    Now,
    /// After a while: the store refused.
    Later,
    /// When the journal has grown.
    WhenPublished,
}

impl More {
    async fn wait(self) {
        match self {
            More::Now => {}
            More::Later => sleep(RETRY_AFTER).await,
            More::WhenPublished => std::future::pending().await,
        }
    }
}

/// Whether the plugin asked for an event, may receive its type, and may see its project.
fn wanted(link: &Link, handle: &PluginHandle, entry: &Entry) -> bool {
    let asked = link
        .manifest
        .events
        .iter()
        .any(|pattern| temps_protocol::event::pattern_matches(pattern, &entry.event_type));
    if !asked {
        return false;
    }
    let grants = handle.grants.borrow();
    grants.allows_event(&entry.event_type)
        && entry.project_id.is_none_or(|project| grants.allows_project(project))
}

fn send(channel: ChannelHandle, batch: &[Arc<Entry>]) -> Sending {
    let batch: Vec<_> = batch.iter().map(|entry| entry.json.clone()).collect();
    Box::pin(async move {
        channel.send_events(batch).await?;
        channel.ping().await
    })
}

/// Resolves when nothing more should go over this channel.
async fn is_over(link: &Arc<Link>, channel: &ChannelHandle, links: &mut watch::Receiver<Option<Arc<Link>>>) {
    let another = |now: &Option<Arc<Link>>| now.as_ref().is_some_and(|now| !Arc::ptr_eq(now, link));
    tokio::select! {
        () = link.closed.cancelled() => {}
        () = channel.closed.cancelled() => {}
        _ = links.wait_for(another) => {}
    }
}
