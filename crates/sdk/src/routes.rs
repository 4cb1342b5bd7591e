//! All routes of a plugin's socket: those that the protocol asks for, the page, and the plugin's own.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};
use temps_protocol::PluginEvent;
use temps_protocol::limits::{MAX_EVENT_BYTES, MAX_FRAME_BYTES};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::auth::{self, RouteAuth, Secret};
use crate::channel::Channel;
use crate::context::PluginContext;
use crate::events::{Closed, Done, EventQueue, Outcome};
use crate::plugin::SharedPlugin;
use crate::problem::Problem;
use crate::ui;

/// How long `POST /_events` waits for the handler before it says that it does not know. Hosts give up after 30 s.
const POSTED_EVENT_TIMEOUT: Duration = Duration::from_secs(25);

/// How long a request to the plugin's own routes waits for the start hook. Hosts give up after 30 s.
const START_WAIT: Duration = Duration::from_secs(25);

/// Seconds after which a caller may try again what was too early or too much.
const RETRY_AFTER: u64 = 5;

/// What the routes work on.
pub(crate) struct Rooms {
    pub(crate) plugin: SharedPlugin,
    pub(crate) ctx: PluginContext,
    pub(crate) secret: Secret,
    pub(crate) channel: Arc<Channel>,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) started: watch::Receiver<bool>,
    pub(crate) health_path: String,
}

/// Puts all routes together. Panics of the plugin's own router come through; the caller catches them.
pub(crate) fn build(rooms: Rooms) -> Router {
    let Rooms { plugin, ctx, secret, channel, events, started, health_path } = rooms;
    let mut own = plugin.router(ctx).layer(from_fn_with_state(started, wait_for_start));
    if plugin.route_auth() == RouteAuth::Required {
        own = own.layer(from_fn_with_state(secret.clone(), auth::require));
    }
    let from_host = Router::new()
        .route("/_temps/channel", any(accept_channel))
        .with_state((channel, Arc::clone(&events)))
        .merge(
            Router::new()
                .route("/_events", post(take_event))
                .layer(DefaultBodyLimit::max(MAX_EVENT_BYTES))
                .with_state(events),
        )
        .layer(from_fn_with_state(secret, auth::refuse_wrong));
    let mut all = Router::new().route(&health_path, get(|| async { "ok" })).merge(from_host);
    if let Some(assets) = plugin.ui_assets() {
        all = all.merge(ui::routes(assets));
    }
    all.fallback_service(own)
}

async fn wait_for_start(
    State(mut started): State<watch::Receiver<bool>>,
    request: Request,
    next: Next,
) -> Response {
    match timeout(START_WAIT, started.wait_for(|started| *started)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Problem::new(503, "the plugin could not start").into_response(),
        Err(_) => {
            return Problem::new(503, "the plugin is still starting")
                .retry_after(RETRY_AFTER)
                .into_response();
        }
    }
    next.run(request).await
}

async fn accept_channel(
    State((channel, events)): State<(Arc<Channel>, Arc<EventQueue>)>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .max_message_size(MAX_FRAME_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .on_upgrade(async move |socket| channel.serve(socket, &events).await)
}

/// `POST /_events`: answers once the event was handled, because its sender takes a 2xx for that.
async fn take_event(
    State(events): State<Arc<EventQueue>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<axum::Json<Value>, Response> {
    let body = body.map_err(IntoResponse::into_response)?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(400, format!("the body is not JSON: {e}")).into_response())?;
    if !value.is_object() {
        return Err(Problem::new(422, "the body is not an event: it is not a JSON object").into_response());
    }
    let event: PluginEvent = serde_json::from_value(value)
        .map_err(|e| Problem::new(422, format!("the body is not an event: {e}")).into_response())?;
    let (done, outcome) = oneshot::channel();
    let handling = async {
        events.push(event, body.len(), Done::Request(done)).await?;
        outcome.await.map_err(|_| Closed)
    };
    match timeout(POSTED_EVENT_TIMEOUT, handling).await {
        Ok(Ok(Outcome::Handled)) => Ok(axum::Json(json!({"ok": true}))),
        Ok(Ok(Outcome::Failed(reason))) => {
            Err(Problem::new(500, format!("the event was not handled: {reason}")).into_response())
        }
        Ok(Err(Closed)) => Err(Problem::new(503, "the plugin is ending").into_response()),
        Err(_) => Err(Problem::new(503, "the event was not handled in time; it may still be")
            .retry_after(RETRY_AFTER)
            .into_response()),
    }
}
