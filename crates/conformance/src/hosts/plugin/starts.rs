//! Starts that fail on purpose. What the host made of one is judged in the next.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Plugin;
use super::http::{Answer, Outcome};
use crate::hosts::script::Script;

/// The start in which the plugin says `ready: false`.
pub(super) const READY_FALSE: u64 = 1;
/// The start in which it ends before ready.
const EXIT: u64 = 2;
/// The start in which it answers 500 to the channel's upgrade.
const REFUSES: u64 = 3;
/// The start in which it does not answer that.
const HANGS: u64 = 4;

/// The start in which [`Script::Slow`] never gets ready, and the one in which it is not well.
const NEVER_READY: u64 = 1;
/// See [`NEVER_READY`].
const UNWELL: u64 = 2;

/// Time between two notes that the plugin still lives.
const TICK: Duration = Duration::from_millis(200);

/// Shortest and longest life of a plugin whose channel hangs, in milliseconds; the host has 5 s, and may then wait for the end.
const HANG_MS: (u64, u64) = (4_000, 25_000);

/// The same for one that never gets ready; the host has 30 s.
const READY_MS: (u64, u64) = (20_000, 50_000);

/// Writes down now and then how long this life lasts.
fn tick(plugin: &Arc<Plugin>, key: &'static str) {
    let plugin = Arc::clone(plugin);
    thread::spawn(move || {
        let begin = Instant::now();
        loop {
            plugin.ledger.remember(key, u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX));
            thread::sleep(TICK);
        }
    });
}

/// What happens between the socket and the ready line.
pub(super) fn before_ready(plugin: &Arc<Plugin>) {
    match (plugin.script(), plugin.life) {
        (Script::Starts, EXIT) => {
            plugin.ledger.expect("starts.exit", "an exit with status 3 before ready");
            std::process::exit(3);
        }
        (Script::Starts, READY_FALSE) => {
            plugin.ledger.judge("handshake.later_minor", true, "", String::new);
            plugin.ledger.expect("starts.ready_false", "ready:false");
        }
        (Script::Slow, NEVER_READY) => {
            plugin.ledger.expect("slow.ready", "no ready line");
            tick(plugin, "late");
            thread::sleep(super::LIFETIME);
        }
        _ => {}
    }
}

/// Something was asked of a plugin; one that is not ready must be left alone.
pub(super) fn used(plugin: &Plugin) {
    if plugin.script() == Script::Starts && plugin.life == READY_FALSE {
        plugin.ledger.judge("starts.ready_false", false, "ready:false", || "a request".into());
    }
}

/// The answer to the channel's upgrade.
pub(super) fn channel(plugin: &Arc<Plugin>) -> Outcome {
    match plugin.life {
        REFUSES => {
            plugin.ledger.expect("starts.channel_refused", "500 to the channel's upgrade");
            Outcome::Answer(Answer::status(500))
        }
        HANGS => {
            plugin.ledger.expect("starts.channel_hangs", "no answer to the channel's upgrade");
            tick(plugin, "hangs");
            Outcome::Silence
        }
        _ => Outcome::Answer(Answer::status(404)),
    }
}

/// The answer to a request for health.
pub(super) fn health(plugin: &Plugin) -> Answer {
    if plugin.script() == Script::Slow && plugin.life == UNWELL {
        plugin.ledger.expect("slow.unwell", "503 to requests for health");
        plugin.ledger.remember("unwell", plugin.ledger.number("unwell") + 1);
        return Answer::status(503);
    }
    Answer::status(200)
}

/// Judges what the host made of the life before this one.
pub(super) fn judge_the_last(plugin: &Arc<Plugin>) {
    let ledger = &plugin.ledger;
    let lasted = |check: &str, key: &str, bounds: (u64, u64), sent: &str| {
        let ms = ledger.number(key);
        ledger.judge(check, ms >= bounds.0 && ms <= bounds.1, sent, || format!("the end after {ms} ms"));
    };
    let crashed = plugin.script() == Script::Plain && ledger.number("crashes") > 0;
    if crashed {
        ledger.judge("crash.restart", true, "", String::new);
    }
    match (plugin.script(), plugin.life.saturating_sub(1)) {
        (Script::Starts, READY_FALSE) => ledger.judge("starts.ready_false", true, "", String::new),
        (Script::Starts, EXIT) => ledger.judge("starts.exit", true, "", String::new),
        (Script::Starts, REFUSES) => ledger.judge("starts.channel_refused", true, "", String::new),
        (Script::Starts, HANGS) => {
            lasted("starts.channel_hangs", "hangs", HANG_MS, "no answer to the channel's upgrade");
        }
        (Script::Slow, NEVER_READY) => lasted("slow.ready", "late", READY_MS, "no ready line"),
        (Script::Slow, UNWELL) => {
            let times = ledger.number("unwell");
            ledger.judge("slow.unwell", times == 3, "503 to requests for health", || {
                format!("the end after {} of them", json!(times))
            });
        }
        _ => {}
    }
}
