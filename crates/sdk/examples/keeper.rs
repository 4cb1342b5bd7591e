//! A plugin with settings and a memory: it needs a secret, hears of changes, and counts events in its storage.
//!
//! Tests run it behind a real host. It never shows the secret, only how long it is.

use std::sync::atomic::{AtomicU64, Ordering};

use temps_plugin_sdk::prelude::*;

#[derive(Default)]
struct Keeper {
    changes: AtomicU64,
}

/// What the operator sets.
#[derive(serde::Deserialize)]
struct Settings {
    webhook_url: String,
    channel: String,
}

impl ExternalPlugin for Keeper {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder("keeper", "1.0.0")
            .event("deployment.*")
            .permissions(Permissions::default())
            .no_egress()
            .config(json!({
                "type": "object",
                "properties": {
                    "webhook_url": {"type": "string", "pattern": "^https://", "writeOnly": true, "description": "Where to post"},
                    "channel": {"type": "string", "default": "#ops"},
                },
                "required": ["webhook_url"],
                "additionalProperties": false,
            }))
            .build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        axum::Router::new().route("/settings", get(settings)).route("/count", get(count)).with_state(ctx)
    }

    async fn on_start(&self, ctx: &PluginContext) -> Result<(), BoxError> {
        let settings: Settings = ctx.config()?;
        tracing::info!(channel = settings.channel, "settings are there at the start");
        Ok(())
    }

    async fn on_config(&self, ctx: &PluginContext) {
        let changes = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(error) = ctx.kv().put("changes", &changes).await {
            tracing::error!("the change cannot be counted: {error}");
        }
    }

    async fn handle_event(&self, ctx: &PluginContext, _event: PluginEvent) -> Result<(), BoxError> {
        let kv = ctx.kv();
        loop {
            let before = kv.get::<u64>("count").await?;
            let (count, revision) = before.map_or((0, 0), |entry| (entry.value, entry.revision));
            match kv.put_if("count", &(count + 1), revision).await {
                Err(KvError::Conflict { .. }) => {}
                done => return Ok(done.map(drop)?),
            }
        }
    }
}

async fn settings(State(ctx): State<PluginContext>) -> Json<serde_json::Value> {
    match ctx.config::<Settings>() {
        Ok(settings) => Json(json!({"channel": settings.channel, "length": settings.webhook_url.len()})),
        Err(error) => Json(json!({"error": error.to_string()})),
    }
}

async fn count(State(ctx): State<PluginContext>) -> Json<serde_json::Value> {
    let kv = ctx.kv();
    let count = kv.get::<u64>("count").await.ok().flatten().map(|entry| entry.value);
    let changes = kv.get::<u64>("changes").await.ok().flatten().map(|entry| entry.value);
    Json(json!({"count": count, "changes": changes}))
}

temps_plugin_sdk::main!(Keeper::default());
