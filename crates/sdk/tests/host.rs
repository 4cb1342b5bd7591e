//! The stand-in host for authors, and through it the SDK without a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use temps_plugin_sdk::prelude::*;
use temps_plugin_sdk::testing::{TestError, TestHost};

/// A plugin whose start hook waits for the test, and which notes its end.
#[derive(Default)]
struct Slow {
    start: Arc<tokio::sync::Notify>,
    ended: Arc<AtomicBool>,
    open: bool,
}

impl ExternalPlugin for Slow {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder("slow", "1.0.0").event("a.*").build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        axum::Router::new().route("/me", get(me)).route("/endless", get(endless)).with_state(ctx)
    }

    async fn on_start(&self, ctx: &PluginContext) -> Result<(), BoxError> {
        ctx.platform().list_projects().await?;
        self.start.notified().await;
        Ok(())
    }

    async fn on_shutdown(&self, _ctx: &PluginContext) {
        self.ended.store(true, Ordering::SeqCst);
    }

    fn route_auth(&self) -> RouteAuth {
        if self.open { RouteAuth::Open } else { RouteAuth::Required }
    }

    fn openapi(&self) -> Option<serde_json::Value> {
        Some(json!({"openapi": "3.1.0", "paths": {"/me": {}}}))
    }
}

async fn me(State(ctx): State<PluginContext>) -> Json<serde_json::Value> {
    Json(json!({"name": ctx.plugin_name(), "data": ctx.data_dir(), "secret": ctx.auth_secret()}))
}

/// An answer that ends only with the plugin.
async fn endless(State(ctx): State<PluginContext>) -> String {
    ctx.stopping().await;
    "the end".into()
}

#[tokio::test]
async fn the_start_hook_may_ask_the_platform_and_the_context_says_where_the_plugin_is() {
    let plugin = Slow::default();
    plugin.start.notify_one();
    let ended = Arc::clone(&plugin.ended);
    let host = TestHost::start(plugin).await.unwrap();
    assert_eq!(host.platform().asked()[0].0, "list_projects");
    let me: serde_json::Value = host.http().get("/me").await.unwrap().json().unwrap();
    assert_eq!(me, json!({"name": "slow", "data": host.data_dir(), "secret": "test-secret"}));
    assert!(host.ready().openapi.unwrap()["paths"].get("/me").is_some());
    let data_dir = host.data_dir().to_owned();
    host.shutdown().await;
    assert!(ended.load(Ordering::SeqCst));
    assert!(!data_dir.exists());
}

#[tokio::test]
async fn open_routes_ask_for_no_secret() {
    let plugin = Slow { open: true, ..Slow::default() };
    plugin.start.notify_one();
    let host = TestHost::start(plugin).await.unwrap();
    assert_eq!(host.http().with_authorization(None).get("/me").await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_that_waits_for_the_end_does_not_hold_it_up() {
    let plugin = Slow::default();
    plugin.start.notify_one();
    let host = TestHost::start(plugin).await.unwrap();
    let client = host.http().clone();
    let endless = tokio::spawn(async move { client.get("/endless").await });
    while host.http().get("/me").await.unwrap().status() != 200 {}
    host.shutdown().await;
    // Either it was let in and told the end, or it came too late; it never hangs.
    if let Ok(answer) = endless.await.unwrap() {
        assert_eq!(answer.text(), "the end");
    }
}

struct Broken(&'static str);

impl ExternalPlugin for Broken {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder(if self.0 == "name" { "Broken" } else { "broken" }, "1.0.0")
            .event("a.b")
            .build()
    }

    fn router(&self, _ctx: PluginContext) -> axum::Router {
        assert_ne!(self.0, "router", "as ordered");
        axum::Router::new()
    }

    async fn on_start(&self, _ctx: &PluginContext) -> Result<(), BoxError> {
        assert_ne!(self.0, "start", "as ordered");
        Ok(())
    }

    async fn on_shutdown(&self, _ctx: &PluginContext) {
        panic!("as ordered")
    }
}

#[tokio::test]
async fn each_way_to_fail_at_the_start_is_told_apart() {
    for (what, wanted) in
        [("name", "manifest"), ("router", "router panicked"), ("start", "start hook panicked")]
    {
        let Err(TestError::Start(message)) = TestHost::start(Broken(what)).await else { panic!("{what}") };
        assert!(message.contains(wanted), "{message}");
    }
}

#[tokio::test]
async fn a_panic_in_the_shutdown_hook_does_not_stop_the_end() {
    TestHost::start(Broken("nothing")).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn an_event_that_the_manifest_does_not_ask_for_is_pointed_out() {
    let host = TestHost::start(Broken("nothing")).await.unwrap();
    host.deliver(TestHost::event("a.b")).await.unwrap();
    let refused = host.deliver(TestHost::event("a.c")).await.unwrap_err().to_string();
    assert!(refused.contains("not for a.c"), "{refused}");
}
