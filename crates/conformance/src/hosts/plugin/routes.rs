//! The routes of a scripted plugin: what every plugin has, its report, and what a caller can try with it.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Answer, Outcome, Request};
use super::{Plugin, posted, start, starts, wire};
use crate::hosts::checks::checks_of;
use crate::hosts::script::Script;

/// Shortest and longest time between two requests for health; a host asks every 10 s.
const HEALTH_INTERVAL: (u64, u64) = (5_000, 30_000);

/// How long the second half of a body waits for somebody who has seen the first.
const HALF_TIMEOUT: Duration = Duration::from_secs(20);

/// Answers a request.
pub(super) fn answer(plugin: &Arc<Plugin>, request: &Request) -> Outcome {
    judge_request(plugin, request);
    starts::used(plugin);
    let path = request.path();
    if let Some(name) = path.strip_prefix("/remember/") {
        let value = serde_json::from_slice(&request.body).unwrap_or(json!(true));
        plugin.ledger.remember(name, value);
        return Outcome::Answer(Answer::status(204));
    }
    match path {
        "/health" => Outcome::Answer(health(plugin)),
        "/_temps/channel" => channel(plugin),
        "/_events" if plugin.script() == Script::Post => Outcome::Answer(posted::take(plugin, request)),
        "/report" => Outcome::Answer(Answer::json(&report(plugin))),
        "/ui/" => Outcome::Answer(Answer {
            headers: vec![("Content-Type", "text/html; charset=utf-8".to_owned())],
            body: b"<!doctype html><title>kit</title><p>a page of the kit</p>".to_vec(),
            ..Answer::status(200)
        }),
        "/echo" => Outcome::Answer(echo(plugin, request)),
        "/halves" => Outcome::Halves,
        "/redirect" => Outcome::Answer(Answer {
            headers: vec![("Location", "/echo?there=1".to_owned())],
            ..Answer::status(302)
        }),
        "/cookies" => Outcome::Answer(Answer {
            headers: vec![
                ("Set-Cookie", "kit=crumb; Path=/".to_owned()),
                ("Access-Control-Allow-Origin", "*".to_owned()),
            ],
            ..Answer::status(200)
        }),
        _ => Outcome::Answer(Answer::status(404)),
    }
}

/// What is true of every request of a host.
fn judge_request(plugin: &Plugin, request: &Request) {
    let asked = format!("{} {}", request.method, request.path());
    let bearer = format!("Bearer {}", plugin.start.secret);
    let shown = request.header("authorization") == Some(bearer.as_str());
    let headers = || plugin.without_secret(&request.headers);
    plugin.ledger.judge("requests.secret", shown, &asked, headers);
    let http = request.version == "HTTP/1.1" && request.header("host") == Some("localhost");
    plugin.ledger.judge("requests.http", http, &asked, || format!("{} with {}", request.version, headers()));
}

fn health(plugin: &Plugin) -> Answer {
    let ledger = &plugin.ledger;
    let now = u64::try_from(plugin.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (before, key) = (ledger.fact(&format!("health/{}", plugin.life)), format!("health/{}", plugin.life));
    ledger.remember(&key, now);
    if let Some(before) = before.as_u64() {
        let gap = now.saturating_sub(before);
        let right = gap >= HEALTH_INTERVAL.0 && gap <= HEALTH_INTERVAL.1;
        ledger.judge("health.asked", right, "a plugin that is well", || {
            format!("{gap} ms between two requests")
        });
    } else {
        ledger.expect("health.asked", "a plugin that is well");
    }
    starts::health(plugin)
}

fn channel(plugin: &Arc<Plugin>) -> Outcome {
    match plugin.script() {
        Script::Starts => starts::channel(plugin),
        Script::Acks | Script::Plain => Outcome::Channel,
        script => {
            match script {
                Script::Post => start::judge_directory(plugin),
                Script::Long => plugin.ledger.judge("handshake.largest_lines", true, "", String::new),
                _ => {}
            }
            Outcome::Answer(Answer::status(404))
        }
    }
}

/// What came, for the caller to judge.
fn echo(plugin: &Plugin, request: &Request) -> Answer {
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| json!([name, value.replace(&plugin.start.secret, "***")]))
        .collect();
    let body = String::from_utf8_lossy(&request.body);
    Answer::json(&json!({"method": request.method, "target": request.target, "headers": headers,
        "length": request.body.len(), "digest": wire::digest(&body)}))
}

/// Sends one half, and the other when `/remember/half` was called meanwhile.
pub(super) fn answer_in_halves(plugin: &Plugin, writer: &mut impl Write) -> io::Result<()> {
    plugin.ledger.remember("half", Value::Null);
    writer.write_all(
        b"HTTP/1.1 200 -\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    writer.write_all(b"f\r\ndata: first\n\n\x20\x20\r\n")?;
    let begin = Instant::now();
    while plugin.ledger.fact("half").is_null() && begin.elapsed() < HALF_TIMEOUT {
        thread::sleep(Duration::from_millis(20));
    }
    let second = if plugin.ledger.fact("half").is_null() { "alone\n" } else { "second" };
    writer.write_all(format!("6\r\n{second}\r\n0\r\n\r\n").as_bytes())
}

/// What was found up to now. A check that waits for the host has what it waits for in `sent`.
fn report(plugin: &Plugin) -> Value {
    let (verdicts, expected) = (plugin.ledger.verdicts(), plugin.ledger.expected());
    let entries: Vec<_> = checks_of(plugin.script())
        .iter()
        .map(|check| {
            let mut entry = json!({"name": check.name, "clause": check.clause, "expects": check.expects});
            match (verdicts.get(check.name), expected.get(check.name)) {
                (Some(None), _) => entry["result"] = json!("passed"),
                (Some(Some(finding)), _) => {
                    entry["result"] = json!("failed");
                    entry["sent"] = json!(finding.sent);
                    entry["came"] = json!(finding.came);
                }
                (None, Some(sent)) => {
                    entry["result"] = json!("waits");
                    entry["sent"] = json!(sent);
                }
                (None, None) => entry["result"] = json!("open"),
            }
            entry
        })
        .collect();
    // A file that has taken another one's name is found by what its start has written down.
    let file = plugin.ledger.fact(&format!("instance/{}", plugin.life));
    json!({"script": plugin.script().file(), "file": file, "life": plugin.life,
        "asked": plugin.ledger.fact("asked") == true, "crashes": plugin.ledger.number("crashes"), "entries": entries})
}
