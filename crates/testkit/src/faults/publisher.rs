//! What flows through a run: numbered events by many publishers at once, each until it is confirmed or given up.
//!
//! Half of the publishers work like an outbox: what was not confirmed is published again under the same id. The others give
//! up, so that there are events of which nobody knows whether they are in the journal.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::sync::watch;

use super::rest::Rest;
use super::verdict::Published;

/// One number in so many is a deployment's report instead of an event, so that the platform's own transaction is in the run.
const REPORT_EVERY: u64 = 25;

/// How long a publisher waits after it was not confirmed.
const PAUSE: Duration = Duration::from_millis(20);

/// What publishers share.
#[derive(Debug)]
pub struct Flow {
    next: AtomicU64,
    confirmed_count: AtomicU64,
    wanted: u64,
    allowed: watch::Sender<u64>,
    written: Mutex<Written>,
}

/// What became of what was published.
#[derive(Debug, Default, Clone)]
pub struct Written {
    /// What was confirmed.
    pub confirmed: Vec<Published>,
    /// Ids that were given up unconfirmed.
    pub unconfirmed: Vec<String>,
    /// Answers that were no confirmation, by what was said.
    pub refusals: BTreeMap<String, u64>,
}

impl Flow {
    /// A flow that ends with `wanted` confirmed publishes and halts at `allowed` until more is allowed.
    #[must_use]
    pub fn new(wanted: u64, allowed: u64) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(0),
            confirmed_count: AtomicU64::new(0),
            wanted,
            allowed: watch::Sender::new(allowed),
            written: Mutex::default(),
        })
    }

    /// Lets the flow go on to so many confirmed publishes.
    pub fn allow(&self, confirmed: u64) {
        self.allowed.send_if_modified(|allowed| {
            let more = confirmed > *allowed;
            *allowed = (*allowed).max(confirmed);
            more
        });
    }

    /// Confirmed publishes so far.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed_count.load(Ordering::Acquire)
    }

    /// Whether all that was wanted is confirmed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.confirmed() >= self.wanted
    }

    /// How often publishers were told this.
    #[must_use]
    pub fn refused(&self, what: &str) -> u64 {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.refusals.get(what).copied().unwrap_or(0)
    }

    /// What was written down.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Written)) {
        change(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Publishes until the flow is over. `patient` publishers try again until they are confirmed.
    pub async fn publish(self: Arc<Self>, mut rest: Rest, patient: bool) {
        let mut allowed = self.allowed.subscribe();
        while !self.is_over() {
            let may_go_on = |allowed: &u64| self.confirmed() < *allowed || self.is_over();
            if allowed.wait_for(may_go_on).await.is_err() {
                return;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.publish_one(&mut rest, number, patient).await;
        }
    }

    async fn publish_one(&self, rest: &mut Rest, number: u64, patient: bool) {
        loop {
            match attempt(rest, number).await {
                Ok(published) => {
                    self.note(|written| written.confirmed.push(published));
                    self.confirmed_count.fetch_add(1, Ordering::Release);
                    return;
                }
                Err(refusal) => self.note(|written| *written.refusals.entry(refusal).or_default() += 1),
            }
            if !patient {
                self.note(|written| written.unconfirmed.push(id_of(number)));
            }
            tokio::time::sleep(PAUSE).await;
            rest.there().await;
            if !patient {
                return;
            }
        }
    }
}

fn id_of(number: u64) -> String {
    format!("faults-{number:08}")
}

async fn attempt(rest: &Rest, number: u64) -> Result<Published, String> {
    let id = id_of(number);
    let report = number % REPORT_EVERY == 7;
    let (path, body) = match report {
        true => ("/api/deployments", json!({"project": "faults", "external_id": id, "state": "succeeded"})),
        false => ("/api/events", json!({"id": id, "event_type": "faults.tick", "data": {"number": number}})),
    };
    match rest.ask(Method::POST, path, Some(&body)).await {
        Ok((status, answer)) if status.is_success() => match report {
            true => answer["id"]
                .as_i64()
                .map(Published::Deployment)
                .ok_or_else(|| "an answer without an id".into()),
            false => Ok(Published::Event(id)),
        },
        Ok((status, answer)) => {
            Err(format!("{} {}", status.as_u16(), answer["code"].as_str().unwrap_or("without a code")))
        }
        Err(_) => Err("no answer".to_owned()),
    }
}
