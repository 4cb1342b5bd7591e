//! `slack-notifier`: posts deployments to Slack, the article's example made real.
//!
//! An event becomes a message (`message`), waits in a bounded line (`outbox`) that is on disk (`spool`), and is posted at the pace
//! that Slack allows (`delivery`). It is confirmed to the host once it is on disk. Messages go to the webhook that the operator set (`settings`, `routes`). What Slack's answers mean is
//! decided in `webhook`. The webhook's address is a secret: it is kept in a private file and never shown again.

mod delivery;
mod message;
mod outbox;
mod routes;
mod settings;
mod spool;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use temps_plugin_sdk::prelude::*;

use crate::outbox::Outbox;

/// How long the project's name is waited for. A message without it is better than one that comes late.
const PROJECT_TIMEOUT: Duration = Duration::from_secs(3);

struct SlackNotifier {
    outbox: Arc<Outbox>,
}

impl ExternalPlugin for SlackNotifier {
    fn manifest(&self) -> PluginManifest {
        let manifest = PluginManifest::builder("slack-notifier", env!("CARGO_PKG_VERSION"))
            .display_name("Slack Notifier")
            .description("Sends deployment notifications to Slack")
            .nav(NavEntry {
                label: "Slack".into(),
                icon: "message-square".into(),
                section: NavSection::Settings,
                path: "/slack".into(),
                order: 60,
            })
            .requires_db(false)
            .permissions(Permissions { methods: vec!["get_project".into()], projects: None })
            .egress(settings::SLACK_HOST);
        message::EVENT_TYPES.iter().fold(manifest, |manifest, event_type| manifest.event(*event_type)).build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        routes::routes(ctx, Arc::clone(&self.outbox))
    }

    async fn on_start(&self, ctx: &PluginContext) -> Result<(), BoxError> {
        match settings::load(ctx.data_dir()) {
            Ok(settings) => self.outbox.configure(settings),
            // The operator can set everything anew; ending would only hide the reason.
            Err(e) => self.outbox.needs_attention(e.to_string()),
        }
        self.outbox.open(ctx.data_dir())?;
        ctx.spawn(delivery::deliver(Arc::clone(&self.outbox)));
        Ok(())
    }

    async fn handle_event(&self, ctx: &PluginContext, event: PluginEvent) -> Result<(), BoxError> {
        // Without a webhook nobody wants a message, now or later.
        if !self.outbox.is_configured() {
            self.outbox.pass_over();
            return Ok(());
        }
        let Some(payload) = event.payload()? else { return Ok(()) };
        let name = project_name(ctx, &event).await;
        if let Some(message) = message::of_payload(&payload, event.project_id, name.as_deref()) {
            // From here on the message survives a crash, so the host may forget the event.
            self.outbox.add(&event.id, message)?;
        }
        Ok(())
    }

    async fn on_shutdown(&self, ctx: &PluginContext) {
        let left = self.outbox.finish().await;
        if left > 0 {
            ctx.logger().info(format!("{left} messages are kept, and posted after the next start"));
        }
    }

    fn ui_assets(&self) -> Option<&'static Dir<'static>> {
        static PAGE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/ui");
        Some(&PAGE)
    }
}

/// The project's name from the platform, if it can be had.
async fn project_name(ctx: &PluginContext, event: &PluginEvent) -> Option<String> {
    let platform = ctx.platform().clone().with_timeout(PROJECT_TIMEOUT);
    match platform.get_project(event.project_id?).await {
        Ok(project) => Some(project.name),
        Err(e) => {
            ctx.logger().warn(format!("the message goes without the project's name: {e}"));
            None
        }
    }
}

temps_plugin_sdk::main!(SlackNotifier { outbox: Arc::default() });
