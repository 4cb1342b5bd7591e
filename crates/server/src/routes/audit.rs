//! The audit trail, looked into.

use axum::Json;
use axum::extract::State;
use temps_store::AuditFilter;

use super::answer::Answer;
use super::extract::Query;
use super::paging::{self, Cursor};
use crate::api::audit::{AuditEntry, AuditQuery};
use crate::api::page::Page;
use crate::app::App;

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
        since: query.since,
        until: query.until,
        after_seq: None,
        before_seq: Cursor::read('u', query.cursor.as_deref())?.map(|cursor| cursor.place),
        limit: limit as usize + 1,
        newest_first: true,
    };
    let found = app.host().audit(filter).await?;
    let page = paging::page(
        'u',
        found,
        limit,
        |record| record.seq,
        |record| AuditEntry {
            seq: record.seq,
            at: record.at,
            kind: record.kind,
            plugin: record.plugin,
            actor: record.actor,
            detail: record.detail,
        },
    );
    Ok(Json(page))
}
