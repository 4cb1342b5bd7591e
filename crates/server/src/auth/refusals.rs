//! Sign-ins that were refused, for the audit trail. Somebody who tries secrets does it often, so they are counted: the first of
//! a kind is told at once, the others once a minute with their number. What was tried is never told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use temps_host::audit::Tally;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What somebody tried to sign in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum With {
    /// An API token that is unknown or has expired.
    Token,
    /// A browser's session that is unknown or over.
    Session,
    /// A one-time link that is unknown, used, or too old.
    LoginLink,
}

impl With {
    /// The word in the audit trail.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            With::Token => "token",
            With::Session => "session",
            With::LoginLink => "login link",
        }
    }
}

/// So many sign-ins were refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) with: With,
    pub(crate) count: u64,
}

/// At most one of each kind a minute is told, so this many wait for years.
const UNTOLD: usize = 16;

/// Counts refused sign-ins. Cheap to clone.
#[derive(Clone)]
pub(super) struct Refusals {
    tallies: Arc<Mutex<HashMap<With, Tally>>>,
    tell: mpsc::Sender<Refused>,
}

impl Refusals {
    pub(super) fn new() -> (Self, mpsc::Receiver<Refused>) {
        let (tell, told) = mpsc::channel(UNTOLD);
        (Self { tallies: Arc::default(), tell }, told)
    }

    pub(super) fn count(&self, with: With) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = tallies.entry(with).or_default().count(Instant::now()) {
            // Nobody listens while the daemon starts or stops.
            let _ = self.tell.try_send(Refused { with, count });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_wrong_tokens_is_two_records_and_hides_no_wrong_link() {
        let (refusals, mut told) = Refusals::new();
        (0..1000).for_each(|_| refusals.count(With::Token));
        refusals.count(With::LoginLink);
        tokio::time::advance(Duration::from_secs(60)).await;
        refusals.count(With::Token);
        drop(refusals);
        let mut all = Vec::new();
        while let Some(refused) = told.recv().await {
            all.push((refused.with, refused.count));
        }
        assert_eq!(all, [(With::Token, 1), (With::LoginLink, 1), (With::Token, 1000)]);
    }
}
