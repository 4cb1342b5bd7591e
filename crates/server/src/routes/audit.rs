//! The audit trail: looked into, followed, exported, verified.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::Utc;
use futures_util::{Stream, stream};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use temps_store::{AttemptFilter, AttemptRecord, AttemptResult, AuditFilter, AuditRecord, StoreError};
use tokio::sync::watch;

use super::answer::{Answer, Failure};
use super::extract::Query;
use super::paging::{self, Cursor};
use super::streams::{self, Ending};
use crate::api::audit::{AuditCheck, AuditEntry, AuditQuery, AuditStreamQuery};
use crate::api::page::Page;
use crate::app::App;
use crate::audit::report;
use crate::auth::Identity;

/// Records that are read at once for a stream or an export. Each may have 64 KiB.
const BATCH: usize = 100;

/// The kind of an attempt to deliver an event in an export.
const ATTEMPT: &str = "delivery.attempt";

/// Who delivers.
const HOST: &str = "host";

/// The audit trail, newest first.
#[utoipa::path(get, path = "/api/audit", tag = "audit", operation_id = "listAudit", params(AuditQuery),
    responses((status = 200, description = "A page of the trail", body = Page<AuditEntry>)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<AuditQuery>,
) -> Answer<Json<Page<AuditEntry>>> {
    let limit = paging::limit(query.limit)?;
    let filter = AuditFilter {
        plugin: query.plugin,
        kind: query.kind,
        actor: query.actor,
        event_id: query.event_id,
        since: query.since,
        until: query.until,
        after_seq: None,
        before_seq: Cursor::read('u', query.cursor.as_deref())?.map(|cursor| cursor.place),
        limit: limit as usize + 1,
        newest_first: true,
    };
    let found = app.host().audit(filter).await?;
    Ok(Json(paging::page('u', found, limit, |record| record.seq, entry)))
}

/// New lines of the trail as they are written, each a server-sent event `record` whose id is its `seq`. A caller that
/// comes back with `Last-Event-ID` misses none. A stream ends after an hour.
#[utoipa::path(get, path = "/api/audit/stream", tag = "audit", operation_id = "streamAudit", params(AuditStreamQuery),
    responses((status = 200, description = "A stream of lines", body = AuditEntry, content_type = "text/event-stream")))]
pub(super) async fn follow(
    State(app): State<App>,
    Query(query): Query<AuditStreamQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let changes = app.host().audit_changes();
    let last_seen =
        headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let mut walk = Walk::new(&query);
    walk.filter.after_seq = match last_seen.or(query.after) {
        None if query.since.is_none() => Some(end_of_the_trail(&app).await?),
        after => after,
    };
    let follower = Follower { ending: Ending::new(&app), app, changes, walk };
    Ok(Sse::new(follower.into_stream()).keep_alive(streams::keep_alive()).into_response())
}

async fn end_of_the_trail(app: &App) -> Answer<i64> {
    let newest = AuditFilter { limit: 1, newest_first: true, ..AuditFilter::default() };
    Ok(app.host().audit(newest).await?.first().map_or(0, |record| record.seq))
}

/// The trail as JSON lines, oldest first, one for each record and, with the kind `delivery.attempt`, for each attempt to
/// deliver an event, whose `seq` is its place among the attempts. An answer without its end is broken off, so that a file
/// which is not whole can be told from one that is.
#[utoipa::path(get, path = "/api/audit/export", tag = "audit", operation_id = "exportAudit", params(AuditStreamQuery),
    responses((status = 200, description = "One entry a line", body = AuditEntry, content_type = "application/x-ndjson")))]
