//! A stand-in for Slack's incoming webhooks: it judges payloads as Slack does, answers in Slack's words, and keeps
//! what it received.
//!
//! Slack answers `200 ok` in plain text, or a status with one word that says what is wrong. Which answer comes can be
//! ordered, so that a test sees every one of them. It listens on loopback only.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The only webhook that this stand-in knows. Other tokens are answered `invalid_token`, other places `no_service`.
pub const WEBHOOK_PATH: &str = "/services/T00000000/B00000000/standin-token";

/// Messages that are kept; older ones are forgotten.
const MAX_MESSAGES: usize = 1000;

/// Slack takes at most so many blocks in a message.
const MAX_BLOCKS: usize = 50;

/// Slack takes at most so many characters in the text of a section.
const MAX_SECTION_TEXT: usize = 3000;

/// How long a test waits for something to be received.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer of Slack, by the word in its body. Each comes with Slack's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// 200: the message was posted.
    Ok,
    /// 400: the body is not JSON.
    InvalidPayload,
    /// 400: there is neither text nor anything else to show.
    NoText,
    /// 400: a block breaks Slack's rules.
    InvalidBlocks,
    /// 403: the token is not valid.
    InvalidToken,
    /// 403: an administrator forbids it.
    ActionProhibited,
    /// 404: the webhook was removed or is switched off.
    NoService,
    /// 404: the channel is gone.
    ChannelNotFound,
    /// 410: the channel is archived.
    ChannelIsArchived,
    /// 500: something went wrong inside Slack.
    RollupError,
    /// 429: too many messages; the header `Retry-After` says how many seconds to wait.
    RateLimited(u64),
    /// No answer: the connection is held and then closed.
    Silence,
}

impl Answer {
    fn status(self) -> StatusCode {
        match self {
            Answer::Ok => StatusCode::OK,
            Answer::InvalidPayload | Answer::NoText | Answer::InvalidBlocks => StatusCode::BAD_REQUEST,
            Answer::InvalidToken | Answer::ActionProhibited => StatusCode::FORBIDDEN,
            Answer::NoService | Answer::ChannelNotFound => StatusCode::NOT_FOUND,
            Answer::ChannelIsArchived => StatusCode::GONE,
            Answer::RollupError | Answer::Silence => StatusCode::INTERNAL_SERVER_ERROR,
            Answer::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Answer::Ok => "ok",
            Answer::InvalidPayload => "invalid_payload",
            Answer::NoText => "no_text",
            Answer::InvalidBlocks => "invalid_blocks",
            Answer::InvalidToken => "invalid_token",
            Answer::ActionProhibited => "action_prohibited",
            Answer::NoService => "no_service",
            Answer::ChannelNotFound => "channel_not_found",
            Answer::ChannelIsArchived => "channel_is_archived",
            Answer::RollupError | Answer::Silence => "rollup_error",
            Answer::RateLimited(_) => "rate_limited",
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status(), [(CONTENT_TYPE, "text/plain")], self.word()).into_response();
        if let Answer::RateLimited(seconds) = self {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// One request that came to the webhook.
#[derive(Debug, Clone, Serialize)]
pub struct Received {
    /// The payload; null when it was not JSON.
    pub payload: Value,
    /// What was answered.
    pub answer: Answer,
    /// Milliseconds since the stand-in started.
    pub at_ms: u64,
}

/// A running stand-in. It ends when this is dropped.
#[derive(Debug)]
pub struct SlackStandIn {
    address: SocketAddr,
    desk: Arc<Desk>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Desk {
    started: Instant,
    state: Mutex<Orders>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Orders {
    received: VecDeque<Received>,
    /// Answers for the next requests; afterwards payloads are judged by themselves.
    next: VecDeque<Answer>,
}

impl SlackStandIn {
    /// Starts on loopback; port 0 takes a free one.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let desk =
            Arc::new(Desk { started: Instant::now(), state: Mutex::default(), count: watch::Sender::new(0) });
        let routes = routes(Arc::clone(&desk));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, desk, server })
    }

    /// The address of the page that shows what was received, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address to post messages to.
    #[must_use]
    pub fn webhook_url(&self) -> String {
        format!("http://{}{WEBHOOK_PATH}", self.address)
    }

    /// Orders the answers to the next requests, in turn. After them payloads are judged by themselves again.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.desk.state().next.extend(answers);
    }

    /// Everything that came to the webhook, oldest first, refused requests included.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.desk.state().received.iter().cloned().collect()
    }

    /// The payloads that were answered `ok`, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        let is_ok = |received: &Received| received.answer == Answer::Ok;
        self.received().into_iter().filter(is_ok).map(|received| received.payload).collect()
    }

    /// Waits until `count` requests have come to the webhook in all.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when they do not come within a minute.
    pub async fn wait_for(&self, count: usize) -> io::Result<()> {
        let mut seen = self.desk.count.subscribe();
        let waiting = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| *seen >= count)).await;
        waiting.map(|_| ()).map_err(|_| io::ErrorKind::TimedOut.into())
    }

    /// Serves until this future is dropped.
    pub async fn serve(mut self) {
        let _ = (&mut self.server).await;
    }
}

