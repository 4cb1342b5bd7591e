//! Deliveries: what became of each event at each plugin, and what operators do about it.

use axum::extract::State;
use axum::{Extension, Json};
use temps_host::events::{ReplayFrom, Which};
use temps_store::{AttemptFilter, AttemptRecord, DeliveryFilter, DeliveryRecord, DeliveryState, Seq};

use super::answer::{Answer, Failure};
use super::extract::{Body, OptionalBody, Path, Query};
use super::paging::{self, Cursor};
use super::plugins::look;
use crate::api::deliveries::{
    Attempt, AttemptQuery, AttemptResult, Delivery, DeliveryChange, DeliveryHistory, DeliveryProgress,
    DeliveryQuery, DeliveryStatus, Pause, PauseRequest, ReplayRequest,
};
use crate::api::page::Page;
use crate::api::plugins::Plugin;
use crate::app::App;
use crate::auth::Identity;

/// Attempts of one delivery that are shown. It has seven as a rule, and more when operators had it sent again.
const MAX_HISTORY: usize = 500;

/// What is said when an operator gives no reason.
const BY_HAND: &str = "paused by hand";

/// Longest reason for a pause in characters.
const MAX_REASON: usize = 500;

/// Deliveries, oldest first. All deliveries of the page's last event are on it, also beyond the limit.
#[utoipa::path(get, path = "/api/deliveries", tag = "deliveries", operation_id = "listDeliveries", params(DeliveryQuery),
    responses((status = 200, description = "A page of deliveries", body = Page<Delivery>)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<DeliveryQuery>,
) -> Answer<Json<Page<Delivery>>> {
    let limit = paging::limit(query.limit)? as usize;
    let filter = DeliveryFilter {
        plugin: query.plugin,
        state: query.state.map(state_of),
        seq: of_event(&app, query.event.as_deref()).await?,
        after: Cursor::read('y', query.cursor.as_deref())?.map_or(0, |cursor| cursor.place),
        limit,
    };
    let of_one_event = filter.seq.is_some();
    let found = app.host().store().deliveries(filter).await?;
    let full = found.len() >= limit && !of_one_event;
    let next_cursor = found.last().filter(|_| full).map(|last| Cursor::write('y', last.seq));
    Ok(Json(Page { items: found.into_iter().map(delivery).collect(), next_cursor }))
}

/// Attempts to deliver, by the time at which they ended: what a plugin received and answered between two times.
#[utoipa::path(get, path = "/api/attempts", tag = "deliveries", operation_id = "listAttempts", params(AttemptQuery),
    responses((status = 200, description = "A page of attempts", body = Page<Attempt>)))]
pub(super) async fn attempts(
    State(app): State<App>,
    Query(query): Query<AttemptQuery>,
) -> Answer<Json<Page<Attempt>>> {
    let limit = paging::limit(query.limit)? as usize;
    let cursor = Cursor::read('a', query.cursor.as_deref())?;
    let after =
        cursor.and_then(|cursor| Some((chrono::DateTime::from_timestamp_micros(cursor.place)?, cursor.tie)));
    let filter = AttemptFilter {
        plugin: query.plugin,
        seq: of_event(&app, query.event.as_deref()).await?,
        result: query.result.map(|result| match result {
            AttemptResult::Settled => temps_store::AttemptResult::Settled,
            AttemptResult::Failed => temps_store::AttemptResult::Failed,
            AttemptResult::Dead => temps_store::AttemptResult::Dead,
        }),
        since: query.since,
        until: query.until,
        after,
        limit: limit + 1,
    };
    let mut found = app.host().store().attempts(filter).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found
        .last()
        .filter(|_| more)
        .map(|last| Cursor::write_with_tie('a', last.ended_at.timestamp_micros(), last.id));
    Ok(Json(Page { items: found.into_iter().map(attempt).collect(), next_cursor }))
}

/// One event to one plugin, with all attempts. The event is named by its id, or by its `seq`.
#[utoipa::path(get, path = "/api/deliveries/{plugin}/{event}", tag = "deliveries", operation_id = "getDelivery",
    params(("plugin" = String, Path, description = "Name of the plugin"),
        ("event" = String, Path, description = "Id of the event, or its seq")),
    responses((status = 200, description = "Where it stands, and its attempts", body = DeliveryHistory)))]
pub(super) async fn get(
    State(app): State<App>,
    Path((plugin, event)): Path<(String, String)>,
) -> Answer<Json<DeliveryHistory>> {
    let seq = seq_of(&app, &event).await?;
    history(&app, plugin, seq, &event).await
}

