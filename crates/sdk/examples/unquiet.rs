//! A plugin that does what an SDK must bear: it prints to standard output, panics, blocks, fails, and asks at bad
//! moments. The process tests of this crate start it; an author finds every hook in use.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::extract::Query;
use temps_plugin_sdk::prelude::*;

#[derive(Default)]
struct Unquiet {
    handled: Arc<Mutex<Vec<String>>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

fn wish(name: &str) -> bool {
    std::env::var("UNQUIET").is_ok_and(|wishes| wishes.split(',').any(|wish| wish == name))
}

#[expect(
    clippy::print_stdout,
    reason = "printing where only the handshake belongs is what this plugin is for"
)]
fn babble(place: &str) {
    println!("babble from {place}");
    print!("and a line without an end from {place} ");
}

impl ExternalPlugin for Unquiet {
    fn manifest(&self) -> PluginManifest {
        babble("manifest");
        assert!(!wish("manifest-panic"), "as ordered");
        let name = if wish("bad-name") { "Bad Name" } else { "unquiet" };
        PluginManifest::builder(name, "1.0.0").event("test.*").health_path("/well").build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        babble("router");
        let (handled, gate) = (Arc::clone(&self.handled), Arc::clone(&self.gate));
        let mut router = axum::Router::new();
        if wish("overlap") {
            router = router.route("/{a}", get(|| async {})).route("/{b}", get(|| async {}));
        }
        router
            .route(
                "/handled",
                get(async move || Json(handled.lock().map(|list| list.clone()).unwrap_or_default())),
            )
            .route("/open-gate", post(async move || open(&gate)))
            .route("/project", get(project))
            .with_state(ctx)
    }

    fn on_event(&self, _ctx: &PluginContext, event: PluginEvent) {
        babble("event");
        match event.event_type.as_str() {
            "test.panic" => panic!("as ordered"),
            "test.block" => wait(&self.gate),
            "test.slow" => std::thread::sleep(Duration::from_millis(200)),
            _ => {}
        }
        if let Ok(mut handled) = self.handled.lock() {
            handled.push(event.id);
        }
    }

    async fn handle_event(&self, ctx: &PluginContext, event: PluginEvent) -> Result<(), BoxError> {
        match event.event_type.as_str() {
            "test.fail" => return Err("as ordered".into()),
            "test.ask" => {
                let project = ctx.platform().get_project(event.project_id.unwrap_or_default()).await?;
                ctx.logger().info(format!("the project is {}", project.name));
            }
            _ => {}
        }
        self.on_event(ctx, event);
        Ok(())
    }

    async fn on_start(&self, ctx: &PluginContext) -> Result<(), BoxError> {
        babble("start");
        if wish("no-start") {
            return Err("as ordered".into());
        }
        std::fs::write(ctx.data_dir().join("started"), "")?;
        Ok(())
    }

    fn openapi(&self) -> Option<serde_json::Value> {
        assert!(!wish("openapi-panic"), "as ordered");
        None
    }

    async fn on_shutdown(&self, ctx: &PluginContext) {
        babble("shutdown");
        let handled = self.handled.lock().map(|list| list.len()).unwrap_or_default();
        let _ = std::fs::write(ctx.data_dir().join("ended"), handled.to_string());
    }
}

fn open((opened, changed): &(Mutex<bool>, Condvar)) {
    if let Ok(mut opened) = opened.lock() {
        *opened = true;
    }
    changed.notify_all();
}

/// Blocks the thread, as a handler does that knows nothing of async.
fn wait((opened, changed): &(Mutex<bool>, Condvar)) {
    if let Ok(opened) = opened.lock() {
        let _opened = changed.wait_while(opened, |opened| !*opened);
    }
}

#[derive(serde::Deserialize)]
struct Question {
    id: i32,
    wait_ms: u64,
}

async fn project(State(ctx): State<PluginContext>, Query(question): Query<Question>) -> String {
    let platform = ctx.platform().clone().with_timeout(Duration::from_millis(question.wait_ms));
    match platform.get_project(question.id).await {
        Ok(project) => project.name,
        Err(e) => e.to_string(),
    }
}

temps_plugin_sdk::main!(Unquiet::default());
