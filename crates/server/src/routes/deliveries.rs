//! Deliveries: what became of each event at each plugin.

use axum::Json;
use axum::extract::State;
use temps_store::{DeliveryRecord, DeliveryState};

use super::answer::Answer;
use super::extract::Query;
use super::paging::{self, Cursor};
use crate::api::events::{Delivery, DeliveryQuery, DeliveryStatus};
use crate::api::page::Page;
use crate::app::App;

/// Deliveries, oldest first. All deliveries of the page's last event are on it, also beyond the limit.
#[utoipa::path(get, path = "/api/deliveries", tag = "events", operation_id = "listDeliveries", params(DeliveryQuery),
    responses((status = 200, description = "A page of deliveries", body = Page<Delivery>)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<DeliveryQuery>,
) -> Answer<Json<Page<Delivery>>> {
    let limit = paging::limit(query.limit)? as usize;
    let after = Cursor::read('y', query.cursor.as_deref())?.map_or(0, |cursor| cursor.place);
    let state = query.state.map(|state| match state {
        DeliveryStatus::Sent => DeliveryState::Sent,
        DeliveryStatus::Settled => DeliveryState::Settled,
        DeliveryStatus::Retrying => DeliveryState::Retrying,
        DeliveryStatus::Dead => DeliveryState::Dead,
    });
    let found = app.host().store().deliveries(query.plugin.as_deref(), state, after, limit).await?;
    let full = found.len() >= limit;
    let next_cursor = found.last().filter(|_| full).map(|last| Cursor::write('y', last.seq));
    Ok(Json(Page { items: found.into_iter().map(delivery).collect(), next_cursor }))
}

fn delivery(record: DeliveryRecord) -> Delivery {
    Delivery {
        plugin: record.plugin,
        seq: record.seq,
        event_id: record.event_id,
        state: match record.state {
            DeliveryState::Sent => DeliveryStatus::Sent,
            DeliveryState::Settled => DeliveryStatus::Settled,
            DeliveryState::Retrying => DeliveryStatus::Retrying,
            DeliveryState::Dead => DeliveryStatus::Dead,
        },
        attempts: record.attempts,
        via: record.via,
        outcome: record.outcome,
        sent_at: record.sent_at,
        settled_at: record.settled_at,
        latency_ms: record.latency_ms,
    }
}
