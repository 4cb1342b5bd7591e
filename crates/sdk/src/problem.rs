//! Refusals of the SDK itself, as `application/problem+json`.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// One refusal: a status and a sentence.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    /// Seconds after which asking again makes sense.
    retry_after: Option<u64>,
}

impl Problem {
    /// `status` must be a status of HTTP; anything else becomes 500.
    pub(crate) fn new(status: u16, detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, detail: detail.into(), retry_after: None }
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let head = [(CONTENT_TYPE, "application/problem+json")];
        let wait = self.retry_after.map(|seconds| [("retry-after", seconds.to_string())]);
        match wait {
            Some(wait) => (self.status, head, wait, body.to_string()).into_response(),
            None => (self.status, head, body.to_string()).into_response(),
        }
    }
}
