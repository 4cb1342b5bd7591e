//! What the tasks of a start report, turned into inputs of the plugin's life.

use std::sync::Arc;

use serde_json::json;

use super::Actor;
use crate::plugin::health::Health;
use crate::plugin::process::Process;
use crate::plugin::start::Progress;
use crate::plugin::state::{Input, Start};

impl Actor {
    /// What a task of a start reports. Reports of earlier starts are ignored by the step function and here.
    pub(super) fn progress(&mut self, start: Start, what: Progress) {
        let is_current = self.current.as_ref().is_some_and(|current| current.context.start == start);
        if !is_current {
            return;
        }
        let input = match what {
            Progress::Spawned(process) => self.spawned(start, process),
            Progress::SpawnFailed(why) => Input::SpawnFailed(start, why),
            Progress::Refused(why) => self.not_started(start, why),
            Progress::Confined(layers) => {
                self.edit(|current| current.layers = Some(layers));
                return;
            }
            Progress::ManifestRead => Input::ManifestRead(start),
            Progress::ManifestDiffers(what) => self.differs(start, &what),
            Progress::Ready(ready) => {
                self.edit(|current| current.has_ui = ready.has_ui);
                Input::ReadyRead(start)
            }
            Progress::Connected(link) => {
                self.edit(|current| current.link = Some(link));
                Input::Connected(start)
            }
            Progress::Failed(why) => Input::StartFailed(start, why),
            Progress::Exited(exit) => {
                self.edit(|current| current.exit = Some(exit));
                Input::Exited(start)
            }
            Progress::Drained => Input::Drained(start),
            Progress::Health(health) => {
                self.edit(|current| current.health = health);
                return;
            }
            Progress::Usage(usage) => {
                self.audit("plugin.usage", "host", usage.to_json());
                self.shared.metrics.show_usage(self.name.as_str(), Some(&usage));
                self.edit(|current| current.usage = Some(usage));
                return;
            }
            Progress::UiFound => {
                self.edit(|current| current.has_ui = true);
                return;
            }
            Progress::HealthFailed(why) => {
                self.edit(|current| current.health = Health::Failing);
                Input::HealthFailed(start, why)
            }
            Progress::ChannelLost(how) => self.channel_lost(start, how),
            Progress::Reconnected(link) => {
                self.audit("plugin.channel_reopened", "host", json!({"start": start}));
                self.edit(|current| current.link = Some(link));
                Input::Reconnected(start)
            }
            Progress::ReconnectFailed(why) => Input::ReconnectFailed(start, why),
        };
        self.give(input);
    }

    fn spawned(&mut self, start: Start, process: Arc<Process>) -> Input {
        let detail = json!({
            "start": start,
            "pid": process.pid(),
            "containment": process.containment().as_str(),
            "user": process.confined().user(),
            "hash": self.version.as_ref().map(|version| version.artifact.hash.as_str()),
        });
        self.audit("plugin.started", "host", detail);
        // Whatever kept it from starting before does not any more.
        self.not_started = None;
        self.edit(|current| current.process = Some(process));
        Input::Spawned(start)
    }

    fn differs(&mut self, start: Start, what: &str) -> Input {
        let why = format!(
            "the manifest at its start is not the one that was inspected (different: {what}); \
             a plugin must write the same manifest every time. Mend it, or start it again"
        );
        self.audit("plugin.refused", "host", json!({"start": start, "reason": why}));
        self.log.say("error", why.clone());
        self.note = Some(why);
        Input::ManifestDiffers(start)
    }

    /// It may not run on this machine as it is set; the version stays, and a start tries again.
    fn not_started(&mut self, start: Start, why: String) -> Input {
        self.audit("plugin.refused", "host", json!({"start": start, "reason": why}));
        self.log.say("error", why.clone());
        self.not_started = Some(why);
        Input::SpawnRefused(start)
    }

    fn channel_lost(&mut self, start: Start, how: String) -> Input {
        let link = self.current.as_ref().and_then(|current| current.link.clone());
        let reconnects = link.is_some_and(|link| link.features.contains(&temps_protocol::Feature::Reconnect));
        self.edit(|current| current.channel = Some("lost"));
        self.audit(
            "plugin.channel_lost",
            "host",
            json!({"start": start, "reason": how, "reconnects": reconnects}),
        );
        self.log.say("warn", format!("the channel was lost: {how}"));
        Input::ChannelLost(start, reconnects, how)
    }
}