impl Drop for SlackStandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, Orders> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, payload: Value, own_answer: Answer) -> Answer {
        let mut state = self.state();
        let answer = state.next.pop_front().unwrap_or(own_answer);
        if state.received.len() == MAX_MESSAGES {
            state.received.pop_front();
        }
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        state.received.push_back(Received { payload, answer, at_ms });
        drop(state);
        self.count.send_modify(|count| *count += 1);
        answer
    }
}

fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/messages", get(messages).delete(forget))
        .route("/answers", post(order))
        .route("/services/{team}/{bot}/{token}", post(webhook))
        .with_state(desk)
}

async fn webhook(
    State(desk): State<Arc<Desk>>,
    Path((team, bot, token)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let payload = read_payload(&headers, &body);
    let asked = format!("/services/{team}/{bot}/{token}");
    let own_answer = if asked == WEBHOOK_PATH {
        payload.as_ref().map_or(Answer::InvalidPayload, judge)
    } else if WEBHOOK_PATH.starts_with(&format!("/services/{team}/{bot}/")) {
        Answer::InvalidToken
    } else {
        Answer::NoService
    };
    let answer = desk.take(payload.unwrap_or_default(), own_answer);
    if answer == Answer::Silence {
        // Longer than any client waits; the connection then ends without an answer.
        std::future::pending::<()>().await;
    }
    answer.into_response()
}

/// Slack takes JSON, and forms whose field `payload` is JSON; of the two, this stand-in takes the first.
fn read_payload(headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    kind.starts_with("application/json").then(|| serde_json::from_slice(body).ok()).flatten()
}

/// What Slack says of a payload.
fn judge(payload: &Value) -> Answer {
    let Some(fields) = payload.as_object() else { return Answer::InvalidPayload };
    let text_is_there = fields.get("text").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let blocks = match fields.get("blocks") {
        None => &Vec::new(),
        Some(Value::Array(blocks)) => blocks,
        Some(_) => return Answer::InvalidBlocks,
    };
    if blocks.len() > MAX_BLOCKS || !blocks.iter().all(is_good_block) {
        return Answer::InvalidBlocks;
    }
    if text_is_there || !blocks.is_empty() { Answer::Ok } else { Answer::NoText }
}

fn is_good_block(block: &Value) -> bool {
    let is_good_text = |text: &Value| {
        let kind = text.get("type").and_then(Value::as_str);
        let words = text.get("text").and_then(Value::as_str).unwrap_or_default();
        matches!(kind, Some("mrkdwn" | "plain_text"))
            && !words.is_empty()
            && words.chars().count() <= MAX_SECTION_TEXT
    };
    match block.get("type").and_then(Value::as_str) {
        Some("section") => {
            let fields = block.get("fields").and_then(Value::as_array);
            block.get("text").is_some_and(is_good_text)
                || fields.is_some_and(|fields| !fields.is_empty() && fields.iter().all(is_good_text))
        }
        Some("context") => {
            let elements = block.get("elements").and_then(Value::as_array);
            elements.is_some_and(|all| !all.is_empty() && all.len() <= 10 && all.iter().all(is_good_text))
        }
        Some("header") => block.get("text").is_some_and(is_good_text),
        Some("divider") => true,
        _ => false,
    }
}

/// Everything received, newest first.
async fn messages(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let received: Vec<Received> = desk.state().received.iter().rev().cloned().collect();
    Json(json!({"messages": received}))
}

async fn forget(State(desk): State<Arc<Desk>>) -> StatusCode {
    desk.state().received.clear();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Order {
    answers: Vec<Answer>,
}

/// Orders answers from outside: `{"answers":["channel_is_archived",{"rate_limited":2}]}`.
async fn order(State(desk): State<Arc<Desk>>, Json(order): Json<Order>) -> StatusCode {
    desk.state().next.extend(order.answers);
    StatusCode::NO_CONTENT
}

async fn page(State(desk): State<Arc<Desk>>) -> Html<String> {
    let mut rows = String::new();
    for received in desk.state().received.iter().rev() {
        let text = received.payload.get("text").and_then(Value::as_str).unwrap_or("(no text)");
        rows.push_str(&format!("<li><b>{}</b> {}</li>", received.answer.word(), escape(text)));
    }
    if rows.is_empty() {
        rows.push_str("<li>Nothing yet.</li>");
    }
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\">\
         <title>Slack stand-in</title><h1>Slack stand-in</h1><p>What came to the webhook, newest first.</p><ol>{rows}</ol></html>"
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_judged_as_slack_does() {
        let section = |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": text}});
        assert_eq!(judge(&json!({"text": "hi"})), Answer::Ok);
        assert_eq!(judge(&json!({"blocks": [section("hi")]})), Answer::Ok);
        assert_eq!(judge(&json!([])), Answer::InvalidPayload);
        assert_eq!(judge(&json!({})), Answer::NoText);
        assert_eq!(judge(&json!({"text": ""})), Answer::NoText);
        for blocks in [
            json!("x"),
            json!([section("")]),
            json!([section(&"x".repeat(3001))]),
            json!([{"type": "poem"}]),
            json!(vec![section("x"); 51]),
        ] {
            assert_eq!(judge(&json!({"text": "hi", "blocks": blocks})), Answer::InvalidBlocks);
        }
    }
}
