//! Writes what became of deliveries: all plugins' records together, a few times a second, never one commit per event.
//!
//! While the store refuses, records wait here up to a bound and then in their deliveries, which stop sending: at worst
//! an event is delivered again after the host was killed, never lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use temps_store::{CursorMove, DeliveryNews, HostStore, StoreError, failpoint};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

/// How long the first record of a batch waits for company.
const LINGER: Duration = Duration::from_millis(100);

/// Records that are written without waiting any longer.
const BATCH: usize = 1_000;

/// Notes that may wait for the task.
const QUEUE: usize = 64;

/// How long a cursor that moved without a record (the events were not for the plugin) may stay unwritten. Looking at them
/// again costs little.
const CURSOR_EVERY: Duration = Duration::from_secs(10);

/// Time between two tries while the store refuses.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Tries to write what is left when the host stops.
const LAST_TRIES: u32 = 3;

/// What a delivery wants to have written.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) plugin: Arc<str>,
    pub(super) news: DeliveryNews,
    /// Told once this and everything before it is written; it is written at once then.
    pub(super) written: Option<oneshot::Sender<()>>,
}

/// Starts the task. It writes everything and ends when the last sender is dropped.
pub(super) fn start(
    store: Arc<dyn HostStore>,
) -> (mpsc::Sender<Note>, impl Future<Output = ()> + Send + 'static) {
    let (notes, queue) = mpsc::channel(QUEUE);
    (notes, run(store, queue))
}

#[derive(Debug, Default)]
struct Pending {
    news: DeliveryNews,
    since: Option<Instant>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Pending {
    fn add(&mut self, note: Note) {
        self.news.attempts.extend(note.news.attempts);
        self.news.open.extend(note.news.open);
        self.news.cursor = match (self.news.cursor, note.news.cursor) {
            // A cursor that went back and then on stands where it went, not where it was before.
            (Some(CursorMove::To(_)), Some(CursorMove::On(seq))) => Some(CursorMove::To(seq)),
            (before, now) => now.or(before),
        };
        if let Some(written) = note.written {
            match self.is_written() {
                // Whoever waits may have given up.
                true => drop(written.send(())),
                false => self.waiting.push(written),
            }
        }
        self.since.get_or_insert_with(Instant::now);
    }

    /// Whether nothing is missing in the store that matters: a cursor that only moved on does not.
    fn is_written(&self) -> bool {
        self.records() == 0 && !matches!(self.news.cursor, Some(CursorMove::To(_)))
    }

    fn records(&self) -> usize {
        self.news.attempts.len() + self.news.open.len()
    }
}

type All = BTreeMap<Arc<str>, Pending>;

async fn run(store: Arc<dyn HostStore>, mut queue: mpsc::Receiver<Note>) {
    let mut pending = All::new();
    loop {
        let open = collect(&mut queue, &mut pending).await;
        if let Err(error) = write(&*store, &mut pending, !open).await {
            tracing::error!(%error, "deliveries cannot be recorded; trying again");
            // Nothing is received meanwhile, so what waits stays bounded.
            sleep(RETRY_AFTER).await;
        }
        if !open {
            return write_the_rest(&*store, &mut pending).await;
        }
    }
}

async fn write_the_rest(store: &dyn HostStore, pending: &mut All) {
    for _ in 0..LAST_TRIES {
        match write(store, pending, true).await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "the last deliveries cannot be recorded"),
        }
        sleep(RETRY_AFTER).await;
    }
}

/// Takes notes until a batch is due. Returns whether there may be more.
async fn collect(queue: &mut mpsc::Receiver<Note>, pending: &mut All) -> bool {
    let mut count: usize = pending.values().map(Pending::records).sum();
    let mut due = match count {
        0 => Instant::now() + CURSOR_EVERY,
        _ => Instant::now() + LINGER,
    };
    while count < BATCH {
        match timeout_at(due, queue.recv()).await {
            Ok(Some(note)) => {
                let records = note.news.attempts.len() + note.news.open.len();
                if count == 0 && records > 0 {
                    due = due.min(Instant::now() + LINGER);
                }
                count += records;
                let of_plugin = pending.entry(note.plugin.clone()).or_default();
                of_plugin.add(note);
                if !of_plugin.waiting.is_empty() {
                    return true;
                }
            }
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
    true
}

/// Writes what is due: everything with records, cursors alone when they are old enough, or `all`. What failed stays.
///
/// The plugins' writes are under way together, so the store commits them together.
async fn write(store: &dyn HostStore, pending: &mut All, all: bool) -> Result<(), StoreError> {
    let due = |pending: &Pending| {
        pending.records() > 0
            || !pending.waiting.is_empty()
            || pending.since.is_some_and(|since| all || since.elapsed() >= CURSOR_EVERY)
    };
    let writes = pending.iter().filter(|(_, pending)| due(pending)).map(async |(plugin, pending)| {
        let result = store.record_deliveries(plugin, pending.news.clone()).await;
        (plugin.clone(), result)
    });
    let mut outcome = Ok(());
    for (plugin, result) in join_all(writes).await {
        match result {
            Ok(()) => {
                failpoint!("record.written");
                for waiting in pending.remove(&plugin).map(|pending| pending.waiting).unwrap_or_default() {
                    // Whoever waited may have given up.
                    let _ = waiting.send(());
                }
            }
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}
