//! Forwarding: one request to the plugin and its answer back, never sent twice where that could be noticed.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, Uri, header};
use hyper::body::Incoming;

use super::body::{Download, Upload};
use super::connection::{ConnectError, Connection, Flight, Pool};
use super::refusal::Refusal;
use crate::tap::Answering;

/// The head of a request to the plugin.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

/// What came back, before its body was touched.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Connection,
}

impl Answer {
    /// The response with a body that gives the connection back at its end.
    pub(super) fn into_response(self, pool: Arc<Pool>, told: Answering) -> Response<Download> {
        let (parts, body) = self.response.into_parts();
        Response::from_parts(parts, Download::new(body, self.connection, pool, told))
    }
}

enum Failure {
    /// Nothing of it was sent, so it can be sent again.
    NotSent(Upload),
    /// A kept connection ended before a byte of a response came.
    WentAway,
    /// It is over.
    Final(Refusal),
}

/// Sends a request and waits for the head of its answer.
pub(super) async fn exchange(
    pool: &Arc<Pool>,
    outgoing: &Outgoing,
    upload: Upload,
    flight: Flight,
) -> Result<Answer, Refusal> {
    let empty = http_body::Body::is_end_stream(&upload);
    let repeatable = empty && is_idempotent(&outgoing.method);
    let mut upload = upload;
    let mut flight = Some(flight);
    let mut first = true;
    loop {
        // One kept connection may have gone away unnoticed; a second try goes over a new one, and is the last.
        let kept = if first { pool.reuse() } else { None };
        first = false;
        let (connection, was_kept) = match kept {
            Some(connection) => (connection, true),
            None => (pool.open().await.map_err(connect_refusal)?, false),
        };
        if let Some(flight) = flight.take() {
            connection.pulse.hold(flight);
        }
        match attempt(pool, connection, outgoing, upload).await {
            Ok(answer) => return Ok(answer),
            Err((Failure::Final(refusal), _)) => return Err(refusal),
            // A connection that was just opened and is gone again: the plugin is not well, so stop here.
            Err((Failure::NotSent(_) | Failure::WentAway, _)) if !was_kept => return Err(Refusal::BadAnswer),
            Err((Failure::NotSent(back), held)) => (upload, flight) = (back, held),
            Err((Failure::WentAway, held)) if repeatable => {
                upload = Upload::new(axum::body::Body::empty(), 0, pool.traffic().clone());
                flight = held;
            }
            Err((Failure::WentAway, _)) => return Err(Refusal::BadAnswer),
        }
    }
}

/// Sends over one connection. A failure gives back what is held for the request.
async fn attempt(
    pool: &Arc<Pool>,
    mut connection: Connection,
    outgoing: &Outgoing,
    upload: Upload,
) -> Result<Answer, (Failure, Option<Flight>)> {
    let state = upload.state();
    let pulse = connection.pulse.clone();
    let read_before = pulse.bytes_read();
    let mut request = Request::new(upload.over(pulse.clone()));
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = outgoing.uri.clone();
    *request.headers_mut() = outgoing.headers.clone();

    let mut sending = std::pin::pin!(connection.sender.try_send_request(request));
    // The wait for the first byte begins when the plugin has the whole request; until then the pulse watches.
    let sent = tokio::select! {
        biased;
        sent = &mut sending => Some(sent),
        () = state.ended() => tokio::time::timeout(pool.bounds().first_byte, &mut sending).await.ok(),
    };
    match sent {
        Some(Ok(response)) => {
            if is_event_stream(&response) {
                pulse.become_stream(pool.bounds().stream_idle);
            } else {
                pulse.beat();
            }
            Ok(Answer { response, connection })
        }
        None => Err((Failure::Final(Refusal::TooSlow), None)),
        Some(Err(mut error)) => {
            let held = pulse.take_flight();
            let failure = if state.too_large() {
                Failure::Final(Refusal::BodyTooLarge(pool.bounds().request_body))
            } else if state.broken() {
                Failure::Final(Refusal::BodyBroken)
            } else if pulse.was_cut() {
                Failure::Final(if state.waits_for_caller() { Refusal::BodySlow } else { Refusal::TooSlow })
            } else if let Some(request) = error.take_message() {
                Failure::NotSent(request.into_body())
            } else if pulse.bytes_read() == read_before {
                Failure::WentAway
            } else {
                Failure::Final(Refusal::BadAnswer)
            };
            Err((failure, held))
        }
    }
}

fn connect_refusal(error: ConnectError) -> Refusal {
    match error {
        ConnectError::Refused => Refusal::Unreachable,
        ConnectError::Slow => Refusal::TooSlow,
    }
}

fn is_event_stream(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
}

/// Methods that may be sent again without harm (RFC 9110, 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}
