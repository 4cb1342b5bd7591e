//! The routes: what an honest plugin answers, and the answers that are sins.
//!
//! | Route | Answer |
//! |---|---|
//! | `GET /health` (or the manifest's path) | `ok` |
//! | `GET /pid`, `/env`, `/args` | its process id, environment, command line |
//! | `GET /events` | every event that it ever got, oldest first |
//! | `GET /counts` | answers over the channel, by `ok` or error code |
//! | `GET /headers`, `POST /echo` | the request's headers; the request's body |
//! | `GET /trusted` | 200 when the request carries this spawn's secret, else 401 |
//! | `GET /slow?ms=`, `/stream?n=&ms=`, `/bytes?n=` | late; server-sent events; so many bytes |
//! | `GET /answer?status=&header=Name:Value` | that status with those headers |
//! | `GET /ws` | a WebSocket that returns each message |
//! | `GET /ask?method=&params=`, `POST /ask` | asks the host over the channel and returns the frame |
//! | `GET /crash` | none: the process aborts |
//! | `GET /ui/` | a page, when ready said `has_ui` |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use temps_testkit::Sin;

use crate::Plugin;
use crate::channel::Outgoing;
use crate::http::{Answer, Outcome, Request};

/// How long `/ask` waits for the host, which must answer within 10 s.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// Most bytes of `/bytes`.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

pub(crate) async fn answer(plugin: &Arc<Plugin>, request: &Request) -> Outcome {
    let health_path = plugin.order.manifest.get("health_path").and_then(Value::as_str).unwrap_or("/health");
    let answer = match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", path) if path == health_path => health(plugin).await,
        ("GET", "/_temps/channel") if request.header("upgrade").is_some() => return channel(plugin).await,
        ("POST", "/_events") => take_event(plugin, request),
        ("GET", "/pid") => Answer::text(200, std::process::id().to_string()),
        ("GET", "/env") => {
            Answer::json(&std::env::vars().map(|(name, value)| (name, json!(value))).collect::<Value>())
        }
        ("GET", "/args") => Answer::json(&std::env::args().collect::<Value>()),
        ("GET", "/events") => Answer::json(&events(plugin)),
        ("GET", "/counts") => {
            Answer::json(&json!(plugin.answers.lock().map(|counts| counts.clone()).unwrap_or_default()))
        }
        ("GET", "/headers") => Answer::json(&json!(request.headers)),
        ("GET", "/trusted") => {
            let wanted = format!("Bearer {}", plugin.secret);
            match request.header("authorization") == Some(wanted.as_str()) {
                true => Answer::text(200, "trusted"),
                false => Answer::text(401, "not the host"),
            }
        }
        (_, "/echo") => {
            let content_type = request.header("content-type").unwrap_or("application/octet-stream");
            Answer {
                status: 200,
                headers: vec![("content-type".into(), content_type.into())],
                body: request.body.clone(),
            }
        }
        (_, "/slow") => {
            tokio::time::sleep(Duration::from_millis(request.number("ms").unwrap_or(1000))).await;
            Answer::text(200, "at last")
        }
        ("GET", "/stream") => {
            let (events, pause_ms) = (request.number("n").unwrap_or(5), request.number("ms").unwrap_or(50));
            return Outcome::Stream { events, pause_ms };
        }
        ("GET", "/bytes") => {
            let length = request.number("n").unwrap_or(1000).min(MAX_BYTES);
            Answer::text(200, vec![b'b'; usize::try_from(length).unwrap_or_default()])
        }
        (_, "/answer") => chosen_answer(request),
        ("GET", "/ws") if request.header("upgrade").is_some() => return Outcome::Echo,
        (_, "/ask") => ask(plugin, request).await,
        (_, "/crash") => std::process::abort(),
        ("GET" | "HEAD", "/ui/") if plugin.order.ready.get("has_ui") == Some(&json!(true)) => Answer {
            status: 200,
            headers: vec![("content-type".into(), "text/html; charset=utf-8".into())],
            body: b"<!doctype html><title>unruly</title><p>A page.</p>".to_vec(),
        },
        _ => Answer::text(404, "no such route"),
    };
    Outcome::Answer(answer)
}

async fn health(plugin: &Plugin) -> Answer {
    if plugin.has(&Sin::HealthHangs) {
        return std::future::pending().await;
    }
    let elapsed = plugin.started.elapsed();
    let status = plugin.sin(|sin| match sin {
        Sin::HealthStatus { status, after_ms } if elapsed >= Duration::from_millis(*after_ms) => {
            Some(*status)
        }
        _ => None,
    });
    match status {
        Some(status) => Answer::text(status, "not well"),
        None => Answer::text(200, "ok"),
    }
}

async fn channel(plugin: &Plugin) -> Outcome {
    if plugin.has(&Sin::ChannelHangs) {
        return std::future::pending().await;
    }
    let refusal = plugin.sin(|sin| match sin {
        Sin::ChannelRefused { status } => Some(*status),
        _ => None,
    });
    match refusal {
        Some(status) => Outcome::Answer(Answer::text(status, "no channel here")),
        None => Outcome::Channel,
    }
}

fn take_event(plugin: &Plugin, request: &Request) -> Answer {
    let Ok(event) = serde_json::from_slice::<Value>(&request.body) else {
        return Answer::text(400, "not JSON");
    };
    if let Err(problem) = plugin.record_event(&event) {
        return Answer::text(500, problem.to_string());
    }
    let status = plugin.sin(|sin| match sin {
        Sin::EventStatus { status } => Some(*status),
        _ => None,
    });
    Answer { status: status.unwrap_or(200), ..Answer::json(&json!({"ok": true})) }
}

fn events(plugin: &Plugin) -> Value {
    std::fs::read_to_string(plugin.data_dir.join("events.jsonl"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .collect()
}

fn chosen_answer(request: &Request) -> Answer {
    let headers = request
        .query
        .iter()
        .filter(|(name, _)| name == "header")
        .filter_map(|(_, line)| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let status = request.number("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    Answer { status, headers, body: request.query("body").unwrap_or("chosen").into() }
}

async fn ask(plugin: &Plugin, request: &Request) -> Answer {
    let wish = if request.method == "POST" {
        serde_json::from_slice(&request.body).unwrap_or_default()
    } else {
        let params: Value = serde_json::from_str(request.query("params").unwrap_or("{}")).unwrap_or_default();
        json!({"method": request.query("method"), "params": params})
    };
    let Some(sender) = plugin.channel.lock().ok().and_then(|channel| channel.clone()) else {
        return Answer::text(503, "there is no channel");
    };
    let id = plugin.next_id.fetch_add(1, Ordering::Relaxed);
    let (answered, answer) = tokio::sync::oneshot::channel();
    if let Ok(mut waiting) = plugin.waiting.lock() {
        waiting.insert(id, answered);
    }
    let frame = json!({"type": "request", "id": id, "method": wish["method"], "params": wish["params"]});
    if sender.send(Outgoing::Text(frame.to_string())).await.is_err() {
        return Answer::text(503, "the channel is closed");
    }
    match tokio::time::timeout(ASK_TIMEOUT, answer).await {
        Ok(Ok(frame)) => Answer::json(&frame),
        Ok(Err(_)) => Answer::text(503, "the channel was closed before the answer came"),
        Err(_) => {
            if let Ok(mut waiting) = plugin.waiting.lock() {
                waiting.remove(&id);
            }
            Answer::text(504, "the host did not answer")
        }
    }
}
