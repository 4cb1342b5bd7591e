//! What a scripted plugin does with its events. Each says in `data.order` what is to become of it, so that whoever
//! publishes them directs the play.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use temps_protocol::limits::MAX_UNACKED_EVENTS;
use temps_protocol::{Payload, PluginEvent};

use super::channel::Channel;
use super::{Plugin, locked};
use crate::hosts::script::Script;

/// Begins the key of what is remembered of an event.
const EVENT: &str = "event/";

/// No event for so long means that the host waits for acks.
const QUIET: Duration = Duration::from_secs(1);

/// How long an event must be alone after a crash.
const ALONE: Duration = Duration::from_secs(2);

/// How long a plugin without acks lives with an event until that is settled; the host has 5 s.
const SETTLED: Duration = Duration::from_secs(7);

/// Shortest wait before a retry that is one, in milliseconds; the host has 1 s.
const MIN_RETRY_MS: u64 = 900;

/// Shortest time after which an event that was not acked comes again, in milliseconds; the host has 30 s.
const MIN_UNACKED_MS: u64 = 29_000;

/// What is remembered of one event.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    times: u64,
    event: Value,
    settled: bool,
    at_ms: u64,
    life: u64,
    channel: u64,
}

impl Seen {
    fn number(&self) -> u64 {
        self.event["data"]["n"].as_u64().unwrap_or_default()
    }
}

/// What is on the table.
#[derive(Debug, Default)]
pub(super) struct Desk {
    seen: BTreeMap<String, Seen>,
    /// Ids of events that are held back, in the order in which they came.
    held: Vec<Value>,
    /// Whether the last of them has come.
    last_held: bool,
    /// Whether somebody waits to ack them.
    releases: bool,
    /// Counts what came, so that quiet can be told.
    came: u64,
    /// The event that must be alone.
    alone: Option<String>,
    pings: u64,
}

/// What the plugin answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Ok,
    Error,
    Later,
}

/// Takes up what earlier lives have seen.
pub(super) fn resume(plugin: &Plugin) {
    let mut desk = locked(&plugin.events);
    for (id, seen) in plugin.ledger.facts(EVENT) {
        if let Ok(seen) = serde_json::from_value(seen) {
            desk.seen.insert(id, seen);
        }
    }
}

/// An event over the channel.
pub(super) fn take_over(plugin: &Arc<Plugin>, channel: &Arc<Channel>, event: &Value) {
    let id = &event["id"];
    match take(plugin, Some(channel), event) {
        _ if plugin.script() != Script::Acks => watch_for_a_ping(plugin, id),
        Reply::Later => {}
        Reply::Error => channel.ack(id, Err("it was told to fail")),
        Reply::Ok => {
            channel.ack(id, Ok(()));
            settle(plugin, id);
            if event["data"]["order"] == "twice" {
                ack_too_much(plugin, channel, id);
            }
        }
    }
}

/// An event, in whatever way it came.
pub(super) fn take(plugin: &Arc<Plugin>, channel: Option<&Arc<Channel>>, event: &Value) -> Reply {
    judge_event(plugin, event);
    let mine = event["data"]["to"] == plugin.script().name();
    if !mine {
        return Reply::Ok;
    }
    let seen = note(plugin, channel, event);
    play(plugin, channel, event, &seen)
}

