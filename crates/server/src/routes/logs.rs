//! A plugin's log: its last lines, and those that follow as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event as Sse, Sse as SseResponse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use temps_host::host::LogLine as HostLine;
use tokio::sync::broadcast::error::RecvError;

use super::answer::{Answer, Failure};
use super::extract::{Path, Query};
use super::streams::{self, Ending};
use crate::api::page::Page;
use crate::api::plugins::{LogLine, LogQuery};
use crate::app::App;

/// Lines that are given when the caller names no number.
const DEFAULT_LINES: u32 = 100;

/// Most lines that are given; the host keeps no more in memory.
const MAX_LINES: u32 = 1000;

/// The last lines of a plugin's log, oldest first. With `follow=true` they come as server-sent events `log`, and new
/// ones after them; an event `gap` says how many lines were lost to a reader that was too slow.
#[utoipa::path(get, path = "/api/plugins/{name}/logs", tag = "plugins", operation_id = "readLogs",
    params(("name" = String, Path, description = "Name of the plugin"), LogQuery),
    responses((status = 200, description = "Lines, or a stream of them", content(
        (Page<LogLine> = "application/json"), (LogLine = "text/event-stream")))))]
pub(super) async fn read(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Answer<Response> {
    let lines = query.lines.unwrap_or(DEFAULT_LINES);
    if lines > MAX_LINES {
        return Err(Failure::invalid(format!("lines is {lines}; it must be at most {MAX_LINES}")));
    }
    let (past, coming) = app.host().logs(&name, lines as usize)?;
    if query.follow != Some(true) {
        let items = past.into_iter().map(line).collect::<Vec<_>>();
        return Ok(Json(Page { items, next_cursor: None }).into_response());
    }
    let state = (VecDeque::from(past), coming, Ending::new(&app));
    let events = stream::unfold(state, |(mut past, mut coming, ending)| async move {
        if let Some(next) = past.pop_front() {
            return Some((Ok::<_, Infallible>(sse(next)), (past, coming, ending)));
        }
        let received = ending.unless_over(coming.recv()).await?;
        let event = match received {
            Ok(next) => sse(next),
            Err(RecvError::Lagged(lost)) => Sse::default().event("gap").data(lost.to_string()),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), (past, coming, ending)))
    });
    Ok(SseResponse::new(events).keep_alive(streams::keep_alive()).into_response())
}

fn sse(from: HostLine) -> Sse {
    streams::json_event("log", &line(from))
}

fn line(from: HostLine) -> LogLine {
    LogLine {
        at: from.at,
        level: from.level.to_owned(),
        stream: from.stream.to_owned(),
        message: from.message,
        fields: from.fields,
    }
}
