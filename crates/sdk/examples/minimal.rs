//! The minimal example as the SDKs of other languages have it: a route, an event, a question to the platform, a setting, and
//! something that is kept. Tests play its transcript, `spec/v1/transcripts/minimal-example.jsonl`, against it.

use axum::http::StatusCode;
use temps_plugin_sdk::prelude::*;

struct Minimal;

/// What the operator sets.
#[derive(serde::Deserialize)]
struct Settings {
    greeting: String,
}

/// What is kept of the newest deployment.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Last {
    name: String,
    url: Option<String>,
}

impl ExternalPlugin for Minimal {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder("minimal", "0.1.0")
            .event("deployment.succeeded")
            .config(json!({"type": "object", "properties": {"greeting": {"type": "string", "default": "last deployed"}}}))
            .build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        axum::Router::new().route("/last", get(last)).with_state(ctx)
    }

    async fn handle_event(&self, ctx: &PluginContext, event: PluginEvent) -> Result<(), BoxError> {
        let Some(id) = event.project_id else { return Ok(()) };
        let project = ctx.platform().get_project(id).await?;
        let url = event.data["url"].as_str().map(str::to_owned);
        ctx.kv().put("last", &Last { name: project.name, url }).await?;
        Ok(())
    }
}

async fn last(State(ctx): State<PluginContext>) -> Result<Json<serde_json::Value>, StatusCode> {
    let settings: Settings = ctx.config().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let kept = ctx.kv().get::<Last>("last").await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let kept = kept.map(|entry| entry.value).unwrap_or_default();
    Ok(Json(json!({"text": format!("{}: {}", settings.greeting, kept.name), "url": kept.url})))
}

temps_plugin_sdk::main!(Minimal);
