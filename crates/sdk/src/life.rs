//! One life of a plugin, from assembled to ended, whatever it listens on: a host's socket or a test's memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use futures_util::FutureExt;
use temps_protocol::limits::MAX_READY_BYTES;
use temps_protocol::{Configuration, Feature, PluginManifest, Ready};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::arguments::Launch;
use crate::channel::Channel;
use crate::context::PluginContext;
use crate::events::{EventQueue, Observer};
use crate::listener::Bounded;
use crate::log::describe;
use crate::platform::PlatformClient;
use crate::plugin::{BoxError, SharedPlugin};
use crate::routes::{self, Rooms};

/// How long the start hook may take.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the host may take to send the configuration that the manifest declares. It comes with the channel.
const CONFIG_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the whole ending may take. Hosts kill after 10 s.
const END_TIMEOUT: Duration = Duration::from_secs(8);

/// The part of the ending that may go into events that still wait, so that the shutdown hook has the other half.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// Why a life could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LifeError {
    #[error("the thread for events cannot be started ({0}); the limit on tasks may be too low")]
    Thread(std::io::Error),
    #[error("the plugin's router panicked: {0}; two routes may overlap, or one overlaps a route of the SDK")]
    Router(String),
    #[error("the host sent no configuration within {} s", CONFIG_TIMEOUT.as_secs())]
    NoConfig,
    #[error("the start hook failed: {0}")]
    StartHook(BoxError),
    #[error("the start hook panicked: {0}")]
    StartPanic(String),
    #[error("the start hook took longer than {} s", START_TIMEOUT.as_secs())]
    StartTimeout,
}

/// A plugin that serves.
pub(crate) struct Life {
    plugin: SharedPlugin,
    ctx: PluginContext,
    channel: Arc<Channel>,
    events: Arc<EventQueue>,
    events_ended: oneshot::Receiver<()>,
    started: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
    server: JoinHandle<()>,
    features: Vec<Feature>,
    /// Whether the host sends a configuration, and the plugin waits for it.
    configured: bool,
}

impl Life {
    /// Assembles the plugin and begins to serve `listener`. Routes and events wait for [`start`](Self::start).
    pub(crate) fn begin<L>(
        plugin: SharedPlugin,
        manifest: &PluginManifest,
        launch: &Launch,
        listener: L,
        observer: Observer,
    ) -> Result<Self, LifeError>
    where
        L: Listener,
        L::Addr: std::fmt::Debug,
    {
        let confirms = launch.environment.features.contains(&Feature::Ack);
        let channel = Arc::new(Channel::new(confirms));
        let (started, stopping) = (watch::Sender::new(false), watch::Sender::new(false));
        let platform = PlatformClient::new(Arc::clone(&channel));
        let ctx = PluginContext::new(&manifest.name, launch, platform, stopping.subscribe());
        let (events, events_ended) =
            EventQueue::start(Arc::clone(&plugin), ctx.clone(), started.subscribe(), observer)
                .map_err(LifeError::Thread)?;
        let rooms = Rooms {
            plugin: Arc::clone(&plugin),
            ctx: ctx.clone(),
            secret: launch.secret.clone(),
            channel: Arc::clone(&channel),
            events: Arc::clone(&events),
            started: started.subscribe(),
            health_path: manifest.health_path.clone(),
        };
        let routes = catch_unwind(AssertUnwindSafe(|| routes::build(rooms)))
            .map_err(|panic| LifeError::Router(describe(&*panic)))?;
        let mut told = stopping.subscribe();
        let serving = axum::serve(Bounded::new(listener), routes).with_graceful_shutdown(async move {
            let _ = told.wait_for(|stopping| *stopping).await;
        });
        let server = tokio::spawn(async move {
            if let Err(e) = serving.await {
                tracing::error!("the HTTP server ended: {e}");
            }
        });
        let configured = manifest.config.is_some() && ctx.host_has(Feature::Config);
        // Announced only where it is asked for, so that other hosts see what they always saw.
        let features = [
            (Feature::Ack, confirms),
            (Feature::Reconnect, true),
            (Feature::Config, ctx.host_has(Feature::Config)),
            (Feature::Kv, ctx.host_has(Feature::Kv)),
        ];
        let features = features.into_iter().filter_map(|(feature, has)| has.then_some(feature)).collect();
        Ok(Self {
            plugin,
            ctx,
            channel,
            events,
            events_ended,
            started,
            stopping,
            server,
            features,
            configured,
        })
    }

