//! What becomes of the plugin on the simulated platform, and what an operator would do about it.

use temps_host::plugin::{PluginSnapshot, PluginState};
use temps_host::store::AuditFilter;
use temps_server::api::plugins::{DebugSwitch, GrantRequest, Grants, LogLine, LogQuery, Plugin};

use super::scene::Line;
use super::stage::Stage;
use crate::exit::Failure;

/// Connections of the plugin that are looked at to find out which hosts it reaches.
const RECORDS: usize = 1000;

impl Stage {
    /// Looks how the plugin is, and does what an operator would.
    pub(super) async fn look(&mut self) -> Result<(), Failure> {
        let path = self.plugin_path();
        let Some(plugin) = self.host.plugins().into_iter().find(|plugin| plugin.file == path) else {
            return Ok(());
        };
        self.seen.plugin = Some(plugin.clone());
        if !self.seen.named && plugin.plugin_name.is_some() {
            self.seen.named = true;
            self.welcome(&plugin).await?;
        }
        let state = (plugin.state, plugin.reason.clone(), plugin.starts);
        if self.seen.state.as_ref() != Some(&state) {
            self.seen.state = Some(state);
            let line = Line::State {
                plugin: plugin.name.clone(),
                state: plugin.state.as_str(),
                reason: plugin.reason.clone(),
                pid: plugin.pid,
            };
            self.tell(&line)?;
            self.configure().await?;
        }
        // Also while the version before runs, and the one after an edit waits.
        if plugin.allowed_actions.contains(&"grant") {
            self.grant(&plugin).await?;
        }
        match plugin.state {
            PluginState::Running if self.seen.running != plugin.starts => {
                self.seen.running = plugin.starts;
                self.ready(&plugin)
            }
            _ => Ok(()),
        }
    }

    /// What is done once, when the plugin has a name.
    async fn welcome(&mut self, plugin: &PluginSnapshot) -> Result<(), Failure> {
        let name = plugin.name.clone();
        if self.debug {
            let debugged = self
                .client
                .post::<Plugin>(&["api", "plugins", &name, "debug"], &DebugSwitch { on: true })
                .await;
            if let Err(failure) = debugged {
                self.problem(failure)?;
            }
        }
        self.configure().await?;
        let (client, tell) = (self.client.clone(), self.log.0.clone());
        tokio::spawn(async move {
            let query = LogQuery { lines: Some(100), follow: Some(true) };
            let Ok(mut stream) = client.stream(&["api", "plugins", &name, "logs"], &query).await else {
                return;
            };
            // It ends with the daemon.
            while let Ok(Some(line)) = stream.next::<LogLine>().await {
                if tell.send(line).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Gives what the plugin waits for, and says what an operator would have to give.
    async fn grant(&mut self, plugin: &PluginSnapshot) -> Result<(), Failure> {
        let path = ["api", "plugins", &plugin.name, "grants"];
        let missing = match self.client.get::<Grants>(&path).await {
            Ok(grants) => grants.missing,
            Err(failure) => return self.problem(failure),
        };
        if missing.is_empty() {
            return Ok(());
        }
        let request = GrantRequest { grants: missing.clone() };
        match self.client.post::<Grants>(&path, &request).await {
            Ok(_) => {
                self.granted.extend(missing.clone());
                self.tell(&Line::Granted { plugin: plugin.name.clone(), grants: missing })
            }
            Err(failure) => self.problem(failure),
        }
    }

    /// Compares what the plugin asks for with what it does.
    pub(super) async fn compare(&self) -> Result<(), Failure> {
        let (Some(plugin), Some(manifest)) = (&self.seen.plugin, self.manifest()) else {
            return self.problem(Failure::other("no_plugin", "the plugin was not inspected yet"));
        };
        let filter = AuditFilter {
            plugin: Some(plugin.name.clone()),
            kind: Some("egress.*".into()),
            limit: RECORDS,
            newest_first: true,
            ..AuditFilter::default()
        };
        let records = self.host.audit(filter).await;
        let records = records.map_err(|error| Failure::other("audit", error.to_string()))?;
        let reached = records.into_iter().map(|record| (record.kind, record.detail));
        let verdict = self.wishes.verdict(&manifest, reached);
        let needed = self.granted.clone();
        self.tell(&Line::Wishes { plugin: plugin.name.clone(), needed, verdict })
    }

    fn ready(&mut self, plugin: &PluginSnapshot) -> Result<(), Failure> {
        let url = self.client.base();
        let page = plugin.has_ui.then(|| format!("{url}api/x/{}/ui/", plugin.name));
        let version = plugin.manifest.as_ref().map(|manifest| manifest.version.clone());
        let milliseconds = self.changed_at.elapsed().as_millis();
        self.tell(&Line::Ready { plugin: plugin.name.clone(), version, page, milliseconds })?;
        self.tell_menu()
    }
}