fn judge_event(plugin: &Plugin, event: &Value) {
    let ledger = &plugin.ledger;
    let read = serde_json::from_value::<PluginEvent>(event.clone());
    let kept = read.as_ref().is_ok_and(|read| read.check().is_ok()) && event["data"].is_object();
    let project = event.get("project_id").is_none_or(|id| id.is_i64());
    ledger.judge("events.envelope", kept && project, "a published event", || event.to_string());
    let kind = event["event_type"].as_str().unwrap_or_default();
    match plugin.script() {
        Script::Acks => {
            let wanted = kind == "kit.step" || kind.starts_with("deployment.");
            ledger.judge("events.asked_for", wanted, "a manifest with kit.step and deployment.*", || {
                kind.to_owned()
            });
        }
        Script::Plain => {
            let wanted = event["data"]["to"] == plugin.script().name();
            ledger.judge("events.filtered", wanted, "a filter for data.to", || event.to_string());
        }
        Script::Post if kind == "kit.other" => ledger.judge("post.all", true, "", String::new),
        _ => {}
    }
    if kind.starts_with("deployment.") && event["data"].get("to").is_none() {
        let right = matches!(Payload::read(kind, &event["data"]), Ok(Some(_)));
        ledger
            .judge("events.payload", right, "something that happened to a deployment", || event.to_string());
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Writes down that an event came, judges what is true of all, and returns what was known of it before.
fn note(plugin: &Plugin, channel: Option<&Arc<Channel>>, event: &Value) -> Seen {
    let ledger = &plugin.ledger;
    let id = event["id"].as_str().unwrap_or_default().to_owned();
    let mut desk = locked(&plugin.events);
    desk.came += 1;
    let before = desk.seen.get(&id).cloned().unwrap_or_default();
    let mut now = Seen { times: before.times + 1, event: event.clone(), at_ms: now_ms(), ..before.clone() };
    (now.life, now.channel) = (plugin.life, channel.map_or(0, |channel| channel.number));
    if before.times == 0 {
        let last = desk.seen.values().map(Seen::number).max().unwrap_or_default();
        ledger.judge("events.order", now.number() > last, "numbered events", || {
            format!("number {} after number {last}", now.number())
        });
    } else {
        ledger.judge("acks.same", before.event == *event, &before.event.to_string(), || event.to_string());
        ledger.judge(settled(plugin), !before.settled, "an event that was settled", || {
            format!("it came again: {event}")
        });
    }
    if let Some(alone) = &desk.alone {
        ledger.judge("crash.alone", *alone == id, "an event that crashed the plugin, not acked yet", || {
            format!("another one: {event}")
        });
    }
    ledger.remember(&format!("{EVENT}{id}"), json!(now));
    desk.seen.insert(id, now);
    before
}

/// The check that an event never comes again.
fn settled(plugin: &Plugin) -> &'static str {
    match plugin.script() {
        Script::Acks => "acks.settled",
        Script::Plain => "plain.settled",
        _ => "post.settled",
    }
}

/// Remembers that an event came to its end.
pub(super) fn settle(plugin: &Plugin, id: &Value) {
    let mut desk = locked(&plugin.events);
    let id = id.as_str().unwrap_or_default();
    if let Some(seen) = desk.seen.get_mut(id) {
        seen.settled = true;
        plugin.ledger.remember(&format!("{EVENT}{id}"), json!(seen));
        plugin.ledger.judge(settled(plugin), true, "", String::new);
    }
}

fn play(plugin: &Arc<Plugin>, channel: Option<&Arc<Channel>>, event: &Value, before: &Seen) -> Reply {
    let ledger = &plugin.ledger;
    let first = before.times == 0;
    let waited = now_ms().saturating_sub(before.at_ms);
    let number = channel.map_or(0, |channel| channel.number);
    match event["data"]["order"].as_str().unwrap_or_default() {
        "error_once" if first => {
            let checks =
                if channel.is_some() { ["acks.error", "acks.go_on"] } else { ["post.again", "post.again"] };
            for check in checks {
                ledger.expect(check, "an answer that says error");
            }
            Reply::Error
        }
        "error_once" => {
            let check = if channel.is_some() { "acks.error" } else { "post.again" };
            ledger.judge(check, waited >= MIN_RETRY_MS, "an answer that says error", || {
                format!("the event again after {waited} ms")
            });
            if channel.is_some() {
                let later = locked(&plugin.events).seen.values().any(|seen| seen.number() > before.number());
                ledger.judge("acks.go_on", later, "an event that failed, and one behind it", || {
                    "the first again, before the second".into()
                });
            }
            Reply::Ok
        }
        "hold" => hold(plugin, event, before),
        "lose" | "lose_restart" if first => {
            let check = if plugin.script() == Script::Acks { "acks.lost_channel" } else { "plain.restart" };
            ledger.expect(check, "the loss of the channel");
            ledger.remember("lost", plugin.life);
            channel.inspect(|channel| channel.lose());
            Reply::Later
        }
        "lose" => {
            ledger.judge("acks.lost_channel", number > before.channel, "a lost channel", || {
                "the event over the old one".into()
            });
            Reply::Ok
        }
        "crash_once" if first => crash(plugin, "crash.alone"),
        "crash_once" => stay_alone(plugin, &event["id"]),
        "poison" if before.times < 3 => crash(plugin, "crash.dead_letter"),
        "poison" => {
            ledger.judge("crash.dead_letter", false, "an event that crashed the plugin three times", || {
                "it came again".into()
            });
            Reply::Ok
        }
        "after_poison" => {
            ledger.judge("crash.dead_letter", true, "", String::new);
            Reply::Ok
        }
        "never_once" if first => {
            ledger.expect("acks.timeout", "no ack for an event");
            Reply::Later
        }
        "never_once" => {
            ledger.judge("acks.timeout", waited >= MIN_UNACKED_MS, "no ack for an event", || {
                format!("the event again after {waited} ms")
            });
            Reply::Ok
        }
        "until_stop" if first => {
            ledger.expect("acks.stop", "no ack for an event before a stop");
            Reply::Later
        }
        "until_stop" => {
            ledger.judge("acks.stop", plugin.life > before.life, "no ack for an event before a stop", || {
                "the event again in the same life".into()
            });
            Reply::Ok
        }
        "kept" if event["data"]["last"] == true => {
            let desk = locked(&plugin.events);
            let kept = desk.seen.values().filter(|seen| seen.event["data"]["order"] == "kept").count();
            ledger.judge("events.kept", kept == 3, "3 events while the plugin was stopped", || {
                format!("{kept} of them")
            });
            Reply::Ok
        }
        _ => Reply::Ok,
    }
}

fn crash(plugin: &Plugin, check: &str) -> Reply {
    plugin.ledger.remember("crashes", plugin.ledger.number("crashes") + 1);
    plugin.ledger.expect(check, "a crash during an event");
    plugin.ledger.expect("crash.restart", "a crash");
    std::process::abort()
}

/// Keeps an event until the host falls quiet, or sends more than it may.
fn hold(plugin: &Arc<Plugin>, event: &Value, before: &Seen) -> Reply {
    if before.settled {
        let again = || format!("the event {} again, which was acked", event["id"]);
        plugin.ledger.judge("acks.any_order", false, "acks in the reverse order", again);
    }
    let mut desk = locked(&plugin.events);
    desk.held.push(event["id"].clone());
    desk.last_held |= event["data"]["last"] == true;
    let held = desk.held.len();
    plugin.ledger.judge("acks.window", held <= MAX_UNACKED_EVENTS, "no acks", || format!("{held} events"));
    plugin.ledger.expect("acks.any_order", "acks in the reverse order");
    if plugin.ledger.fact("held in life").is_null() {
        plugin.ledger.remember("held in life", plugin.life);
    }
    if !std::mem::replace(&mut desk.releases, true) {
        let plugin = Arc::clone(plugin);
        thread::spawn(move || release(&plugin));
    }
    Reply::Later
}

/// Acks what is held once the host is quiet, the last first.
fn release(plugin: &Plugin) {
    let came = || locked(&plugin.events).came;
    let mut before = came();
    loop {
        thread::sleep(QUIET);
        let now = came();
        if now == before {
            break;
        }
        before = now;
    }
    let mut desk = locked(&plugin.events);
    desk.releases = false;
    let (held, last) = (std::mem::take(&mut desk.held), desk.last_held);
    drop(desk);
    let channel = plugin.channel();
    for id in held.iter().rev() {
        channel.iter().for_each(|channel| channel.ack(id, Ok(())));
        settle(plugin, id);
    }
    // It comes only when the acks of those before were taken.
    if last {
        let same = plugin.ledger.number("held in life") == plugin.life;
        plugin.ledger.judge("acks.any_order", same, "acks in the reverse order", || {
            "the rest only in another life".into()
        });
    }
}

fn stay_alone(plugin: &Arc<Plugin>, id: &Value) -> Reply {
    locked(&plugin.events).alone = id.as_str().map(str::to_owned);
    let (plugin, id) = (Arc::clone(plugin), id.clone());
    thread::spawn(move || {
        thread::sleep(ALONE);
        locked(&plugin.events).alone = None;
        plugin.ledger.judge("crash.alone", true, "", String::new);
        settle(&plugin, &id);
        plugin.channel().iter().for_each(|channel| channel.ack(&id, Ok(())));
    });
    Reply::Later
}

fn ack_too_much(plugin: &Arc<Plugin>, channel: &Arc<Channel>, id: &Value) {
    channel.ack(id, Err("a second ack"));
    channel.ack(&json!("of-no-event"), Ok(()));
    let (plugin, channel) = (Arc::clone(plugin), Arc::clone(channel));
    thread::spawn(move || {
        let answer = channel.ask(&plugin, "list_projects", &json!({}));
        plugin.ledger.judge("acks.ignored", answer.is_ok(), "a second ack, and one of an unknown id", || {
            format!("{answer:?}")
        });
    });
}

/// The host asks whether everything was read.
pub(super) fn pinged(plugin: &Plugin) {
    locked(&plugin.events).pings += 1;
}

/// Without acks, a ping behind the event is how the host learns that it was read.
fn watch_for_a_ping(plugin: &Arc<Plugin>, id: &Value) {
    let before = locked(&plugin.events).pings;
    let (plugin, id) = (Arc::clone(plugin), id.clone());
    thread::spawn(move || {
        thread::sleep(SETTLED);
        // A channel that is gone settles nothing: the event was lived with for too short a time.
        if plugin.channel().is_none() {
            return;
        }
        let pinged = locked(&plugin.events).pings > before;
        plugin
            .ledger
            .judge("plain.ping", pinged, "an event", || format!("no ping within {} s", SETTLED.as_secs()));
        settle(&plugin, &id);
    });
}
