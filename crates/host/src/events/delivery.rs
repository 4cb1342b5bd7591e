//! The delivery of events to one plugin: takes them from the journal, sends them while there is a link, and sends again
//! what failed or what a crash left in doubt. What to send, and what a failure means, is decided in [`Line`].
//!
//! Each plugin has a task of its own, so a plugin that stands still holds up nobody else. An event's way through it: taken
//! into the line ([`Delivery::refill`]), sent ([`Delivery::send`]), acked, read or answered ([`Delivery::serve`]), noted
//! for the recorder ([`Delivery::book`]).

mod link;
mod pausing;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use temps_protocol::manifest::Ordering as Order;
use temps_protocol::{Ack, AckStatus};
use temps_store::{HostStore, PauseRecord, Seq, StoreError, failpoint};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use link::{how, is_over, mode_of, next_link, replaced, wanted};
use pausing::HOST;

use super::account::{Account, DeliveryStatus};
use super::adapted::adapted;
use super::flight::{self, Flight, Landed};
use super::journal::{Entry, Journal};
use super::line::{Line, Mode, Now};
use super::order::Ordered;
use super::recorder::Note;
use super::retries::IN_MEMORY;
use super::strict::{Group, MAX_GROUPS, Strict};
use super::temper::Temper;
use crate::audit::Audit;
use crate::metrics::Metrics;
use crate::plugin::{Ended, Link};
use crate::registry::PluginHandle;
use crate::versions::{ApiVersions, major_of};

/// Events that are looked at before anything else gets its turn.
const PAGE: usize = 256;

/// Held deliveries of a project that are looked at to find its next one.
const GROUP_PAGE: usize = 1;

/// Time between two tries while the store refuses.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Longest reason of a failed attempt in characters. It is the plugin's own text.
const MAX_REASON: usize = 1_024;

/// Acks that are taken before anything else gets its turn.
const ACKS: usize = 256;

/// What every delivery works with.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) store: Store,
    pub(super) journal: Arc<Journal>,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) metrics: Metrics,
    pub(super) audit: Audit,
    /// How long a plugin without acks must live after it read an event.
    pub(super) survive: Duration,
    pub(super) versions: Arc<ApiVersions>,
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
    pub(super) name: Arc<str>,
    pub(super) tools: Tools,
    pub(super) account: Account,
    pub(super) line: Line,
    pub(super) pause: Option<PauseRecord>,
    pub(super) temper: Temper,
    /// When one event is sent although deliveries are paused for failing.
    pub(super) probe_at: tokio::time::Instant,
    /// Up to here the store may know something of the plugin's events; beyond, nothing was ever sent.
    pub(super) known_until: Seq,
    handle: PluginHandle,
    orders: mpsc::Receiver<Ordered>,
    reached: watch::Receiver<Seq>,
    /// Whether line and pause are as the store has them.
    loaded: bool,
    /// The link that was served last; it is not served again.
    served: Option<Arc<Link>>,
    /// When the store is asked for retries again, after it refused.
    ask_at: Option<tokio::time::Instant>,
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

impl Delivery {
    pub(super) fn new(
        name: &str,
        handle: PluginHandle,
        tools: Tools,
        status: watch::Sender<DeliveryStatus>,
        orders: mpsc::Receiver<Ordered>,
    ) -> Self {
        let reached = tools.journal.reached();
        let name: Arc<str> = name.into();
        let account = Account::new(name.clone(), &tools, status);
        let line = Line::new(0, tools.survive, None);
        Self {
            name,
            tools,
            account,
            line,
            pause: None,
            temper: Temper::default(),
            probe_at: tokio::time::Instant::now(),
            known_until: 0,
            handle,
            orders,
            reached,
            loaded: false,
            served: None,
            ask_at: None,
        }
    }

