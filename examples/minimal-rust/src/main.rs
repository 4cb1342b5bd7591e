//! A plugin to start from: a route, an event, a question to the platform, a setting, and something that is kept; and a test of
//! them.
//!
//! Build it, and put `target/debug/minimal-rust` into the plugins directory of a host.

use temps_plugin_sdk::prelude::*;

struct Minimal;

impl ExternalPlugin for Minimal {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder("minimal-rust", env!("CARGO_PKG_VERSION"))
            .event("deployment.succeeded")
            .config(json!({
                "type": "object",
                "properties": {"greeting": {"type": "string", "default": "last deployed"}},
            }))
            .build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        axum::Router::new().route("/last", get(last)).with_state(ctx)
    }

    async fn handle_event(&self, ctx: &PluginContext, event: PluginEvent) -> Result<(), BoxError> {
        let Some(id) = event.project_id else { return Ok(()) }; // It concerns no project.
        let project = ctx.platform().get_project(id).await?;
        ctx.kv().put("last", &json!({"name": project.name, "url": event.data["url"]})).await?;
        tracing::info!(project.name, "deployed");
        Ok(())
    }

    async fn on_config(&self, ctx: &PluginContext) {
        tracing::info!("the greeting is now {}", greeting(ctx));
    }
}

async fn last(
    State(ctx): State<PluginContext>,
) -> Result<Json<serde_json::Value>, (axum::http::StatusCode, String)> {
    let kept = ctx.kv().get::<serde_json::Value>("last").await;
    let kept = kept.map_err(|error| (axum::http::StatusCode::BAD_GATEWAY, error.to_string()))?;
    let last = kept.map_or_else(|| json!({"name": "nothing"}), |entry| entry.value);
    let text = format!("{}: {}", greeting(&ctx), last["name"].as_str().unwrap_or_default());
    Ok(Json(json!({"text": text, "url": last["url"]})))
}

fn greeting(ctx: &PluginContext) -> String {
    let settings: serde_json::Value = ctx.config().unwrap_or_default();
    settings["greeting"].as_str().unwrap_or("last deployed").to_owned()
}

temps_plugin_sdk::main!(Minimal);

#[cfg(test)]
mod tests {
    use super::*;
    use temps_plugin_sdk::testing::TestHost;

    #[tokio::test]
    async fn it_remembers_the_project_that_was_deployed_last() {
        let host = TestHost::builder(Minimal).config(json!({"greeting": "last"})).start().await.unwrap();
        host.platform().knows_project(42, "my-app");
        host.deliver(TestHost::event("deployment.succeeded").project(42)).await.unwrap();
        let answer: serde_json::Value = host.http().get("/last").await.unwrap().json().unwrap();
        assert_eq!(answer["text"], "last: my-app");
        assert_eq!(host.platform().stored("last").unwrap()["name"], "my-app");
    }
}
