//! Requests and their answers as steps: headers, and bodies up to a bound. A body passes by here; it never waits.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use super::{Open, PluginTap, mask};

/// Bytes of a body that are kept.
const MAX_BODY: usize = 64 * 1024;

/// One request on its way, and then its answer. Without a watcher it does nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exchange(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    tap: PluginTap,
    id: u64,
    /// What was not told yet of the request.
    request: Mutex<Option<Request>>,
}

#[derive(Debug)]
struct Request {
    method: String,
    path: String,
    headers: HeaderMap,
    body: Kept,
}

/// What is kept of a body.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    length: u64,
    whole: bool,
}

impl Kept {
    fn take(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let room = MAX_BODY - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl PluginTap {
    /// The host asks over HTTP.
    pub(crate) fn exchange(&self, method: &str, path: &str, headers: &HeaderMap) -> Exchange {
        let Some(open) = self.watched() else {
            return Exchange::default();
        };
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: headers.clone(),
            body: Kept::default(),
        };
        let (tap, id) = (self.clone(), open.watchers.next_request());
        Exchange(Some(Arc::new(Inner { tap, id, request: Mutex::new(Some(request)) })))
    }

    /// The host asks without a body, with nothing but the headers that each request has.
    pub(crate) fn request(&self, method: &str, path: &str) -> Exchange {
        let mut headers = HeaderMap::new();
        if let Some(open) = self.watched() {
            headers.insert(header::HOST, http::HeaderValue::from_static("localhost"));
            headers.insert(header::AUTHORIZATION, http::HeaderValue::from_static("Bearer [masked]"));
            if let Ok(name) = open.plugin.parse() {
                headers.insert("x-temps-plugin", name);
            }
        }
        let exchange = self.exchange(method, path, &headers);
        exchange.sent();
        exchange
    }
}

impl Exchange {
    /// A part of the request's body.
    pub(crate) fn sends(&self, bytes: &[u8]) {
        if let Some(inner) = &self.0
            && let Some(request) = &mut *inner.request.lock().unwrap_or_else(PoisonError::into_inner)
        {
            request.body.take(bytes);
        }
    }

    /// The request is sent whole.
    pub(crate) fn sent(&self) {
        self.tell_request(true);
    }

    fn tell_request(&self, whole: bool) {
        let Some(inner) = &self.0 else { return };
        let Some(mut request) = inner.request.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        request.body.whole = whole;
        inner.tap.tell_with(|open| {
            let mut step = json!({"from": "host", "kind": "http_request", "id": inner.id, "method": request.method,
                "path": mask::path(&request.path, &open.secrets()), "headers": headers(&request.headers, open)});
            put_body(&mut step, &request.body, &request.headers, open);
            step
        });
    }

    /// The plugin answered with this status, and nothing else of the answer is looked at.
    pub(crate) fn answered(&self, status: u16) {
        let mut answer = self.answers(status, &HeaderMap::new());
        answer.ends();
    }

    /// The head of the plugin's answer came; its body passes by.
    pub(crate) fn answers(&self, status: u16, headers: &HeaderMap) -> Answering {
        // An answer that comes early ends what is told of the request.
        self.tell_request(false);
        let endless = status == 101 || kind(headers).starts_with("text/event-stream");
        let mut answering = Answering(self.0.as_ref().map(|inner| {
            let (inner, headers, body) = (Arc::clone(inner), headers.clone(), Kept::default());
            Box::new(Answer { inner, status, headers, body, endless })
        }));
        if endless {
            answering.ends();
        }
        answering
    }
}

/// An answer on its way. It is told at its end, and when it is dropped before.
#[derive(Debug, Default)]
pub(crate) struct Answering(Option<Box<Answer>>);

#[derive(Debug)]
struct Answer {
    inner: Arc<Inner>,
    status: u16,
    headers: HeaderMap,
    body: Kept,
    /// Whether the body has no end that is waited for.
    endless: bool,
}

impl Answering {
    /// A part of the body.
    pub(crate) fn receives(&mut self, bytes: &[u8]) {
        if let Some(answer) = &mut self.0 {
            answer.body.take(bytes);
        }
    }

    /// The body ended.
    pub(crate) fn ends(&mut self) {
        if let Some(answer) = self.0.take() {
            tell(*answer, true);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            tell(*answer, false);
        }
    }
}

fn tell(mut answer: Answer, whole: bool) {
    answer.body.whole = whole;
    let (inner, status) = (answer.inner, answer.status);
    inner.tap.tell_with(|open| {
        let mut step = json!({"from": "plugin", "kind": "http_response", "id": inner.id, "status": status,
            "headers": headers(&answer.headers, open)});
        if answer.endless {
            step["stream"] = true.into();
        } else {
            put_body(&mut step, &answer.body, &answer.headers, open);
        }
        step
    });
}

/// Headers as a transcript has them. Credentials keep nothing but the scheme of the host's own.
fn headers(given: &HeaderMap, open: &Open) -> Value {
    let secrets = open.secrets();
    let own = format!("Bearer {}", open.secret.expose());
    let mut shown = Map::new();
    for name in given.keys() {
        let all: Vec<_> =
            given.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let value = all.join(", ");
        let is_own =
            *name == header::AUTHORIZATION && (value == own || value == format!("Bearer {}", mask::MASK));
        let value = if is_own {
            format!("Bearer {}", mask::MASK)
        } else if mask::is_secret_name(name.as_str()) {
            mask::MASK.to_owned()
        } else {
            mask::path(&value, &secrets)
        };
        shown.insert(in_capitals(name.as_str()), value.into());
    }
    shown.into()
}

/// `x-temps-plugin` as `X-Temps-Plugin`.
fn in_capitals(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    });
    words.collect::<Vec<_>>().join("-")
}

fn kind(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim().to_ascii_lowercase()
}

/// What is kept of a body: JSON as it is, a text as a text, other bytes as base64; of a longer one its beginning.
fn put_body(step: &mut Value, body: &Kept, headers: &HeaderMap, open: &Open) {
    if body.length == 0 {
        return;
    }
    let whole = body.whole && body.length == body.bytes.len() as u64;
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    if !whole || encoded {
        step["body_bytes"] = body.length.into();
    }
    // Compressed, a secret could not be found.
    if encoded {
        return;
    }
    let secrets = open.secrets();
    let cut = if whole { 0 } else { mask::begun_at_the_end(&body.bytes, &secrets) };
    let bytes = &body.bytes[..body.bytes.len() - cut];
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        // Only the last character is cut.
        Err(error) if !whole && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let Some(text) = text else {
        step["body_base64"] = STANDARD.encode(mask::bytes(bytes, &secrets)).into();
        return;
    };
    let json = kind(headers).contains("json") && whole;
    match serde_json::from_str::<Value>(text).ok().filter(|_| json) {
        Some(mut value) => {
            mask::json(&mut value, &secrets);
            mask::secret_fields(&mut value);
            step["body"] = value;
        }
        None => step["body"] = form(text, headers, &secrets).into(),
    }
}

/// A text; that of a form has fields with names.
fn form(text: &str, headers: &HeaderMap, secrets: &[String]) -> String {
    if kind(headers).starts_with("application/x-www-form-urlencoded") {
        return mask::path(&format!("?{text}"), secrets)[1..].to_owned();
    }
    mask::text(text, secrets, mask::secret_fields)
}
