//! `hello`, the minimal official plugin: it greets, keeps the last events, and shows them live on its page.
//!
//! It is meant to be read: one file for the plugin, one for what it remembers. It never asks the platform for
//! anything and reaches no network.

mod recent;

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use temps_plugin_sdk::prelude::*;
use tokio::sync::broadcast::error::RecvError;

use crate::recent::Recent;

/// What it says when the operator set nothing else, or the host knows no configuration.
const GREETING: &str = "Hello from a plugin";

struct Hello {
    recent: Arc<Recent>,
}

impl ExternalPlugin for Hello {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder("hello", env!("CARGO_PKG_VERSION"))
            .display_name("Hello")
            .description("Greets, and shows the platform's events as they happen")
            .event("deployment.*")
            .event("project.*")
            .nav(NavEntry {
                label: "Hello".into(),
                icon: "sparkles".into(),
                section: NavSection::Platform,
                path: "/".into(),
                order: 90,
            })
            .permissions(Permissions::default())
            .no_egress()
            .config(json!({
                "type": "object",
                "properties": {
                    "greeting": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 100,
                        "default": GREETING,
                        "description": "What stands at the top of its page",
                    },
                },
                "additionalProperties": false,
            }))
            .build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        axum::Router::new()
            .route("/greeting", get(greeting))
            .route("/events", get(events))
            .route("/events/stream", get(event_stream))
            .with_state((ctx, Arc::clone(&self.recent)))
    }

    fn on_event(&self, _ctx: &PluginContext, event: PluginEvent) {
        tracing::info!(event.id, event.event_type, "event");
        self.recent.add(event);
    }

    fn ui_assets(&self) -> Option<&'static Dir<'static>> {
        static PAGE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/ui");
        Some(&PAGE)
    }
}

type Rooms = (PluginContext, Arc<Recent>);

async fn greeting(State((ctx, _)): State<Rooms>) -> Json<serde_json::Value> {
    Json(json!({"message": greeting_now(&ctx), "plugin": ctx.plugin_name()}))
}

/// The greeting as the operator set it.
fn greeting_now(ctx: &PluginContext) -> String {
    let settings = ctx.config::<serde_json::Value>().unwrap_or_default();
    settings["greeting"].as_str().unwrap_or(GREETING).to_owned()
}

/// The last events, newest first.
async fn events(State((_, recent)): State<Rooms>) -> Json<serde_json::Value> {
    let events = recent.newest_first();
    Json(json!({"events": events.iter().map(|event| &**event).collect::<Vec<_>>()}))
}

/// The last events, oldest first, and then each new one as it comes, as server-sent events named by nothing but
/// their id; and the greeting, named `greeting`, whenever the operator changes it.
async fn event_stream(
    State((ctx, recent)): State<Rooms>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (known, news) = recent.subscribe();
    let news = stream::unfold(news, |mut news| async move {
        loop {
            match news.recv().await {
                Ok(event) => return Some((event, news)),
                // A page that reads too slowly misses events; it shows the others.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let messages = stream::iter(known)
        .chain(news)
        .filter_map(|event| async move { Event::default().id(event.id.clone()).json_data(&*event).ok() })
        .map(Ok);
    let greeted = stream::unfold((ctx.clone(), ctx.watch_config()), |(ctx, mut config)| async move {
        config.changed().await.ok()?;
        let greeting = Event::default().event("greeting").json_data(greeting_now(&ctx)).ok()?;
        Some((Ok(greeting), (ctx, config)))
    });
    let messages = stream::select(messages, greeted).take_until(async move { ctx.stopping().await });
    Sse::new(messages).keep_alive(KeepAlive::default())
}

temps_plugin_sdk::main!(Hello { recent: Arc::default() });