    /// Delivers until the host stops or the plugin's handle is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let stop = self.tools.stop.clone();
            let link = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ordered) = self.orders.recv() => {
                    if !self.obey(ordered).await {
                        break;
                    }
                    continue;
                }
                link = next_link(&mut self.handle.link, self.served.as_ref()) => link,
            };
            let Some(link) = link else { break };
            self.served = Some(link.clone());
            if !self.load(&link).await {
                return;
            }
            let over = self.serve(&link).await;
            link.blames_an_event.store(false, Ordering::Relaxed);
            match over {
                Over::Shutdown => break,
                Over::SameRun => self.line.channel_lost(Now::read()),
                Over::Ended(Ended::Stopped) => self.line.stopped(Now::read()),
                Over::Ended(Ended::Crashed) => self.line.crashed(Now::read()),
            }
            self.book().await;
        }
        if self.loaded {
            self.line.stopped(Now::read());
            self.book().await;
        }
    }

    /// Reads where the plugin's deliveries stood, and how it wants them. `false` when the host stops first.
    async fn load(&mut self, link: &Link) -> bool {
        let wants_strict = link.manifest.ordering == Some(Order::Strict);
        if self.loaded && wants_strict == self.line.is_strict() {
            self.resume_for_another_program(link).await;
            return true;
        }
        loop {
            match self.try_load(wants_strict).await {
                Ok(()) => {
                    self.resume_for_another_program(link).await;
                    return true;
                }
                Err(error) => {
                    tracing::error!(plugin = %self.name, %error, "the plugin's place in the journal cannot be read")
                }
            }
            tokio::select! {
                () = self.tools.stop.cancelled() => return false,
                () = sleep(RETRY_AFTER) => {}
            }
        }
    }

    /// The same for an order that comes before the plugin runs. The order of its events does not matter then.
    pub(super) async fn load_for_order(&mut self) -> Result<(), StoreError> {
        if self.loaded { Ok(()) } else { self.try_load(false).await }
    }

    async fn try_load(&mut self, strict: bool) -> Result<(), StoreError> {
        // A task for this name that ended a moment ago may have noted what is not written yet.
        if !self.account.flush().await {
            return Err(StoreError::Database {
                action: "record deliveries",
                reason: "those before the ones to be read are not written yet".into(),
            });
        }
        let store = &self.tools.store.0;
        let cursor = match store.cursor(&self.name).await? {
            Some(cursor) => cursor,
            None => {
                let known = store.plugins().await?.into_iter().find(|record| *record.name == *self.name);
                known.map_or_else(|| *self.reached.borrow(), |record| record.subscribed_from)
            }
        };
        let strict = if strict {
            Some(Strict::new(store.retrying_projects(&self.name, MAX_GROUPS).await?))
        } else {
            None
        };
        self.pause = store.pauses().await?.into_iter().find(|pause| *pause.plugin == *self.name);
        self.known_until = self.known_until.max(*store.head().borrow());
        self.line = Line::new(cursor, self.tools.survive, strict);
        self.loaded = true;
        Ok(())
    }

    /// Serves one link until it ends.
    async fn serve(&mut self, link: &Arc<Link>) -> Over {
        if !self.line.is_strict()
            && let Err(error) = self.release_held().await
        {
            // They are looked at again at the next start.
            tracing::error!(plugin = %self.name, %error, "deliveries that were held cannot be released");
        }
        let mode = mode_of(link);
        let mut acks = match &link.channel {
            Some(channel) => Some(Arc::clone(&channel.acks).lock_owned().await),
            None => None,
        };
        let mut taken: Vec<Ack> = Vec::new();
        let mut flight: Option<Flight> = None;
        let mut links = self.handle.link.clone();
        let mut reached = self.reached.clone();
        let mut at_work: Option<TaskTrackerToken> = None;
        loop {
            self.take_acks(&mut taken);
            let more = self.refill(link).await;
            self.line.tick(mode, Now::read());
            self.ask_for_retries().await;
            if flight.is_none() {
                flight = self.send(link, mode);
            }
            self.book().await;
            link.blames_an_event.store(self.line.would_blame(), Ordering::Relaxed);
            self.account.show(&self.line, self.pause.as_ref());
            // A stop waits for acks and answers that are under way: it is bounded, and saves the plugin from getting them twice.
            let in_hand = mode != Mode::Read && self.line.unsettled() > 0;
            at_work = in_hand.then(|| at_work.take().unwrap_or_else(|| link.work.token()));
            let due_at = self.due_at(mode);
            let due = async move {
                match due_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let ack = async {
                let Some(acks) = &mut acks else { return std::future::pending().await };
                if acks.recv_many(&mut taken, ACKS).await == 0 {
                    std::future::pending().await
                }
            };
            let stop = self.tools.stop.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Over::Shutdown,
                Some(ordered) = self.orders.recv() => {
                    if !self.obey(ordered).await {
                        return Over::Shutdown;
                    }
                }
                () = is_over(link, &mut links, in_hand) => return self.how_it_ended(link).await,
                landed = flight::landing(&mut flight) => {
                    flight = None;
                    failpoint!("delivery.sent");
                    match landed {
                        Landed::Sent => {}
                        Landed::Read => self.line.read(Now::read()),
                        Landed::Answered(said) => self.line.posted(Now::read(), said),
                        Landed::Refused(why) => self.line.post_failed(Now::read(), shortened(why)),
                        Landed::Lost => return self.how_it_ended(link).await,
                    }
                }
                () = ack => {}
                () = due => {}
                () = more.wait(), if self.line.wants_more() => {}
                _ = reached.changed(), if matches!(more, More::WhenPublished) => {}
            }
        }
    }

    /// What waits behind failing events since the plugin asked for strict order waits no longer.
    async fn release_held(&self) -> Result<(), StoreError> {
        let store = &self.tools.store.0;
        if store.open_counts(&self.name).await?.held > 0 {
            store.release_held(&self.name, Now::read().utc).await?;
        }
        Ok(())
    }

    fn take_acks(&mut self, taken: &mut Vec<Ack>) {
        let now = Now::read();
        for ack in taken.drain(..) {
            failpoint!("delivery.acked");
            let outcome = match ack.status {
                AckStatus::Ok => Ok(()),
                AckStatus::Error => {
                    Err(shortened(ack.error.unwrap_or_else(|| "the plugin said no reason".into())))
                }
            };
            if !self.line.acked(&ack.id, outcome, now) {
                self.account.count_stray_ack();
            }
        }
    }

    /// Takes a page of the journal into the line, if there is room and a page.
    async fn refill(&mut self, link: &Link) -> More {
        if self.line.place() >= *self.reached.borrow_and_update() || !self.line.wants_more() {
            return More::WhenPublished;
        }
        match self.try_refill(link).await {
            Ok(more) => more,
            Err(error) => {
                tracing::error!(plugin = %self.name, %error, "the journal cannot be read; trying again");
                More::Later
            }
        }
    }

    async fn try_refill(&mut self, link: &Link) -> Result<More, StoreError> {
        let store = &*self.tools.store.0;
        let place = self.line.place();
        let page = self.tools.journal.after(store, place, PAGE).await?;
        let Some(last) = page.last() else { return Ok(More::WhenPublished) };
        let mut known = HashMap::new();
        if place < self.known_until {
            let history = store.delivery_history(&self.name, place, last.seq).await?;
            known = history.into_iter().map(|known| (known.seq, known)).collect();
        }
        let versions = Arc::clone(&self.tools.versions);
        for entry in page {
            if !self.line.has_room() {
                break;
            }
            self.line.take(&entry, wanted(link, &self.handle, &versions, &entry), known.remove(&entry.seq));
        }
        failpoint!("delivery.taken");
        Ok(More::Now)
    }

    /// Reads retries from the store when those in memory are used up, and what is next in projects that waited.
    async fn ask_for_retries(&mut self) {
        let now = tokio::time::Instant::now();
        if self.ask_at.is_some_and(|at| at > now) {
            return;
        }
        self.ask_at = None;
        if self.line.wants_retries(Now::read()) && !self.try_ask(None).await {
            self.ask_at = Some(now + RETRY_AFTER);
        }
        while self.ask_at.is_none()
            && let Some(group) = self.line.next_release()
        {
            if !self.try_ask(Some(group)).await {
                self.line.release_later(group);
                self.ask_at = Some(now + RETRY_AFTER);
            }
        }
    }

    async fn try_ask(&mut self, group: Option<Group>) -> bool {
        // What was noted and is not written yet is missing in the store.
        self.book().await;
        if !self.account.flush().await {
            return false;
        }
        let store = &self.tools.store.0;
        let page = match group {
            None => store.retries(&self.name, IN_MEMORY).await,
            Some(group) => store.retries_of_project(&self.name, group, GROUP_PAGE).await,
        };
        match (page, group) {
            (Ok(page), None) => self.line.take_retries(page, Now::read()),
            (Ok(page), Some(group)) => self.line.release(group, page, Now::read()),
            (Err(error), _) => {
                tracing::error!(plugin = %self.name, %error, "retries cannot be read; trying again");
                return false;
            }
        }
        true
    }

    /// Begins to send what may be sent now.
    fn send(&mut self, link: &Arc<Link>, mode: Mode) -> Option<Flight> {
        let most = self.most_to_send(link);
        if most == 0 {
            return None;
        }
        let batch = self.next_batch(link, mode, most);
        if batch.is_empty() {
            return None;
        }
        failpoint!("delivery.send");
        if self.pause.is_some() {
            self.probe_at = tokio::time::Instant::now() + super::temper::PROBE_EVERY;
        }
        let channel = link.channel.clone();
        Some(match (mode, channel) {
            (Mode::Read, Some(channel)) => flight::send_and_ping(channel, &batch),
            (_, Some(channel)) => flight::send(channel, &batch),
            (_, None) => flight::post_one(link.clone(), batch[0].clone()),
        })
    }

    /// The next events to send, in the form of the plugin's version. One that has none there has failed.
    fn next_batch(&mut self, link: &Link, mode: Mode, most: usize) -> Vec<Arc<Entry>> {
        let versions = Arc::clone(&self.tools.versions);
        let major = major_of(&link.manifest);
        loop {
            let wants = |entry: &Arc<Entry>| wanted(link, &self.handle, &versions, entry);
            let picked = self.line.next_batch(mode, most, Now::read(), wants);
            let nothing_left = picked.is_empty();
            let mut batch = Vec::with_capacity(picked.len());
            for entry in picked {
                match adapted(&versions, &entry, major) {
                    Ok(entry) => batch.push(entry),
                    Err(error) => {
                        self.line.acked(&entry.id, Err(shortened(error.to_string())), Now::read());
                    }
                }
            }
            if nothing_left || !batch.is_empty() {
                return batch;
            }
        }
    }

    /// When something is due that only time brings.
    fn due_at(&self, mode: Mode) -> Option<tokio::time::Instant> {
        let probe = self.pause.as_ref().filter(|pause| pause.paused_by == HOST && self.line.unsettled() == 0);
        let line = self.line.next_due_at(mode, Now::read()).map(Into::into);
        let now = tokio::time::Instant::now();
        line.into_iter().chain(self.ask_at).chain(probe.map(|_| self.probe_at).filter(|at| *at > now)).min()
    }

    /// Waits until it shows what became of the plugin whose link no longer takes work.
    async fn how_it_ended(&mut self, link: &Arc<Link>) -> Over {
        let mut ended = link.ended.clone();
        let mut links = self.handle.link.clone();
        loop {
            let stop = self.tools.stop.clone();
            tokio::select! {
                biased;
                how = how(&mut ended) => return Over::Ended(how),
                same_run = replaced(link, &mut links) => {
                    return if same_run { Over::SameRun } else { Over::Ended(Ended::Stopped) };
                }
                () = stop.cancelled() => return Over::Shutdown,
                Some(ordered) = self.orders.recv() => {
                    if !self.obey(ordered).await {
                        return Over::Shutdown;
                    }
                }
            }
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

/// A plugin's own words, as long as a record has room for.
fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}
