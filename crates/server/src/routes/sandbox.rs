//! A plugin's sandbox, explained and read back.

use axum::Json;
use axum::extract::State as Of;
use temps_host::sandbox::{Access, Explanation, LayerReport, Limits, Mount, State, Step};

use super::answer::{Answer, Failure};
use super::extract::Path;
use crate::api::sandbox::{Sandbox, SandboxLayer, SandboxLimits, SandboxMount, SandboxStep, SandboxUse};
use crate::app::App;

/// What to do about a layer that this machine can do, and that is not in force.
const CHANGED: &str =
    "the machine could do it when the daemon started; see what changed it, and restart the plugin";

/// What a plugin's sandbox is made of, read back from the running plugin now.
#[utoipa::path(get, path = "/api/plugins/{name}/sandbox", tag = "plugins", operation_id = "explainPlugin",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "Every step, limit, mount, rule and layer, with its evidence", body = Sandbox)))]
pub(super) async fn explain(Of(app): Of<App>, Path(name): Path<String>) -> Answer<Json<Sandbox>> {
    let explained = app.host().explain(&name).await.ok_or_else(|| {
        Failure::not_found(format!("there is no plugin named {name:?}")).hint("GET /api/plugins lists all")
    })?;
    Ok(Json(sandbox(explained)))
}

fn sandbox(from: Explanation) -> Sandbox {
    let Explanation { plugin, at, running, pid, user, refused, limits, used, steps, mounts, layers } = from;
    Sandbox {
        plugin,
        at,
        running,
        pid,
        user,
        refused,
        limits: of_limits(limits),
        used: SandboxUse {
            memory: used.memory,
            cpu_us: used.cpu_us,
            tasks: used.tasks,
            throttled: used.throttled,
            background: used.background,
        },
        layers: layers.into_iter().map(layer).collect(),
        steps: steps.iter().map(step).collect(),
        mounts: mounts.into_iter().map(mount).collect(),
    }
}

fn of_limits(limits: Limits) -> SandboxLimits {
    let Limits { memory_max, cpu_quota, tasks_max, nofile, disk_max, tmp_max } = limits;
    SandboxLimits { memory_max, cpu_quota, tasks_max, nofile, disk_max, tmp_max }
}

fn layer(report: LayerReport) -> SandboxLayer {
    let LayerReport { layer, policy, state, mechanism, evidence } = report;
    // What was decided in full and does not show any more was taken away.
    let remedy = match (state, &mechanism) {
        (State::NotInForce, Some(_)) => Some(CHANGED),
        (State::NotInForce | State::Partial, _) => Some(layer.remedy()),
        _ => None,
    };
    SandboxLayer {
        layer: layer.as_str().to_owned(),
        policy: policy.as_str().to_owned(),
        state: match state {
            State::InForce => "in_force",
            State::Partial => "partial",
            State::NotInForce => "not_in_force",
            State::Off => "off",
            State::Unknown => "unknown",
        }
        .to_owned(),
        mechanism,
        evidence,
        protects_from: layer.protects_from().to_owned(),
        remedy: remedy.map(str::to_owned),
    }
}

fn step(step: &Step) -> SandboxStep {
    SandboxStep {
        step: step.name().to_owned(),
        layer: step.layer().as_str().to_owned(),
        does: step.describe(),
        rules: step.rules(),
    }
}

fn mount(Mount { path, access }: Mount) -> SandboxMount {
    let access = match access {
        Access::Program => "program",
        Access::Data => "data",
    };
    SandboxMount { path: path.display().to_string(), access: access.to_owned() }
}
