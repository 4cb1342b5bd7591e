//! A plugin to start from: one route, one event, one question to the platform, and a test of all three.
//!
//! Build it, and put `target/debug/minimal-rust` into the plugins directory of a host.

use std::sync::Mutex;

use temps_plugin_sdk::prelude::*;

#[derive(Default)]
struct Minimal {
    last: std::sync::Arc<Mutex<String>>,
}

impl ExternalPlugin for Minimal {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder("minimal-rust", "0.1.0").event("deployment.succeeded").build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        let last = self.last.clone();
        let answer =
            async move || last.lock().map(|name| format!("last deployed: {name}\n")).unwrap_or_default();
        axum::Router::new().route("/last", get(answer)).with_state(ctx)
    }

    async fn handle_event(&self, ctx: &PluginContext, event: PluginEvent) -> Result<(), BoxError> {
        let id = event.project_id.ok_or("the event concerns no project")?;
        let project = ctx.platform().get_project(id).await?;
        tracing::info!(project.name, "deployed");
        *self.last.lock().map_err(|e| e.to_string())? = project.name;
        Ok(())
    }
}

temps_plugin_sdk::main!(Minimal::default());

#[cfg(test)]
mod tests {
    use super::*;
    use temps_plugin_sdk::testing::TestHost;

    #[tokio::test]
    async fn it_remembers_the_project_that_was_deployed_last() {
        let host = TestHost::start(Minimal::default()).await.unwrap();
        host.platform().knows_project(42, "my-app");
        host.deliver(TestHost::event("deployment.succeeded").project(42)).await.unwrap();
        assert_eq!(host.http().get("/last").await.unwrap().text(), "last deployed: my-app\n");
    }
}