/// Sends an event to a plugin again, whatever became of it before.
#[utoipa::path(post, path = "/api/deliveries/{plugin}/{event}/redeliver", tag = "deliveries", operation_id = "redeliver",
    params(("plugin" = String, Path, description = "Name of the plugin"),
        ("event" = String, Path, description = "Id of the event, or its seq")),
    responses((status = 200, description = "It is due now", body = DeliveryHistory)))]
pub(super) async fn redeliver(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((plugin, event)): Path<(String, String)>,
) -> Answer<Json<DeliveryHistory>> {
    let seq = seq_of(&app, &event).await?;
    app.host().events().redeliver(&plugin, Which::Event(seq), &identity.actor()).await?;
    history(&app, plugin, seq, &event).await
}

/// Gives up a delivery that is retried, held or dead, for good. Its attempts stay on record.
#[utoipa::path(post, path = "/api/deliveries/{plugin}/{event}/discard", tag = "deliveries", operation_id = "discard",
    params(("plugin" = String, Path, description = "Name of the plugin"),
        ("event" = String, Path, description = "Id of the event, or its seq")),
    responses((status = 200, description = "It is not open any more", body = DeliveryHistory)))]
pub(super) async fn discard(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((plugin, event)): Path<(String, String)>,
) -> Answer<Json<DeliveryHistory>> {
    let seq = seq_of(&app, &event).await?;
    app.host().events().discard(&plugin, Which::Event(seq), &identity.actor()).await?;
    history(&app, plugin, seq, &event).await
}

/// Sends all dead letters of a plugin again.
#[utoipa::path(post, path = "/api/plugins/{name}/deliveries/redeliver", tag = "deliveries",
    operation_id = "redeliverDeadLetters", params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "They are due now", body = DeliveryChange)))]
pub(super) async fn redeliver_all(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<DeliveryChange>> {
    let changed = app.host().events().redeliver(&name, Which::AllDead, &identity.actor()).await?;
    Ok(Json(DeliveryChange { plugin: name, changed }))
}

/// Gives up all dead letters of a plugin for good. Their attempts stay on record.
#[utoipa::path(post, path = "/api/plugins/{name}/deliveries/discard", tag = "deliveries",
    operation_id = "discardDeadLetters", params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "They are gone", body = DeliveryChange)))]
pub(super) async fn discard_all(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<DeliveryChange>> {
    let changed = app.host().events().discard(&name, Which::AllDead, &identity.actor()).await?;
    Ok(Json(DeliveryChange { plugin: name, changed }))
}

/// Sends nothing more to a plugin until it is resumed, also after a restart of the daemon. Its events collect.
#[utoipa::path(post, path = "/api/plugins/{name}/deliveries/pause", tag = "deliveries", operation_id = "pauseDeliveries",
    params(("name" = String, Path, description = "Name of the plugin")), request_body = Option<PauseRequest>,
    responses((status = 200, description = "Nothing is sent", body = Plugin)))]