pub(super) async fn export(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Query(query): Query<AuditStreamQuery>,
) -> Answer<Response> {
    let mut walk = Walk::new(&query);
    // What is written while the export goes on is not part of it, so it ends also on a busy host.
    let end = end_of_the_trail(&app).await?;
    walk.filter.before_seq = Some(end.saturating_add(1));
    let attempts = Attempts::new(&app, &query).await?;
    app.host().record_audit("audit.exported", None, &identity.actor(), json!({ "up_to": end }));
    let both = Both { walk, attempts, app };
    let lines = stream::unfold(Some(both), |state| async move {
        let mut both = state?;
        match both.next().await {
            Ok(None) => None,
            Ok(Some(lines)) => Some((Ok(Bytes::from(lines)), Some(both))),
            Err(error) => {
                tracing::error!(%error, "an export of the audit trail was broken off");
                Some((Err(error), None))
            }
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

fn line(entry: &AuditEntry) -> String {
    // An entry that was read from the trail can be written again.
    let mut line = serde_json::to_string(entry).unwrap_or_default();
    line.push('\n');
    line
}

/// Records and attempts on their way into an export, by the time at which they happened.
struct Both {
    walk: Walk,
    attempts: Attempts,
    app: App,
}

impl Both {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Result<Option<String>, StoreError> {
        let mut lines = String::new();
        for _ in 0..BATCH {
            if self.walk.ready.is_empty() && !self.walk.ended {
                self.walk.read(&self.app).await?;
            }
            if self.attempts.ready.is_empty() && !self.attempts.ended {
                self.attempts.read(&self.app).await?;
            }
            let attempt_is_next = match (self.walk.ready.front(), self.attempts.ready.front()) {
                (None, None) => break,
                (Some(record), Some(attempt)) => attempt.ended_at < record.at,
                (record, _) => record.is_none(),
            };
            let next = match attempt_is_next {
                true => self.attempts.ready.pop_front().map(of_attempt),
                false => self.walk.ready.pop_front().map(entry),
            };
            lines.extend(next.as_ref().map(line));
        }
        Ok((!lines.is_empty()).then_some(lines))
    }
}

/// A walk through the delivery attempts, oldest first, a few at a time.
struct Attempts {
    filter: AttemptFilter,
    event_id: Option<String>,
    ready: VecDeque<AttemptRecord>,
    ended: bool,
}

impl Attempts {
    async fn new(app: &App, query: &AuditStreamQuery) -> Answer<Self> {
        let kind = query.kind.as_deref().unwrap_or(ATTEMPT);
        let is_meant =
            kind == ATTEMPT || kind.strip_suffix('*').is_some_and(|begin| ATTEMPT.starts_with(begin));
        let by_host = query.actor.as_deref().is_none_or(|actor| actor == HOST);
        let seq = match &query.event_id {
            Some(id) => app.host().store().event(id).await?.map(|entry| entry.seq),
            None => None,
        };
        // What ends while the export goes on is not part of it.
        let now = Utc::now();
        let filter = AttemptFilter {
            plugin: query.plugin.clone(),
            seq,
            result: None,
            since: query.since,
            until: Some(query.until.map_or(now, |until| until.min(now))),
            after: None,
            limit: BATCH,
        };
        // A place among the records says nothing about attempts.
        let ended = !is_meant || !by_host || query.after.is_some();
        Ok(Self { filter, event_id: query.event_id.clone(), ready: VecDeque::new(), ended })
    }

    /// Takes the next attempts; none only at the end.
    async fn read(&mut self, app: &App) -> Result<(), StoreError> {
        while self.ready.is_empty() && !self.ended {
            let found = app.host().store().attempts(self.filter.clone()).await?;
            self.filter.after = found.last().map(|last| (last.ended_at, last.id));
            self.ended = found.is_empty();
            let wanted = self.event_id.as_deref();
            let is_wanted = |attempt: &AttemptRecord| wanted.is_none_or(|id| attempt.event_id == id);
            self.ready = found.into_iter().filter(is_wanted).collect();
        }
        Ok(())
    }
}

fn of_attempt(attempt: AttemptRecord) -> AuditEntry {
    let result = match attempt.result {
        AttemptResult::Settled => "settled",
        AttemptResult::Failed => "failed",
        AttemptResult::Dead => "dead",
    };
    let detail = json!({
        "event_id": attempt.event_id,
        "event_type": attempt.event_type,
        "event_seq": attempt.seq,
        "attempt": attempt.attempt,
        "via": attempt.via.as_str(),
        "result": result,
        "answer": attempt.answer,
        "sent_at": attempt.sent_at,
        "latency_ms": attempt.latency_ms,
    });
    AuditEntry {
        seq: attempt.id,
        at: attempt.ended_at,
        kind: ATTEMPT.to_owned(),
        plugin: Some(attempt.plugin),
        actor: HOST.to_owned(),
        detail,
    }
}

/// A walk through the trail, oldest first, a few records at a time.
struct Walk {
    filter: AuditFilter,
    ready: VecDeque<AuditRecord>,
    /// Whether the last look found nothing.
    ended: bool,
}

impl Walk {
    fn new(query: &AuditStreamQuery) -> Self {
        let filter = AuditFilter {
            plugin: query.plugin.clone(),
            kind: query.kind.clone(),
            actor: query.actor.clone(),
            event_id: query.event_id.clone(),
            since: query.since,
            until: query.until,
            after_seq: query.after,
            before_seq: None,
            limit: BATCH,
            newest_first: false,
        };
        Self { filter, ready: VecDeque::new(), ended: false }
    }

    /// Takes the next records; none when the walk is at the end for now.
    async fn read(&mut self, app: &App) -> Result<(), StoreError> {
        self.ready = app.host().store().audit(self.filter.clone()).await?.into();
        self.ended = self.ready.is_empty();
        if let Some(last) = self.ready.back() {
            self.filter.after_seq = Some(last.seq);
        }
        Ok(())
    }
}

struct Follower {
    app: App,
    ending: Ending,
    changes: watch::Receiver<()>,
    walk: Walk,
}

impl Follower {
    fn into_stream(self) -> impl Stream<Item = Result<SseEvent, Infallible>> + Send {
        stream::unfold(self, |mut follower| async move {
            let record = follower.next().await?;
            let id = record.seq.to_string();
            Some((Ok(streams::json_event("record", &entry(record)).id(id)), follower))
        })
    }

    /// The next record; `None` when the stream is over or the store fails, so that the caller comes back.
    async fn next(&mut self) -> Option<AuditRecord> {
        loop {
            if let Some(record) = self.walk.ready.pop_front() {
                return Some(record);
            }
            // Marked as seen before the read: what is written meanwhile wakes us again.
            self.changes.mark_unchanged();
            self.walk.read(&self.app).await.ok()?;
            if self.walk.ready.is_empty() {
                self.ending.unless_over(self.changes.changed()).await?.ok()?;
            }
        }
    }
}

/// Begins to verify the trail, or joins the verification that is under way. It goes on by itself; ask for it with GET.
#[utoipa::path(post, path = "/api/audit/verify", tag = "audit", operation_id = "verifyAudit",
    responses((status = 202, description = "It is under way", body = AuditCheck)))]
pub(super) async fn verify(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
) -> Answer<(StatusCode, Json<AuditCheck>)> {
    let check = app.host().verify_audit(&identity.actor()).await;
    Ok((StatusCode::ACCEPTED, Json(report(&check))))
}

/// The verification that is under way, or the last one since the daemon started.
#[utoipa::path(get, path = "/api/audit/verify", tag = "audit", operation_id = "getAuditCheck",
    responses((status = 200, description = "How it stands", body = AuditCheck)))]
pub(super) async fn checked(State(app): State<App>) -> Answer<Json<AuditCheck>> {
    let check = app.host().last_audit_check();
    let check = check.ok_or_else(|| {
        Failure::not_found("the audit trail was not verified since the daemon started".to_owned())
            .hint("POST /api/audit/verify begins it")
    })?;
    Ok(Json(report(&check)))
}

fn entry(record: AuditRecord) -> AuditEntry {
    AuditEntry {
        seq: record.seq,
        at: record.at,
        kind: record.kind,
        plugin: record.plugin,
        actor: record.actor,
        detail: record.detail,
    }
}
