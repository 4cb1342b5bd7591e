//! A plugin with everything that the conformance kit can look at, for `docs/sdk-parity.md`. The SDKs of other languages have the
//! same one.

use temps_plugin_sdk::prelude::*;

struct Parity;

impl ExternalPlugin for Parity {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder("parity", "1.0.0")
            .event("*")
            .nav(NavEntry {
                label: "Parity".into(),
                icon: "equal".into(),
                section: NavSection::Platform,
                path: "/".into(),
                order: 90,
            })
            .config(json!({
                "type": "object",
                "properties": {"word": {"type": "string", "default": "same"}, "token": {"type": "string", "writeOnly": true}},
            }))
            .build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        axum::Router::new().route("/last", get(last)).with_state(ctx)
    }

    fn ui_assets(&self) -> Option<&'static Dir<'static>> {
        static PAGE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/examples/parity-page");
        Some(&PAGE)
    }

    fn openapi(&self) -> Option<serde_json::Value> {
        let answer = json!({"responses": {"200": {"description": "The event that came last"}}});
        Some(
            json!({"openapi": "3.1.0", "info": {"title": "Parity", "version": "1.0.0"}, "paths": {"/last": {"get": answer}}}),
        )
    }

    async fn handle_event(&self, ctx: &PluginContext, event: PluginEvent) -> Result<(), BoxError> {
        if let Some(project) = event.project_id {
            ask_everything(ctx, project).await;
        }
        let revision = ctx.kv().put("last", &event.id).await?;
        let kept = ctx.kv().get::<String>("last").await?;
        let keys = ctx.kv().keys("").await?.len();
        tracing::info!(revision, keys, there = kept.is_some(), "kept");
        ctx.kv().delete("none").await?;
        Ok(())
    }
}

/// Each data method once. What is not there is no failure.
async fn ask_everything(ctx: &PluginContext, project: i32) {
    let platform = ctx.platform();
    let answers = [
        platform.get_project(project).await.is_ok(),
        platform.list_projects().await.is_ok(),
        platform.get_environment(1).await.is_ok(),
        platform.list_environments(project).await.is_ok(),
        platform.get_deployment(1).await.is_ok(),
        platform.get_last_deployment(project, None).await.is_ok(),
        platform.list_deployments(project, None, Some(5)).await.is_ok(),
    ];
    tracing::info!(
        "{} of {} questions were answered",
        answers.iter().filter(|ok| **ok).count(),
        answers.len()
    );
}

async fn last(State(ctx): State<PluginContext>) -> Json<serde_json::Value> {
    let kept = ctx.kv().get::<String>("last").await;
    Json(json!({"last": kept.ok().flatten().map(|entry| entry.value)}))
}

temps_plugin_sdk::main!(Parity);
