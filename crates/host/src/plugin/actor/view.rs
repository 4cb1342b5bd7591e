//! What the actor shows: the snapshot, made anew after each turn from what is there.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Actor, Waiting};
use crate::metrics::Metrics;
use crate::plugin::snapshot::{PluginSnapshot, PluginState};
use crate::plugin::state::Stage;

impl Actor {
    pub(super) fn publish(&mut self) {
        let snapshot = self.snapshot();
        if snapshot.state != self.shown {
            let gauge = |state: PluginState| {
                let labels = Metrics::of_and(self.name.as_str(), state.as_str());
                self.shared.metrics.plugin_state.get_or_create_owned(&labels)
            };
            gauge(self.shown).set(0);
            gauge(snapshot.state).set(1);
            self.log_change(&snapshot);
            self.shown = snapshot.state;
        }
        self.publish_authority();
        self.view.send_replace(Arc::new(snapshot));
    }

    /// A warning where somebody is to look at it.
    fn log_change(&self, to: &PluginSnapshot) {
        use PluginState::{Backoff, Held, Quarantined, Refused};
        let (plugin, from, reason) = (self.name.as_str(), self.shown.as_str(), to.reason.as_deref());
        if matches!(to.state, Held | Backoff | Quarantined | Refused) {
            tracing::warn!(plugin, from, to = to.state.as_str(), reason, "a plugin does not run");
        } else {
            tracing::info!(plugin, from, to = to.state.as_str(), reason, "a plugin's state changed");
        }
    }

    fn snapshot(&self) -> PluginSnapshot {
        let state = self.state();
        let current = self.current.as_ref();
        let running = current.filter(|current| current.running_since.is_some());
        let link = running.and_then(|current| current.link.as_ref());
        let process = current.and_then(|current| current.process.as_ref());
        let shown = self.version.as_ref().or(self.waiting.as_ref().map(|waiting| &waiting.version));
        PluginSnapshot {
            name: self.name.to_string(),
            plugin_name: Some(self.name.clone()),
            file: self.record.file.clone().into(),
            hash: shown.map(|version| version.artifact.hash.clone()),
            state,
            reason: self.reason(state),
            manifest: shown.map(|version| Arc::clone(&version.manifest)),
            has_ui: running.is_some_and(|current| current.has_ui),
            channel: running.and_then(|current| current.channel),
            features: link.map(|link| link.features.iter().map(|f| f.as_str()).collect()).unwrap_or_default(),
            health: running.map(|current| current.health.as_str()),
            pid: process.and_then(|process| process.pid()),
            containment: process.map(|process| process.containment().as_str()),
            running_since: current.and_then(|current| current.running_since),
            usage: running.and_then(|current| current.usage.clone()),
            layers: current.and_then(|current| current.layers.clone()),
            confined: process.map(|process| Arc::clone(process.confined())),
            next_start_at: self.next_start_at(),
            starts: self.life.starts,
            crashes: self.crashes,
            last_crash: self.last_crash.clone(),
            allowed_actions: self.allowed_actions(),
        }
    }

    fn state(&self) -> PluginState {
        match self.life.shown() {
            PluginState::Discovered if self.inspecting => PluginState::Inspecting,
            state => state,
        }
    }

    /// What waits for grants can be granted also while the version before it runs.
    fn allowed_actions(&self) -> Vec<&'static str> {
        let mut actions = self.life.allowed_actions();
        let Some(waiting) = &self.waiting else { return actions };
        if !actions.contains(&"grant") {
            actions.push("grant");
        }
        if !waiting.settings.is_empty() {
            actions.retain(|action| *action != "grant");
            actions.push("configure");
        }
        actions
    }

    fn reason(&self, state: PluginState) -> Option<String> {
        if let Some(Waiting { version, wishes: missing, settings }) = &self.waiting
            && !(missing.is_empty() && settings.is_empty())
        {
            let begin = if self.version.is_some() {
                format!("version {} of its file waits; the one before it stays. It", version.manifest.version)
            } else {
                "it".to_owned()
            };
            if !settings.is_empty() {
                return Some(format!("{begin} {}", self.settings_reason(settings)));
            }
            let what: Vec<String> = missing.iter().map(ToString::to_string).collect();
            let (name, what) = (&self.name, what.join(", "));
            return Some(format!("{begin} asks for {what}; `temps plugin grant {name}` allows it"));
        }
        if state == PluginState::Refused && self.not_started.is_some() {
            return self.not_started.clone();
        }
        if self.note.is_some() {
            return self.note.clone();
        }
        let cause = self.last_crash.as_ref().map(|crash| crash.cause.as_str());
        match state {
            PluginState::Backoff => cause.map(str::to_owned),
            PluginState::Quarantined => Some(format!(
                "it crashed too often, last: {}; it is tried again now and then, `temps plugin start {}` tries at once",
                cause.unwrap_or("unknown"),
                self.name
            )),
            PluginState::Running if self.is_out_of_reach() => Some(
                "it has no channel, so its settings do not reach it; see \"config\" in the protocol".into(),
            ),
            PluginState::Disabled => {
                Some(format!("turned off; `temps plugin enable {}` turns it on", self.name))
            }
            _ => None,
        }
    }

    /// Whether it declares settings and has no way to get them.
    fn is_out_of_reach(&self) -> bool {
        let declares =
            |schema: &serde_json::Value| schema["properties"].as_object().is_some_and(|it| !it.is_empty());
        let declared = self.version.as_ref().and_then(|version| version.manifest.config.as_ref());
        let channel = self.current.as_ref().and_then(|current| current.channel);
        channel == Some("none") && declared.is_some_and(declares)
    }

    fn next_start_at(&self) -> Option<DateTime<Utc>> {
        let (Stage::Backoff { until } | Stage::Quarantined { until }) = self.life.stage else { return None };
        let wait = until.saturating_duration_since(std::time::Instant::now());
        Some(Utc::now() + TimeDelta::from_std(wait).unwrap_or_default())
    }
}

impl PluginSnapshot {
    /// What can be said of a plugin that was just found.
    pub(crate) fn found(name: &str, file: std::path::PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            plugin_name: None,
            file,
            hash: None,
            state: PluginState::Discovered,
            reason: None,
            manifest: None,
            has_ui: false,
            channel: None,
            features: Vec::new(),
            health: None,
            pid: None,
            containment: None,
            running_since: None,
            usage: None,
            layers: None,
            confined: None,
            next_start_at: None,
            starts: 0,
            crashes: 0,
            last_crash: None,
            allowed_actions: Vec::new(),
        }
    }
}
