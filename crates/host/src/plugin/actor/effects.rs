//! The effects of a plugin's life: what the actor does when the step function says so.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Actor, Current};
use crate::metrics::Metrics;
use crate::plugin::link::Ended;
use crate::plugin::snapshot::{CrashReport, PluginState};
use crate::plugin::start;
use crate::plugin::state::{Effect, Start, Then};
use crate::usage::Usage;

/// SIGTERM.
const TERMINATE: i32 = 15;

/// How long closing a channel may take before SIGTERM follows anyway.
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// Lines of stderr in a crash report.
const LAST_LINES: usize = 20;

impl Actor {
    pub(super) fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn(start) => {
                self.metric(|metrics, labels| metrics.plugin_starts.get_or_create(&labels).inc());
                self.begin(start);
            }
            Effect::OpenLink(start) => self.open_link(start),
            Effect::CloseLink(start) => self.close_link(start),
            Effect::AwaitDrained(start) => {
                if let Some(current) = self.of(start) {
                    tokio::spawn(start::await_drained(current.context.clone()));
                }
            }
            Effect::Reconnect(start) => self.reconnect(start),
            Effect::Terminate(start) => self.terminate(start),
            Effect::Kill(start) => {
                if let Some(process) = self.of(start).and_then(|current| current.process.clone()) {
                    self.log.say("warn", "it did not leave in time and is killed");
                    process.kill();
                }
            }
            Effect::ReportCrash(start, why, state) => self.report_crash(start, why, state),
            Effect::ReportQuarantine => self.report_quarantine(),
            Effect::ReportStop(start) => self.report_stop(start),
        }
    }

    fn of(&self, start: Start) -> Option<&Current> {
        self.current.as_ref().filter(|current| current.context.start == start)
    }

    /// Publishes the link, and begins to watch over what it leads to.
    fn open_link(&mut self, start: Start) {
        let Some(current) = self.current.as_mut().filter(|current| current.context.start == start) else {
            return;
        };
        let (Some(link), Some(process)) = (current.link.clone(), current.process.clone()) else { return };
        let first = current.running_since.is_none();
        current.channel = Some(if link.channel.is_some() { "open" } else { "none" });
        if let Some(channel) = link.channel.clone() {
            tokio::spawn(start::watch_channel(current.context.clone(), channel));
        }
        if first {
            current.running_since = Some(Utc::now());
            let disk_max = process.confined().limits().disk_max;
            tokio::spawn(start::watch_usage(current.context.clone(), Arc::clone(&process)));
            tokio::spawn(start::watch_disk(current.context.clone(), disk_max));
            tokio::spawn(start::watch_health(current.context.clone(), process, link.clone()));
            if !link.has_ui {
                tokio::spawn(start::look_for_ui(current.context.clone(), link.clone()));
            }
            let features: Vec<&str> = link.features.iter().map(|feature| feature.as_str()).collect();
            let channel = current.channel;
            let detail =
                json!({"start": start, "channel": channel, "has_ui": link.has_ui, "features": features});
            self.audit("plugin.ready", "host", detail);
            self.log.say("info", "it runs");
        }
        self.link.send_replace(Some(link));
    }

    fn close_link(&mut self, start: Start) {
        if let Some(link) = self.of(start).and_then(|current| current.link.clone()) {
            link.closed.cancel();
        }
        self.link.send_replace(None);
    }

    fn reconnect(&mut self, start: Start) {
        let Some(current) = self.of(start) else { return };
        let Some(link) = current.link.clone() else { return };
        // The link with the lost channel takes no new work; the one with the new channel replaces it.
        link.closed.cancel();
        tokio::spawn(start::reconnect(current.context.clone(), link));
        self.link.send_replace(None);
    }

    /// Closes the channel, then asks the process to leave.
    fn terminate(&mut self, start: Start) {
        let Some(current) = self.of(start) else { return };
        current.context.over.cancel();
        let Some(process) = current.process.clone() else { return };
        // One that is ended for what it has done stays behind others until it is gone.
        if !matches!(self.life.then(), Some(Then::Crash(..))) {
            process.confined().stops();
        }
        let tap = current.context.tap();
        let channel = current.link.as_ref().and_then(|link| link.channel.clone());
        tokio::spawn(async move {
            if let Some(channel) = channel {
                let _ = tokio::time::timeout(CLOSE_TIME, channel.close()).await;
            }
            tap.signal("SIGTERM");
            process.signal(TERMINATE);
        });
    }

    fn report_crash(&mut self, start: Start, why: Option<String>, state: PluginState) {
        let Some(current) = self.take(start, Ended::Crashed) else { return };
        let natural = current.exit.map(|exit| exit.describe());
        let cause = match (why, natural) {
            // The host ended it because of the cause; how it then ended adds nothing.
            (Some(why), _) => why,
            (None, Some(natural)) => format!("{natural} while {}", doing(state)),
            (None, None) => "ended".to_owned(),
        };
        let cause = beside_limits(cause, current.usage.as_ref());
        let exit = current.exit;
        let report = CrashReport {
            at: Utc::now(),
            cause: cause.clone(),
            exit_code: exit.and_then(|exit| exit.code),
            signal: exit.and_then(|exit| exit.signal),
            out_of_memory: exit.and_then(|exit| exit.out_of_memory),
            state,
            last_lines: self.log.last_stderr(LAST_LINES),
        };
        self.crashes += 1;
        self.metric(|metrics, labels| metrics.plugin_crashes.get_or_create(&labels).inc());
        self.log.say("error", format!("it crashed: {cause}"));
        let detail = json!({
            "start": start,
            "cause": cause,
            "exit_code": report.exit_code,
            "signal": report.signal,
            "out_of_memory": report.out_of_memory,
            "state": state.as_str(),
            "last_lines": report.last_lines,
        });
        self.audit("plugin.crashed", "host", detail);
        self.last_crash = Some(report);
    }

    fn report_quarantine(&mut self) {
        let policy = self.shared.config().restart;
        let cause = self.last_crash.as_ref().map(|crash| crash.cause.clone());
        self.log.say("error", "it crashed too often and is quarantined");
        let detail = json!({"cause": cause, "next_try_in_seconds": policy.half_open_every.as_secs()});
        self.audit("plugin.quarantined", "host", detail);
    }

    fn report_stop(&mut self, start: Start) {
        let Some(current) = self.take(start, Ended::Stopped) else { return };
        let exit = current.exit;
        let detail = json!({
            "start": start,
            "exit_code": exit.and_then(|exit| exit.code),
            "signal": exit.and_then(|exit| exit.signal),
            "killed": exit.is_some_and(|exit| exit.killed_by_host),
        });
        self.audit("plugin.stopped", "host", detail);
        self.log.say("info", "it stopped");
    }

    /// Ends what belongs to a start, and says how it ended to whoever had a link to it.
    fn take(&mut self, start: Start, how: Ended) -> Option<Current> {
        self.current.as_ref().filter(|current| current.context.start == start)?;
        let current = self.current.take()?;
        current.context.over.cancel();
        self.shared.metrics.show_usage(self.name.as_str(), None);
        if let Some(link) = &current.link {
            CancellationToken::cancel(&link.closed);
        }
        self.link.send_replace(None);
        current.ended.send_replace(Some(how));
        Some(current)
    }

    fn metric(&self, count: impl FnOnce(&Metrics, crate::metrics::OfPlugin) -> u64) {
        count(&self.shared.metrics, Metrics::of(self.name.as_str()));
    }
}

/// A cause, with the limits that the plugin was last seen near: they often say why it came to that.
fn beside_limits(cause: String, usage: Option<&Usage>) -> String {
    let near: Vec<&str> = usage.iter().flat_map(|usage| &usage.near_limits).map(String::as_str).collect();
    if near.is_empty() { cause } else { format!("{cause}; last seen near its limits: {}", near.join(", ")) }
}

fn doing(state: PluginState) -> &'static str {
    match state {
        PluginState::Starting => "its manifest was awaited",
        PluginState::AwaitingReady => "ready was awaited",
        PluginState::Connecting => "its channel was being opened",
        _ => "it was running",
    }
}
