//! Pauses that a delivery makes and ends by itself, from how its attempts ended.

use chrono::Utc;
use serde_json::json;
use temps_store::{AttemptResult, PauseRecord};
use tokio::time::Instant;

use super::Delivery;
use crate::events::temper::{PROBE_EVERY, Temper};
use crate::plugin::Link;

/// Who pauses deliveries that fail too often.
pub(super) const HOST: &str = "host";

/// What attempts mean for all deliveries of a plugin.
enum Verdict {
    Pause(String),
    Resume,
}

impl Delivery {
    /// Notes what happened for the recorder, and pauses or resumes deliveries for it.
    pub(in crate::events) async fn book(&mut self) {
        let verdict = self.judge();
        self.account.note(&mut self.line).await;
        match verdict {
            Some(Verdict::Pause(reason)) => self.pause_for_failing(reason).await,
            Some(Verdict::Resume) => self.resume_by_itself("an event was handled").await,
            None => {}
        }
        self.account.show(&self.line, self.pause.as_ref());
    }

    /// What the attempts that ended mean for all deliveries of the plugin.
    fn judge(&mut self) -> Option<Verdict> {
        let mut verdict = None;
        for attempt in self.line.ended_attempts() {
            if attempt.result == AttemptResult::Settled {
                self.temper.settled();
                verdict = Some(Verdict::Resume);
            } else if let Some(reason) =
                self.temper.failed(attempt.ended_at, attempt.answer.as_deref().unwrap_or_default())
            {
                verdict = Some(Verdict::Pause(reason));
            }
        }
        let is_paused = self.pause.is_some();
        verdict.filter(|verdict| match verdict {
            Verdict::Pause(_) => !is_paused,
            Verdict::Resume => self.pause.as_ref().is_some_and(|pause| pause.paused_by == HOST),
        })
    }

    async fn pause_for_failing(&mut self, reason: String) {
        let hash = self.handle.view.borrow().hash.clone();
        let pause = PauseRecord {
            plugin: self.name.to_string(),
            reason,
            paused_by: HOST.to_owned(),
            since: Utc::now(),
            hash,
        };
        tracing::warn!(plugin = %self.name, reason = pause.reason, "deliveries are paused");
        let detail = json!({"reason": pause.reason});
        self.tools.audit.record("deliveries.paused", Some(&self.name), HOST, detail);
        self.probe_at = Instant::now() + PROBE_EVERY;
        if let Err(error) = self.tools.store.0.put_pause(pause.clone()).await {
            tracing::error!(plugin = %self.name, %error, "the pause cannot be recorded; it lasts until the host stops");
        }
        self.pause = Some(pause);
    }

    async fn resume_by_itself(&mut self, why: &'static str) {
        let Some(pause) = &self.pause else { return };
        // Another program has the whole patience again.
        self.temper = Temper::default();
        if let Err(error) = self.tools.store.0.lift_pause(&pause.plugin).await {
            tracing::error!(plugin = %self.name, %error, "the end of the pause cannot be recorded");
        }
        self.pause = None;
        tracing::info!(plugin = %self.name, why, "deliveries go on");
        let detail = json!({"reason": why});
        self.tools.audit.record("deliveries.resumed", Some(&self.name), HOST, detail);
    }

    /// A pause for failing is for the program that failed.
    pub(super) async fn resume_for_another_program(&mut self, link: &Link) {
        let hash = self.handle.view.borrow().hash.clone();
        let is_another = |pause: &PauseRecord| pause.paused_by == HOST && pause.hash != hash;
        if self.pause.as_ref().is_some_and(is_another) {
            tracing::debug!(plugin = %link.name, "another program runs now");
            self.resume_by_itself("another program runs now").await;
        }
    }

    /// While deliveries are paused for failing, one event now and then finds out whether they still fail.
    pub(super) fn most_to_send(&self, link: &Link) -> usize {
        if link.closed.is_cancelled() {
            return 0;
        }
        match &self.pause {
            None => usize::MAX,
            Some(pause) if pause.paused_by != HOST => 0,
            Some(_) => usize::from(self.line.unsettled() == 0 && self.probe_at <= Instant::now()),
        }
    }
}
