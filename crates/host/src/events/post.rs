//! `POST /_events`: how a plugin without a channel gets one event. One connection for one event, with a time limit for all of it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use temps_protocol::limits::EVENT_TIMEOUT;
use tokio_util::task::AbortOnDropHandle;

use crate::plugin::{Link, socket};

/// How long one attempt may take, from connecting to the status.
const TIMEOUT: Duration = EVENT_TIMEOUT;

/// How long connecting may take. The plugin is on the same machine; one that takes no connection is stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of a refusal's body that are read, to say what the plugin said.
const MAX_REASON_BYTES: usize = 1024;

/// Longest head of an answer in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Why a post did not settle its event.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// There was no answer. The plugin may have gone; whether it did shows at once elsewhere.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The plugin answered with something else than success.
    #[error("answered {status}: {said}")]
    Refused {
        /// Status of the answer.
        status: u16,
        /// The beginning of its body.
        said: String,
    },
    /// The plugin took too long.
    #[error("no answer in {} s", TIMEOUT.as_secs())]
    Slow,
}

/// Posts one event (its own JSON). Returns what the plugin answered.
pub(super) async fn post(link: &Link, json: &str) -> Result<String, PostError> {
    tokio::time::timeout(TIMEOUT, attempt(link, json)).await.unwrap_or(Err(PostError::Slow))
}

async fn attempt(link: &Link, json: &str) -> Result<String, PostError> {
    let stream =
        socket::connect(&link.socket, link.launcher_pid, CONNECT_TIMEOUT).await.map_err(no_answer)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(no_answer)?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::builder()
        .method(Method::POST)
        .uri("/_events")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", link.secret.expose()))
        .header("x-temps-plugin", link.name.as_str())
        .header("x-temps-request-id", uuid::Uuid::now_v7().to_string())
        .body(Full::new(Bytes::copy_from_slice(json.as_bytes())))
        .map_err(no_answer)?;
    let told = link.tap.exchange("POST", "/_events", request.headers());
    told.sends(json.as_bytes());
    told.sent();
    let response = sender.send_request(request).await.map_err(no_answer)?;
    let status = response.status();
    told.answered(status.as_u16());
    if status.is_success() {
        return Ok(format!("answered {}", status.as_u16()));
    }
    let body = Limited::new(response.into_body(), MAX_REASON_BYTES).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    Err(PostError::Refused {
        status: status.as_u16(),
        said: String::from_utf8_lossy(&body).trim().to_owned(),
    })
}

fn no_answer(error: impl std::fmt::Display) -> PostError {
    PostError::NoAnswer(error.to_string())
}
