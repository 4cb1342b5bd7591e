//! What operators do with a plugin's deliveries: pause, resume, deliver again, discard, replay.
//!
//! Orders are carried out by the plugin's delivery task, between two of its steps, after everything that it noted before
//! is in the store. So an order and what happens by itself never cross.

use chrono::Utc;
use serde_json::json;
use temps_store::{DeliveryFilter, DeliveryState, PauseRecord, Seq, StoreError, Which};
use tokio::sync::oneshot;

use super::delivery::Delivery;
use super::temper::Temper;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Pause(String),
    Resume,
    Redeliver(Which),
    Discard(Which),
    /// Deliver everything after this place again.
    Replay(Seq),
}

/// An order, who gave it, and whom to tell what became of it: how many deliveries it concerned.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) wish: Wish,
    pub(super) by: String,
    pub(super) reply: oneshot::Sender<Result<u64, DeliveryError>>,
}

/// Why something with deliveries was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// There is no plugin of this name.
    #[error("there is no plugin named {0:?}")]
    UnknownPlugin(String),
    /// The journal has no such event (any more).
    #[error("there is no event {0:?} in the journal; events are kept for a week or 1 GiB")]
    UnknownEvent(String),
    /// The deliveries do not allow it as they stand.
    #[error("{0}")]
    NotNow(String),
    /// The host stops.
    #[error("the host is stopping; nothing was changed")]
    Stopping,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Delivery {
    /// Carries out an order and tells its giver. `false` when the host stops.
    pub(super) async fn obey(&mut self, ordered: Ordered) -> bool {
        let Ordered { wish, by, reply } = ordered;
        let stop = self.tools.stop.clone();
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Err(DeliveryError::Stopping),
            outcome = self.carry_out(&wish, &by) => outcome,
        };
        let stops = matches!(outcome, Err(DeliveryError::Stopping));
        // Whoever asked may have gone away; what was asked for is done nevertheless.
        let _ = reply.send(outcome);
        !stops
    }

    async fn carry_out(&mut self, wish: &Wish, by: &str) -> Result<u64, DeliveryError> {
        self.load_for_order().await?;
        self.book().await;
        if !self.account.flush().await {
            let why = "the deliveries before it cannot be recorded, because the database takes no writes; nothing was changed";
            return Err(DeliveryError::NotNow(why.to_owned()));
        }
        let (kind, detail, count) = match wish {
            Wish::Pause(reason) => {
                ("deliveries.paused", json!({"reason": reason}), self.pause(reason, by).await?)
            }
            Wish::Resume => ("deliveries.resumed", json!({}), self.resume().await?),
            Wish::Redeliver(which) => {
                let count = self.redeliver(*which).await?;
                ("deliveries.redelivered", detail(*which, count), count)
            }
            Wish::Discard(which) => {
                let count = self.discard(*which).await?;
                ("deliveries.discarded", detail(*which, count), count)
            }
            Wish::Replay(from) => {
                let count = self.replay(*from).await?;
                ("deliveries.replayed", json!({"after_seq": from, "events": count}), count)
            }
        };
        self.tools.audit.record(kind, Some(&self.name), by, detail);
        self.account.show(&self.line, self.pause.as_ref());
        Ok(count)
    }

    async fn pause(&mut self, reason: &str, by: &str) -> Result<u64, DeliveryError> {
        let pause = PauseRecord {
            plugin: self.name.to_string(),
            reason: reason.to_owned(),
            paused_by: by.to_owned(),
            since: Utc::now(),
            hash: None,
        };
        self.tools.store.0.put_pause(pause.clone()).await?;
        self.pause = Some(pause);
        Ok(0)
    }

    async fn resume(&mut self) -> Result<u64, DeliveryError> {
        if !self.tools.store.0.lift_pause(&self.name).await? && self.pause.is_none() {
            return Err(DeliveryError::NotNow(format!("deliveries to {} are not paused", self.name)));
        }
        self.pause = None;
        self.temper = Temper::default();
        Ok(0)
    }

    async fn redeliver(&mut self, which: Which) -> Result<u64, DeliveryError> {
        if let Which::Event(seq) = which {
            self.refuse_what_is_under_way(seq).await?;
        }
        let count = self.tools.store.0.redeliver(&self.name, which, Utc::now()).await?;
        self.line.retries_changed();
        match which {
            Which::Event(seq) if count == 0 => Err(DeliveryError::UnknownEvent(format!("at {seq}"))),
            _ => Ok(count),
        }
    }

    async fn refuse_what_is_under_way(&self, seq: Seq) -> Result<(), DeliveryError> {
        let on_its_way = self.line.has(seq) || seq > self.line.place();
        if on_its_way && self.open_state(seq).await?.is_none_or(|state| state == DeliveryState::Sent) {
            let why = format!("this event is on its way to {} already", self.name);
            return Err(DeliveryError::NotNow(why));
        }
        if self.open_state(seq).await? == Some(DeliveryState::Held) {
            let why = format!(
                "this event waits behind a failing one of its project, because {} asked for strict order",
                self.name
            );
            return Err(DeliveryError::NotNow(why));
        }
        Ok(())
    }

    async fn open_state(&self, seq: Seq) -> Result<Option<DeliveryState>, StoreError> {
        let filter = DeliveryFilter {
            plugin: Some(self.name.to_string()),
            seq: Some(seq),
            limit: 1,
            ..DeliveryFilter::default()
        };
        let found = self.tools.store.0.deliveries(filter).await?;
        Ok(found.first().map(|record| record.state).filter(|state| *state != DeliveryState::Settled))
    }

    async fn discard(&mut self, which: Which) -> Result<u64, DeliveryError> {
        if let Which::Event(seq) = which
            && self.line.is_in_flight(seq)
        {
            let why = format!(
                "this event is with {} at this moment; look again when its attempt has ended",
                self.name
            );
            return Err(DeliveryError::NotNow(why));
        }
        let count = self.tools.store.0.discard(&self.name, which).await?;
        if let Which::Event(seq) = which {
            if count == 0 {
                let why = format!("this event has no open delivery to {}: nothing to discard", self.name);
                return Err(DeliveryError::NotNow(why));
            }
            self.line.discarded(seq);
        }
        Ok(count)
    }

    /// The cursor goes back, and everything after it comes again in order, through the line. What is retried, held or dead
    /// stays where it is.
    async fn replay(&mut self, after: Seq) -> Result<u64, DeliveryError> {
        let cursor = self.line.cursor();
        if after >= cursor {
            let why = format!(
                "{} has not had the events after {after} yet (its deliveries are at {cursor}); they will come by themselves",
                self.name
            );
            return Err(DeliveryError::NotNow(why));
        }
        self.known_until = self.known_until.max(self.line.place());
        self.line.rewind(after);
        self.account.move_cursor(after).await;
        if !self.account.flush().await {
            tracing::warn!(plugin = %self.name, "the replay's place is not recorded yet");
        }
        Ok((cursor - after).unsigned_abs())
    }
}

fn detail(which: Which, count: u64) -> serde_json::Value {
    match which {
        Which::Event(seq) => json!({"seq": seq}),
        Which::AllDead => json!({"dead_letters": count}),
    }
}
