//! Messages that wait to be posted, and how posting goes: what the operator sees, and what delivery works from. Those that wait
//! are on disk as well (`spool`), so an event is handled once its message is here.
//!
//! It knows no network. Delivery takes a message out only when it may be posted, so a stop is a matter of this file.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::settings::Settings;
use crate::spool::{Letter, Spool};

/// Messages that wait at most. At one a second this is more than four minutes of deployments.
pub(crate) const MAX_WAITING: usize = 256;

/// How long the end of the plugin waits for messages to be posted. Hosts kill after 10 s.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a message was not taken. The host sends its event again later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddError {
    /// The line is full.
    #[error("{MAX_WAITING} messages wait to be posted already; this one is not added")]
    Full,
    /// It could not be written.
    #[error("the message cannot be kept ({0}); is the disk full?")]
    Disk(#[from] std::io::Error),
}

/// The line of messages and its circumstances.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Counts changes, for those who wait for one.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    settings: Settings,
    spool: Spool,
    waiting: VecDeque<Letter>,
    /// Whether delivery has a message in hand that is neither posted nor given up.
    in_hand: bool,
    /// Why nothing is posted until the operator changes something.
    attention: Option<String>,
    /// Why the last try did not work, while it is tried again.
    trouble: Option<String>,
    posted: u64,
    given_up: u64,
    passed_over: u64,
    last_posted: Option<SystemTime>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Outbox {
    /// Takes up the messages that are left from before, and keeps those that come from now on.
    pub(crate) fn open(&self, data_dir: &Path) -> std::io::Result<()> {
        let (spool, letters) = Spool::open(data_dir)?;
        self.change(|state| {
            state.spool = spool;
            state.waiting = letters.into();
        });
        Ok(())
    }

    /// Takes new settings. Whatever needed attention is taken for mended.
    pub(crate) fn configure(&self, settings: Settings) {
        self.change(|state| {
            state.settings = settings;
            state.attention = None;
            state.trouble = None;
        });
    }

    pub(crate) fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.state().settings.webhook_url().is_some()
    }

    /// Counts an event that made no message because there is no webhook.
    pub(crate) fn pass_over(&self) {
        self.change(|state| state.passed_over += 1);
    }

    /// Puts the message of an event at the end of the line, once. When this returns it survives a crash.
    pub(crate) fn add(&self, event_id: &str, message: Value) -> Result<(), AddError> {
        self.change(|state| {
            if state.waiting.iter().any(|letter| letter.event_id == event_id) {
                return Ok(());
            }
            if state.waiting.len() >= MAX_WAITING {
                return Err(AddError::Full);
            }
            let letter = state.spool.add(event_id, message)?;
            state.waiting.push_back(letter);
            Ok(())
        })
    }

    /// Waits until a message may be posted, and takes it.
    pub(crate) async fn next(&self) -> Letter {
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(letter) = self.take() {
                return letter;
            }
            // The sender lives as long as this outbox, so this cannot fail.
            let _ = changes.changed().await;
        }
    }

    fn take(&self) -> Option<Letter> {
        let mut state = self.state();
        if !state.may_post() {
            return None;
        }
        let letter = state.waiting.pop_front()?;
        state.in_hand = true;
        Some(letter)
    }

    /// The address to post to, while posting is allowed.
    pub(crate) fn target(&self) -> Option<String> {
        let state = self.state();
        if state.may_post() { state.settings.webhook_url().map(str::to_owned) } else { None }
    }

    /// Waits until something changes; returns at once when it has since `seen`.
    pub(crate) async fn changed(&self, seen: &mut watch::Receiver<u64>) {
        let _ = seen.changed().await;
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The message in hand was posted.
    pub(crate) fn posted(&self, letter: &Letter) {
        self.change(|state| {
            state.spool.remove(letter);
            state.in_hand = false;
            state.posted += 1;
            state.trouble = None;
            state.last_posted = Some(SystemTime::now());
        });
    }

    /// The message in hand will never be posted.
    pub(crate) fn give_up(&self, letter: &Letter, reason: String) {
        self.change(|state| {
            state.spool.remove(letter);
            state.in_hand = false;
            state.given_up += 1;
            state.trouble = Some(reason);
        });
    }

    /// The message in hand goes back to the head of the line.
    pub(crate) fn put_back(&self, letter: Letter) {
        self.change(|state| {
            state.in_hand = false;
            state.waiting.push_front(letter);
        });
    }

    /// The message in hand is tried again later.
    pub(crate) fn trouble(&self, reason: String) {
        self.change(|state| state.trouble = Some(reason));
    }

    /// Nothing is posted any more until the operator changes something.
    pub(crate) fn needs_attention(&self, reason: String) {
        self.change(|state| state.attention = Some(reason));
    }

    /// A test message was posted, so the webhook works.
    pub(crate) fn works(&self) {
        self.change(|state| {
            state.attention = None;
            state.trouble = None;
            state.last_posted = Some(SystemTime::now());
        });
    }

    /// Waits a little for what can still be posted, and returns how many messages are left.
    pub(crate) async fn finish(&self) -> usize {
        let mut changes = self.changes.subscribe();
        let posting = changes.wait_for(|_| {
            let state = self.state();
            !state.may_post() || (state.waiting.is_empty() && !state.in_hand)
        });
        let _ = timeout(FINISH_TIMEOUT, posting).await;
        let state = self.state();
        state.waiting.len() + usize::from(state.in_hand)
    }

    /// Everything that an operator may see.
    pub(crate) fn shown(&self) -> Value {
        let state = self.state();
        let word = match (&state.attention, state.settings.webhook_url(), &state.trouble) {
            (Some(_), _, _) => "needs_attention",
            (None, None, _) => "not_configured",
            (None, Some(_), Some(_)) => "trouble",
            (None, Some(_), None) => "ok",
        };
        let mut shown = state.settings.shown();
        shown["status"] = json!({
            "state": word,
            "reason": state.attention.as_ref().or(state.trouble.as_ref()),
            "waiting": state.waiting.len() + usize::from(state.in_hand),
            "waiting_limit": MAX_WAITING,
            "posted": state.posted,
            "given_up": state.given_up,
            "passed_over": state.passed_over,
            "last_posted_unix": state.last_posted.and_then(unix_seconds),
        });
        shown
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changes.send_modify(|count| *count += 1);
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_post(&self) -> bool {
        self.attention.is_none() && self.settings.webhook_url().is_some()
    }
}

fn unix_seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured() -> Outbox {
        let outbox = Outbox::default();
        let change = serde_json::from_str(r#"{"webhook_url":"https://hooks.slack.com/services/x"}"#).unwrap();
        outbox.configure(Settings::default().changed(change).unwrap());
        outbox
    }

    #[test]
    fn the_line_is_bounded_and_says_so() {
        let outbox = configured();
        for number in 0..MAX_WAITING {
            outbox.add(&number.to_string(), json!(1)).unwrap();
        }
        assert!(outbox.add("one more", json!(2)).unwrap_err().to_string().contains("256"));
        // An event that comes again has its message already.
        outbox.add("0", json!(1)).unwrap();
        assert_eq!(outbox.shown()["status"]["waiting"], MAX_WAITING);
    }

    #[tokio::test]
    async fn what_needs_attention_stops_the_line_and_new_settings_move_it_again() {
        let outbox = configured();
        outbox.add("e", json!("first")).unwrap();
        outbox.needs_attention("404 no_service".into());
        assert_eq!((outbox.take(), outbox.target()), (None, None));
        assert_eq!(outbox.shown()["status"]["state"], "needs_attention");
        assert_eq!(outbox.finish().await, 1);
        outbox.configure(outbox.settings());
        let letter = outbox.next().await;
        outbox.put_back(letter.clone());
        assert_eq!(outbox.next().await, letter);
        outbox.posted(&letter);
        assert_eq!(outbox.finish().await, 0);
        assert_eq!(outbox.shown()["status"]["state"], "ok");
    }
}
