//! Whether the daemon lives, is ready, and what it counts.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::answer::Answer;
use crate::api::version::{Health, Readiness, Version};
use crate::app::App;

/// Media type of the Prometheus text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Which daemon this is.
#[utoipa::path(get, path = "/api/version", tag = "daemon", operation_id = "getVersion",
    responses((status = 200, description = "Versions", body = Version)))]
pub(super) async fn version() -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: temps_protocol::API_VERSION.to_string(),
    })
}

/// Answers while the process works.
#[utoipa::path(get, path = "/healthz", tag = "daemon", operation_id = "getHealth", security(()),
    responses((status = 200, description = "It lives", body = Health)))]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// Answers 200 while the daemon can do its work: its database answers, no part of its host broke, and it is not being stopped.
#[utoipa::path(get, path = "/readyz", tag = "daemon", operation_id = "getReadiness", security(()),
    responses((status = 200, description = "Ready", body = Readiness), (status = 503, description = "Not ready", body = Readiness)))]
pub(super) async fn readiness(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let database = app.host().store().events_after(i64::MAX, 1).await.is_ok();
    let accepting = !app.closing().is_cancelled();
    let host = app.host().is_whole();
    let ready = database && accepting && host;
    let word = if ready { "ready" } else { "not_ready" };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { status: word.to_owned(), database, accepting, host }))
}

/// Metrics of the plugin host and of the daemon.
#[utoipa::path(get, path = "/metrics", tag = "daemon", operation_id = "getMetrics",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(app): State<App>) -> Answer<Response> {
    let text = app.metrics().text(&app.host().metrics());
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}
