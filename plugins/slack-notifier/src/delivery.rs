//! Posts messages one after the other, at the pace that Slack allows, and again where that helps.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use tokio::time::{Instant, sleep, sleep_until};

use crate::outbox::Outbox;
use crate::spool::Letter;
use crate::webhook::{self, Verdict};

/// The time between two posts. Slack takes about one message a second per webhook.
const PACE: Duration = Duration::from_secs(1);

/// How often a message is posted at most while Slack has trouble. With the waits below that is about four minutes.
const MAX_TRIES: u32 = 8;

/// How often Slack may ask for a wait before a message is given up.
const MAX_WAITS: u32 = 20;

/// The wait after the first failed try; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Works off the outbox for as long as the plugin lives.
pub(crate) async fn deliver(outbox: Arc<Outbox>) {
    let mut free_at = Instant::now();
    let mut client: Option<Client> = None;
    loop {
        let letter = outbox.next().await;
        let client = match &client {
            Some(client) => client,
            None => match webhook::client() {
                Ok(made) => client.insert(made),
                Err(reason) => {
                    outbox.put_back(letter);
                    outbox.needs_attention(reason);
                    continue;
                }
            },
        };
        deliver_one(&outbox, client, letter, &mut free_at).await;
    }
}

/// Posts one message until it is posted, given up, or put back because nothing may be posted any more.
async fn deliver_one(outbox: &Outbox, client: &Client, letter: Letter, free_at: &mut Instant) {
    let (mut tries, mut waits) = (0, 0);
    loop {
        sleep_until(*free_at).await;
        let Some(url) = outbox.target() else {
            outbox.put_back(letter);
            return;
        };
        let verdict = webhook::post(client, &url, &letter.message).await;
        *free_at = Instant::now() + PACE;
        let (reason, wait) = match verdict {
            Verdict::Posted => {
                outbox.posted(&letter);
                return;
            }
            Verdict::Stop(reason) => {
                outbox.put_back(letter);
                outbox.needs_attention(reason);
                return;
            }
            Verdict::StopAndDrop(reason) => {
                outbox.give_up(&letter, reason.clone());
                outbox.needs_attention(reason);
                return;
            }
            Verdict::Wait(wait) => {
                waits += 1;
                (format!("Slack asked to wait {} s", wait.as_secs()), wait)
            }
            Verdict::Again(reason) => {
                tries += 1;
                (reason, backoff(tries))
            }
        };
        if tries >= MAX_TRIES || waits >= MAX_WAITS {
            outbox.give_up(&letter, format!("a message was given up: {reason}"));
            return;
        }
        outbox.trouble(reason);
        wait_or_change(outbox, &url, wait).await;
    }
}

/// Waits, but no longer than the webhook stays the same: a new one need not wait for the old one's trouble.
async fn wait_or_change(outbox: &Outbox, url: &str, wait: Duration) {
    let mut changes = outbox.watch();
    let changed = async {
        while outbox.target().as_deref() == Some(url) {
            outbox.changed(&mut changes).await;
        }
    };
    tokio::select! {
        () = sleep(wait) => {}
        () = changed => {}
    }
}

/// The wait after the `tries`-th failed try.
fn backoff(tries: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<u64> = (1..=9).map(|tries| backoff(tries).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff(u32::MAX), LONGEST_WAIT);
    }
}
