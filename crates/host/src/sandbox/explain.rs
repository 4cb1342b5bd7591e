//! What a plugin's sandbox is made of, and what of it is in force: read back at the moment of the question.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use temps_sandbox::{Decision, LayerReport, Limits, Mount, Policy, State, Step};

use super::SandboxSpec;
use crate::PluginHost;
use crate::plugin::process::Confined;

/// What can be said of a plugin's sandbox.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The plugin.
    pub plugin: String,
    /// When it was read back.
    pub at: DateTime<Utc>,
    /// Whether the plugin runs. If not, this is what its next start would get, and no layer is verified.
    pub running: bool,
    /// Its process id as the host sees it.
    pub pid: Option<u32>,
    /// The user that it runs as; `None` for the host's own, and while it does not run.
    pub user: Option<u32>,
    /// Why it would not be started.
    pub refused: Option<String>,
    /// How much it may use.
    pub limits: Limits,
    /// What its control group counts; what no group counts is unknown.
    pub used: temps_sandbox::Usage,
    /// What is done before the plugin is executed, in order.
    pub steps: Vec<Step>,
    /// What it sees beside the system's programs and libraries.
    pub mounts: Vec<Mount>,
    /// Every layer.
    pub layers: Vec<LayerReport>,
}

impl PluginHost {
    /// Explains a plugin's sandbox, and reads back what of it is in force; `None` for a plugin that there is not.
    pub async fn explain(&self, name: &str) -> Option<Explanation> {
        let handle = self.shared.registry.get(name)?;
        let snapshot = handle.view.borrow().clone();
        let Some(confined) = snapshot.confined.clone() else {
            let granted = handle.grants.borrow().limits.clone();
            return Some(self.foreseen(name, &SandboxSpec::of_plugin(&self.shared.config(), name, &granted)));
        };
        let (name, pid) = (name.to_owned(), snapshot.pid);
        // Failing means that the runtime ends.
        tokio::task::spawn_blocking(move || of_running(name, pid, &confined)).await.ok()
    }

    fn foreseen(&self, name: &str, spec: &SandboxSpec) -> Explanation {
        let (layers, decided) = self.shared.launcher.foresee(spec);
        let (steps, refused) = match decided {
            Ok(Decision { steps, .. }) => (steps, None),
            Err(refusal) => (Vec::new(), Some(refusal.to_string())),
        };
        let report = |layer: temps_sandbox::Decided| LayerReport {
            layer: layer.layer,
            policy: layer.policy,
            state: if layer.policy == Policy::Off { State::Off } else { State::Unknown },
            mechanism: layer.mechanism,
            evidence: match (layer.policy, layer.missing) {
                (Policy::Off, _) => "off in the settings".to_owned(),
                (_, Some(why)) => {
                    format!("the plugin does not run; this machine cannot do it in full: {why}")
                }
                (_, None) => "the plugin does not run, so nothing was read back".to_owned(),
            },
        };
        Explanation {
            plugin: name.to_owned(),
            at: Utc::now(),
            running: false,
            pid: None,
            user: None,
            refused,
            limits: spec.limits,
            used: temps_sandbox::Usage::default(),
            mounts: mounts(&steps),
            steps,
            layers: layers.into_iter().map(report).collect(),
        }
    }
}

fn of_running(plugin: String, pid: Option<u32>, confined: &Arc<Confined>) -> Explanation {
    let steps = confined.steps();
    Explanation {
        plugin,
        at: Utc::now(),
        running: true,
        pid,
        user: confined.user(),
        refused: None,
        limits: confined.limits(),
        used: confined.usage(),
        mounts: mounts(&steps),
        steps,
        layers: confined.look(),
    }
}

fn mounts(steps: &[Step]) -> Vec<Mount> {
    let root = steps.iter().find_map(|step| match step {
        Step::Root(root) => Some(root.mounts.clone()),
        _ => None,
    });
    root.unwrap_or_default()
}
