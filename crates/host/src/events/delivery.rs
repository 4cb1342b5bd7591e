//! The delivery of events to one plugin: takes them from the journal, sends them while there is a link, and sends again
//! what failed or what a crash left in doubt. What to send, and what a failure means, is decided in [`Line`].
//!
//! Each plugin has a task of its own, so a plugin that stands still holds up nobody else. An event's way through it: taken
//! into the line ([`Delivery::refill`]), sent ([`Delivery::send`]), acked, read or answered ([`Delivery::serve`]), noted
//! for the recorder ([`Delivery::book`]).

mod link;
mod pausing;
mod reading;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use temps_protocol::{Ack, AckStatus};
use temps_store::{HostStore, PauseRecord, Seq, failpoint};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use link::{how, is_over, mode_of, next_link, replaced, wanted};
use pausing::HOST;
use reading::More;

use super::account::{Account, DeliveryStatus};
use super::adapted::adapted;
use super::flight::{self, Flight, Landed};
use super::journal::{Entry, Journal};
use super::line::{Line, Mode, Now};
use super::order::Ordered;
use super::recorder::Note;
use super::temper::Temper;
use crate::audit::Audit;
use crate::metrics::Metrics;
use crate::plugin::{Ended, Link};
use crate::registry::PluginHandle;
use crate::versions::{ApiVersions, major_of};

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

/// A plugin's own words, as long as a record has room for.
fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}
