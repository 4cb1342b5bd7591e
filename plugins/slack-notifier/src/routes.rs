//! The plugin's own routes: settings, and the test message. They never show the webhook's address.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use temps_plugin_sdk::prelude::*;
use tokio::sync::Mutex;

use crate::message;
use crate::outbox::Outbox;
use crate::settings::{self, Change};
use crate::webhook::{self, Verdict};

#[derive(Clone)]
struct Rooms {
    ctx: PluginContext,
    outbox: Arc<Outbox>,
    /// One change at a time, from reading the old settings to keeping the new ones.
    changing: Arc<Mutex<()>>,
}

/// `GET` and `PATCH /settings`, `POST /settings/test`.
pub(crate) fn routes(ctx: PluginContext, outbox: Arc<Outbox>) -> axum::Router {
    axum::Router::new()
        .route("/settings", get(get_settings).patch(update_settings))
        .route("/settings/test", post(send_test))
        .with_state(Rooms { ctx, outbox, changing: Arc::default() })
}

async fn get_settings(State(rooms): State<Rooms>) -> Json<serde_json::Value> {
    Json(rooms.outbox.shown())
}

async fn update_settings(
    State(rooms): State<Rooms>,
    body: Result<Json<serde_json::Map<String, serde_json::Value>>, JsonRejection>,
) -> Result<Json<serde_json::Value>, Response> {
    // The texts of these errors could quote the secret; that there is one is enough.
    let detail = "the body must be a JSON object with webhook_url (text or null) and allow_custom_host (true or false)";
    let unreadable = || problem(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let Json(fields) = body.map_err(|_| unreadable())?;
    let change: Change = serde_json::from_value(fields.into()).map_err(|_| unreadable())?;
    let _turn = rooms.changing.lock().await;
    let settings = rooms
        .outbox
        .settings()
        .changed(change)
        .map_err(|e| problem(StatusCode::UNPROCESSABLE_ENTITY, &e.to_string()))?;
    settings::save(rooms.ctx.data_dir(), &settings).map_err(|e| {
        rooms.ctx.logger().error(&e);
        problem(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string())
    })?;
    rooms.outbox.configure(settings);
    Ok(Json(rooms.outbox.shown()))
}

/// Posts a test message past the line, and says how it went.
async fn send_test(State(rooms): State<Rooms>) -> Result<Json<serde_json::Value>, Response> {
    let settings = rooms.outbox.settings();
    let Some(url) = settings.webhook_url() else {
        return Err(problem(StatusCode::CONFLICT, "there is no webhook yet; set webhook_url first"));
    };
    let client = webhook::client().map_err(|reason| problem(StatusCode::INTERNAL_SERVER_ERROR, &reason))?;
    match webhook::post(&client, url, &message::test()).await {
        Verdict::Posted => {
            rooms.outbox.works();
            Ok(Json(json!({"ok": true})))
        }
        Verdict::Wait(wait) => {
            let detail = format!("Slack asked to wait {} s; try again then", wait.as_secs());
            Err(problem(StatusCode::SERVICE_UNAVAILABLE, &detail))
        }
        Verdict::Again(reason) => Err(problem(StatusCode::BAD_GATEWAY, &reason)),
        Verdict::Stop(reason) | Verdict::StopAndDrop(reason) => {
            rooms.outbox.needs_attention(reason.clone());
            Err(problem(StatusCode::BAD_GATEWAY, &reason))
        }
    }
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