pub(super) async fn pause(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    OptionalBody(request): OptionalBody<PauseRequest>,
) -> Answer<Json<Plugin>> {
    let reason = request.reason.as_deref().unwrap_or(BY_HAND);
    if reason.chars().count() > MAX_REASON {
        return Err(Failure::invalid(format!("the reason has more than {MAX_REASON} characters")));
    }
    app.host().events().pause(&name, reason, &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// Goes on with a plugin's deliveries, whoever paused them.
#[utoipa::path(post, path = "/api/plugins/{name}/deliveries/resume", tag = "deliveries", operation_id = "resumeDeliveries",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "Deliveries go on", body = Plugin)))]
pub(super) async fn resume(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<Plugin>> {
    app.host().events().resume(&name, &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// Delivers the journal to a plugin again, in order, from a place or a time on. What is retried or dead stays as it is.
#[utoipa::path(post, path = "/api/plugins/{name}/deliveries/replay", tag = "deliveries", operation_id = "replayDeliveries",
    params(("name" = String, Path, description = "Name of the plugin")), request_body = ReplayRequest,
    responses((status = 200, description = "They come again", body = DeliveryChange)))]
pub(super) async fn replay(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    Body(request): Body<ReplayRequest>,
) -> Answer<Json<DeliveryChange>> {
    let from = match (request.from_seq, request.since) {
        (Some(seq), None) => ReplayFrom::Seq(seq),
        (None, Some(at)) => ReplayFrom::Time(at),
        _ => return Err(Failure::invalid("a replay begins at from_seq or since; give one of them")),
    };
    let changed = app.host().events().replay(&name, from, &identity.actor()).await?;
    Ok(Json(DeliveryChange { plugin: name, changed }))
}

/// How far a plugin is; `None` when there is none of this name, or when it cannot be measured now.
pub(super) async fn progress(app: &App, name: &str) -> Option<DeliveryProgress> {
    let status = app.host().events().status(name)?;
    let lag = app.host().events().lag(name).await.ok()??;
    Some(DeliveryProgress {
        cursor: status.cursor,
        lag_events: lag.events,
        lag_seconds: lag.seconds(chrono::Utc::now()),
        unsettled: status.unsettled as u64,
        retrying: lag.open.retrying,
        dead: lag.open.dead,
        held: lag.open.held,
        last_delivered_at: status.last_delivered_at,
        failing: status.failing,
        paused: status.paused.map(|pause| Pause {
            reason: pause.reason,
            paused_by: pause.paused_by,
            since: pause.since,
        }),
    })
}

async fn history(app: &App, plugin: String, seq: Seq, event: &str) -> Answer<Json<DeliveryHistory>> {
    let store = app.host().store();
    let filter = DeliveryFilter {
        plugin: Some(plugin.clone()),
        seq: Some(seq),
        limit: 1,
        ..DeliveryFilter::default()
    };
    let found = store.deliveries(filter).await?.pop().map(delivery);
    let filter = AttemptFilter {
        plugin: Some(plugin.clone()),
        seq: Some(seq),
        limit: MAX_HISTORY,
        ..AttemptFilter::default()
    };
    let attempts: Vec<_> = store.attempts(filter).await?.into_iter().map(attempt).collect();
    if found.is_none() && attempts.is_empty() {
        let detail = format!("the event {event:?} has no delivery to a plugin named {plugin:?}");
        return Err(Failure::not_found(detail).hint("it may be on its way, or not be for this plugin"));
    }
    Ok(Json(DeliveryHistory { delivery: found, attempts }))
}

async fn of_event(app: &App, event: Option<&str>) -> Answer<Option<Seq>> {
    match event {
        Some(event) => seq_of(app, event).await.map(Some),
        None => Ok(None),
    }
}

/// The place of an event that is named by its id, or by its place: attempts outlive their event.
async fn seq_of(app: &App, event: &str) -> Answer<Seq> {
    if let Some(entry) = app.host().store().event(event).await? {
        return Ok(entry.seq);
    }
    event.parse().map_err(|_| {
        Failure::not_found(format!("there is no event {event:?}"))
            .hint("the journal keeps events for a week; older ones are found by their seq")
    })
}

fn delivery(record: DeliveryRecord) -> Delivery {
    Delivery {
        plugin: record.plugin,
        seq: record.seq,
        event_id: record.event_id,
        event_type: record.event_type,
        state: match record.state {
            DeliveryState::Sent => DeliveryStatus::Sent,
            DeliveryState::Settled => DeliveryStatus::Settled,
            DeliveryState::Retrying => DeliveryStatus::Retrying,
            DeliveryState::Dead => DeliveryStatus::Dead,
            DeliveryState::Held => DeliveryStatus::Held,
        },
        attempts: record.attempts,
        via: record.via.map(|via| via.as_str().to_owned()),
        outcome: record.outcome.map(Into::into),
        sent_at: record.sent_at,
        ended_at: record.ended_at,
        next_attempt_at: record.next_attempt_at,
        latency_ms: record.latency_ms,
    }
}

fn state_of(state: DeliveryStatus) -> DeliveryState {
    match state {
        DeliveryStatus::Sent => DeliveryState::Sent,
        DeliveryStatus::Settled => DeliveryState::Settled,
        DeliveryStatus::Retrying => DeliveryState::Retrying,
        DeliveryStatus::Dead => DeliveryState::Dead,
        DeliveryStatus::Held => DeliveryState::Held,
    }
}

fn attempt(record: AttemptRecord) -> Attempt {
    Attempt {
        id: record.id,
        plugin: record.plugin,
        seq: record.seq,
        event_id: record.event_id,
        event_type: record.event_type,
        attempt: record.attempt,
        via: record.via.as_str().to_owned(),
        result: match record.result {
            temps_store::AttemptResult::Settled => AttemptResult::Settled,
            temps_store::AttemptResult::Failed => AttemptResult::Failed,
            temps_store::AttemptResult::Dead => AttemptResult::Dead,
        },
        answer: record.answer.map(Into::into),
        sent_at: record.sent_at,
        ended_at: record.ended_at,
        latency_ms: record.latency_ms,
    }
}
