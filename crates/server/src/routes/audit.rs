//! The audit trail: looked into, followed, exported, verified.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::{Stream, stream};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use temps_store::{AuditFilter, AuditRecord, StoreError};
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

/// The trail as JSON lines, oldest first, one for each record. An answer that ends without its end is broken off, so
/// that a file which is not whole can be told from one that is.
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
    app.host().record_audit("audit.exported", None, &identity.actor(), json!({ "up_to": end }));
    let lines = stream::unfold(Some((walk, app)), |state| async move {
        let (mut walk, app) = state?;
        match walk.read(&app).await {
            Ok(()) if walk.ready.is_empty() => None,
            Ok(()) => {
                let lines: String = walk.ready.drain(..).map(line).collect();
                Some((Ok(Bytes::from(lines)), Some((walk, app))))
            }
            Err(error) => {
                tracing::error!(%error, "an export of the audit trail was broken off");
                Some((Err(error), None))
            }
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

fn line(record: AuditRecord) -> String {
    // An entry that was read from the trail can be written again.
    let mut line = serde_json::to_string(&entry(record)).unwrap_or_default();
    line.push('\n');
    line
}

/// A walk through the trail, oldest first, a few records at a time.
struct Walk {
    filter: AuditFilter,
    ready: VecDeque<AuditRecord>,
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
        Self { filter, ready: VecDeque::new() }
    }

    /// Takes the next records; none when the walk is at the end for now.
    async fn read(&mut self, app: &App) -> Result<(), StoreError> {
        self.ready = app.host().store().audit(self.filter.clone()).await?.into();
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
