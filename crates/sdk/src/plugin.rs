//! The trait that a plugin's author implements, and its form without generics that the rest of the crate uses.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use include_dir::Dir;
use serde_json::Value;
use temps_protocol::{PluginEvent, PluginManifest};

use crate::auth::RouteAuth;
use crate::context::PluginContext;

/// Any error that a plugin's hook may end with; `?` makes one of every error type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A plugin. Only [`manifest`](Self::manifest) must be written; everything else has a default that does nothing.
///
/// The asynchronous hooks can be written as `async fn`.
pub trait ExternalPlugin: Send + Sync + 'static {
    /// What the plugin says of itself. Asked first, before anything else of the plugin is called; it must not
    /// depend on files or on time, because the host compares it between starts.
    fn manifest(&self) -> PluginManifest;

    /// The plugin's own routes. Asked once, before the plugin says that it is ready.
    ///
    /// `/health` (or the manifest's `health_path`), `/_events`, everything below `/_temps`, and below `/ui` when
    /// there are [`ui_assets`](Self::ui_assets), are answered by the SDK and never reach this router. Requests that
    /// arrive before [`on_start`](Self::on_start) has returned wait for it.
    fn router(&self, ctx: PluginContext) -> axum::Router {
        drop(ctx);
        axum::Router::new()
    }

    /// Takes one event, without a result. It may block: events have a thread of their own.
    ///
    /// To wait for something asynchronous, write [`handle_event`](Self::handle_event) instead, or hand the work to
    /// [`PluginContext::spawn`].
    fn on_event(&self, ctx: &PluginContext, event: PluginEvent) {
        let _ = (ctx, event);
    }

    /// Takes one event and says how it went. The default calls [`on_event`](Self::on_event).
    ///
    /// The next event waits until this one is done, at most 25 s; then it is given up, logged, and counts as
    /// failed. Over a channel with acks (feature `ack`) the host is told how it went: what was handled is settled,
    /// what failed comes again later, beside the others. Work that takes longer belongs into
    /// [`PluginContext::spawn`], once the event is safe somewhere. An event can come twice (after a crash, or because the operator replays it): handle it so that this
    /// does no harm.
    ///
    /// # Errors
    /// Whatever the plugin could not do. It is logged, and told to the host.
    fn handle_event(
        &self,
        ctx: &PluginContext,
        event: PluginEvent,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        async move {
            self.on_event(ctx, event);
            Ok(())
        }
    }

    /// Prepares the plugin: opens files, loads settings, asks the platform. It runs right after the plugin said that it is
    /// ready; routes and events wait for it, at most 60 s.
    ///
    /// # Errors
    /// Whatever makes it impossible to work. The plugin ends with exit status 1, and the host tries again later.
    fn on_start(&self, ctx: &PluginContext) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Runs after the operator changed the configuration; [`PluginContext::config`] has the new one. Changes that come fast
    /// are told once. It does not run for the configuration that [`on_start`](Self::on_start) finds.
    fn on_config(&self, ctx: &PluginContext) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }

    /// Runs once before the plugin ends, after the events that it still had were handled. Together they have 8 s.
    fn on_shutdown(&self, ctx: &PluginContext) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }

    /// Files of the plugin's page, served below `/ui/`; best embedded with `include_dir!("$CARGO_MANIFEST_DIR/ui")`.
    fn ui_assets(&self) -> Option<&'static Dir<'static>> {
        None
    }

    /// The OpenAPI document of the plugin's routes; the host merges it into its own.
    fn openapi(&self) -> Option<Value> {
        None
    }

    /// Whether the plugin's own routes ask for the auth secret. They do unless the plugin says otherwise.
    fn route_auth(&self) -> RouteAuth {
        RouteAuth::Required
    }
}

/// [`ExternalPlugin`] without generics, so that the machinery is compiled once.
pub(crate) trait AnyPlugin: Send + Sync {
    fn manifest(&self) -> PluginManifest;
    fn router(&self, ctx: PluginContext) -> axum::Router;
    fn handle_event<'a>(
        &'a self,
        ctx: &'a PluginContext,
        event: PluginEvent,
    ) -> BoxFuture<'a, Result<(), BoxError>>;
    fn on_start<'a>(&'a self, ctx: &'a PluginContext) -> BoxFuture<'a, Result<(), BoxError>>;
    fn on_config<'a>(&'a self, ctx: &'a PluginContext) -> BoxFuture<'a, ()>;
    fn on_shutdown<'a>(&'a self, ctx: &'a PluginContext) -> BoxFuture<'a, ()>;
    fn ui_assets(&self) -> Option<&'static Dir<'static>>;
    fn openapi(&self) -> Option<Value>;
    fn route_auth(&self) -> RouteAuth;
}

/// A plugin as the machinery holds it.
pub(crate) type SharedPlugin = Arc<dyn AnyPlugin>;

impl<P: ExternalPlugin> AnyPlugin for P {
    fn manifest(&self) -> PluginManifest {
        ExternalPlugin::manifest(self)
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        ExternalPlugin::router(self, ctx)
    }

    fn handle_event<'a>(
        &'a self,
        ctx: &'a PluginContext,
        event: PluginEvent,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(ExternalPlugin::handle_event(self, ctx, event))
    }

    fn on_start<'a>(&'a self, ctx: &'a PluginContext) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(ExternalPlugin::on_start(self, ctx))
    }

    fn on_config<'a>(&'a self, ctx: &'a PluginContext) -> BoxFuture<'a, ()> {
        Box::pin(ExternalPlugin::on_config(self, ctx))
    }

    fn on_shutdown<'a>(&'a self, ctx: &'a PluginContext) -> BoxFuture<'a, ()> {
        Box::pin(ExternalPlugin::on_shutdown(self, ctx))
    }

    fn ui_assets(&self) -> Option<&'static Dir<'static>> {
        ExternalPlugin::ui_assets(self)
    }

    fn openapi(&self) -> Option<Value> {
        ExternalPlugin::openapi(self)
    }

    fn route_auth(&self) -> RouteAuth {
        ExternalPlugin::route_auth(self)
    }
}