    /// What the plugin's ready line says.
    pub(crate) fn ready(&self) -> Ready {
        let mut ready = Ready {
            ready: true,
            has_ui: self.plugin.ui_assets().is_some(),
            openapi: self.plugin.openapi(),
            features: self.features.iter().map(|feature| feature.as_str().to_owned()).collect(),
        };
        let bytes = ready.to_line().len() + 1;
        if bytes > MAX_READY_BYTES {
            tracing::warn!(
                bytes,
                "the OpenAPI document is left out: with it the ready line is longer than 1 MiB"
            );
            ready.openapi = None;
        }
        ready
    }

    /// Runs the start hook, then lets routes and events in.
    pub(crate) async fn start(&self) -> Result<(), LifeError> {
        let mut config = self.channel.config();
        if self.configured {
            let sent = timeout(CONFIG_TIMEOUT, config.wait_for(Option::is_some)).await;
            sent.ok().and_then(Result::ok).ok_or(LifeError::NoConfig)?;
        }
        config.mark_unchanged();
        let hook = AssertUnwindSafe(async { self.plugin.on_start(&self.ctx).await }).catch_unwind();
        match timeout(START_TIMEOUT, hook).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(LifeError::StartHook(error)),
            Ok(Err(panic)) => return Err(LifeError::StartPanic(describe(&*panic))),
            Err(_) => return Err(LifeError::StartTimeout),
        }
        self.started.send_replace(true);
        tokio::spawn(follow_config(Arc::clone(&self.plugin), self.ctx.clone(), config));
        Ok(())
    }

    /// Ends in order: no new work, events that wait, the shutdown hook, the channel, the server.
    pub(crate) async fn end(self) {
        let deadline = Instant::now() + END_TIMEOUT;
        self.stopping.send_replace(true);
        self.events.close();
        let has_started = *self.started.borrow();
        // Without a start nothing is handled; those who wait for it learn that it will not come.
        drop(self.started);
        if timeout(DRAIN_TIMEOUT, self.events_ended).await.is_err() {
            tracing::warn!("events were still being handled when the time for them was over");
        }
        if has_started {
            let hook = AssertUnwindSafe(async { self.plugin.on_shutdown(&self.ctx).await }).catch_unwind();
            match timeout_at(deadline, hook).await {
                Ok(Ok(())) => {}
                Ok(Err(panic)) => tracing::error!("the shutdown hook panicked: {}", describe(&*panic)),
                Err(_) => tracing::warn!("the shutdown hook took too long"),
            }
        }
        self.channel.close().await;
        let stop = self.server.abort_handle();
        if timeout_at(deadline, self.server).await.is_err() {
            tracing::warn!("requests were still open when the plugin ended");
            stop.abort();
        }
    }
}

/// Runs the hook after each change of the configuration, until the plugin ends.
async fn follow_config(
    plugin: SharedPlugin,
    ctx: PluginContext,
    mut config: watch::Receiver<Option<Configuration>>,
) {
    loop {
        tokio::select! {
            changed = config.changed() => if changed.is_err() { return },
            () = ctx.stopping() => return,
        }
        let hook = AssertUnwindSafe(plugin.on_config(&ctx)).catch_unwind();
        tokio::select! {
            done = hook => if let Err(panic) = done {
                tracing::error!("the hook for a changed configuration panicked: {}", describe(&*panic));
            },
            () = ctx.stopping() => return,
        }
    }
}
