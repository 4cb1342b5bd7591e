//! Events: the journal read in both directions, followed, and published into.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::Utc;
use futures_util::{Stream, stream};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use temps_protocol::PluginEvent;
use temps_protocol::event::{is_pattern, pattern_matches};
use temps_store::{JournalEntry, Seq};
use tokio::sync::watch;

use super::answer::{Answer, Failure};
use super::extract::{Body, Path, Query};
use super::paging::{self, Cursor};
use super::streams::{self, Ending};
use crate::api::events::{Event, EventQuery, NewEvent, PublishedEvent, StreamQuery};
use crate::api::page::Page;
use crate::app::App;
use crate::auth::Identity;

/// Events that are read from the journal at once.
const BATCH: usize = 500;

/// Events that one request looks through for a type; the next page goes on from there.
const MAX_SCANNED: usize = 10_000;

/// The journal, newest first, or oldest first after a `seq`. A page may be short, even empty, while `next_cursor` says
/// that there is more: with a type, only so many events are looked through at once.
#[utoipa::path(get, path = "/api/events", tag = "events", operation_id = "listEvents", params(EventQuery),
    responses((status = 200, description = "A page of events", body = Page<Event>)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<EventQuery>,
) -> Answer<Json<Page<Event>>> {
    check_pattern(query.event_type.as_deref())?;
    let limit = paging::limit(query.limit)? as usize;
    let forward = query.after.is_some();
    let name = if forward { 'e' } else { 'E' };
    let begin = match (Cursor::read(name, query.cursor.as_deref())?, query.after) {
        (Some(cursor), _) => cursor.place,
        (None, Some(after)) => after,
        (None, None) => Seq::MAX,
    };
    let mut scan = Scan { place: begin, found: Vec::new(), ended: false };
    let mut scanned = 0;
    while scan.found.len() < limit && scanned < MAX_SCANNED && !scan.ended {
        let store = app.host().store();
        let batch = match forward {
            true => store.events_after(scan.place, BATCH).await?,
            false => store.events_before(scan.place, BATCH).await?,
        };
        scanned += batch.len();
        scan.take(batch, limit, query.event_type.as_deref());
    }
    let next_cursor = (!scan.ended).then(|| Cursor::write(name, scan.place));
    Ok(Json(Page { items: scan.found, next_cursor }))
}

/// A walk through the journal that looks for events of a type.
struct Scan {
    place: Seq,
    found: Vec<Event>,
    ended: bool,
}

impl Scan {
    fn take(&mut self, batch: Vec<JournalEntry>, limit: usize, pattern: Option<&str>) {
        let last_batch = batch.len() < BATCH;
        let mut rest = batch.into_iter();
        for entry in rest.by_ref() {
            self.place = entry.seq;
            if pattern.is_none_or(|pattern| pattern_matches(pattern, &entry.event.event_type)) {
                self.found.push(event(entry));
            }
            if self.found.len() == limit {
                break;
            }
        }
        self.ended = last_batch && rest.next().is_none();
    }
}

/// One event.
#[utoipa::path(get, path = "/api/events/{id}", tag = "events", operation_id = "getEvent",
    params(("id" = String, Path, description = "Identity of the event")),
    responses((status = 200, description = "The event", body = Event)))]
pub(super) async fn get(State(app): State<App>, Path(id): Path<String>) -> Answer<Json<Event>> {
    let found = app.host().store().event(&id).await?;
    found
        .map(|entry| Json(event(entry)))
        .ok_or_else(|| Failure::not_found(format!("there is no event {id:?}")))
}

/// Publishes an event of the caller's own. It is durable when the answer comes.
#[utoipa::path(post, path = "/api/events", tag = "events", operation_id = "publishEvent", request_body = NewEvent,
    responses((status = 201, description = "It was published", body = PublishedEvent),
        (status = 200, description = "An event with this id was there already", body = PublishedEvent)))]
pub(super) async fn publish(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Body(new): Body<NewEvent>,
) -> Answer<(StatusCode, Json<PublishedEvent>)> {
    let event = PluginEvent {
        id: new.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
        event_type: new.event_type,
        timestamp: new.timestamp.unwrap_or_else(Utc::now),
        project_id: new.project_id,
        data: new.data.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
    };
    let (id, event_type) = (event.id.clone(), event.event_type.clone());
    let published = app.host().publish(event).await?;
    let status = if published.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    if !published.duplicate {
        let detail = json!({ "event_id": id, "event_type": event_type, "seq": published.seq });
        app.host().record_audit("event.published", None, &identity.actor(), detail);
    }
    Ok((status, Json(PublishedEvent { id, seq: published.seq, duplicate: published.duplicate })))
}

/// New events as they are published, each a server-sent event `event` whose id is its `seq`. A caller that comes back
/// with `Last-Event-ID` misses none. A stream ends after an hour.
#[utoipa::path(get, path = "/api/events/stream", tag = "events", operation_id = "streamEvents", params(StreamQuery),
    responses((status = 200, description = "A stream of events", body = Event, content_type = "text/event-stream")))]
pub(super) async fn follow(
    State(app): State<App>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    check_pattern(query.event_type.as_deref())?;
    let mut head = app.host().store().head();
    let last_seen =
        headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let after = last_seen.or(query.after).unwrap_or_else(|| *head.borrow_and_update());
    let follower = Follower {
        ending: Ending::new(&app),
        app,
        head,
        after,
        pattern: query.event_type,
        ready: VecDeque::new(),
    };
    Ok(Sse::new(follower.into_stream()).keep_alive(streams::keep_alive()).into_response())
}

struct Follower {
    app: App,
    ending: Ending,
    head: watch::Receiver<Seq>,
    after: Seq,
    pattern: Option<String>,
    ready: VecDeque<JournalEntry>,
}

impl Follower {
    fn into_stream(self) -> impl Stream<Item = Result<SseEvent, Infallible>> + Send {
        stream::unfold(self, |mut follower| async move {
            let entry = follower.next().await?;
            let id = entry.seq.to_string();
            Some((Ok(streams::json_event("event", &event(entry)).id(id)), follower))
        })
    }

    /// The next event that fits; `None` when the stream is over or the store fails, so that the caller comes back.
    async fn next(&mut self) -> Option<JournalEntry> {
        loop {
            while let Some(entry) = self.ready.pop_front() {
                if self
                    .pattern
                    .as_deref()
                    .is_none_or(|pattern| pattern_matches(pattern, &entry.event.event_type))
                {
                    return Some(entry);
                }
            }
            // Marked as seen before the read: what is published meanwhile wakes us again.
            let _ = *self.head.borrow_and_update();
            let batch = self.app.host().store().events_after(self.after, BATCH).await.ok()?;
            if let Some(last) = batch.last() {
                self.after = last.seq;
                self.ready = batch.into();
                continue;
            }
            self.ending.unless_over(self.head.changed()).await?.ok()?;
        }
    }
}

fn check_pattern(pattern: Option<&str>) -> Result<(), Failure> {
    match pattern {
        Some(pattern) if !is_pattern(pattern) => Err(Failure::invalid(format!(
            "type is {pattern:?}; it must be an event type, or a pattern like \"deployment.*\""
        ))),
        _ => Ok(()),
    }
}

fn event(entry: JournalEntry) -> Event {
    Event {
        seq: entry.seq,
        id: entry.event.id,
        event_type: entry.event.event_type,
        timestamp: entry.event.timestamp,
        project_id: entry.event.project_id,
        data: entry.event.data,
        published_at: entry.published_at,
    }
}
