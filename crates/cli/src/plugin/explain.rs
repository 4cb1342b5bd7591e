//! `temps plugin explain`: every step, limit, mount, rule and layer of a plugin's sandbox, with what shows that it is in force.

use temps_server::api::sandbox::{Sandbox, SandboxLayer, SandboxLimits};

use crate::audit::words::bytes;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, plain, record, table, time};

/// Shows it. The daemon reads everything back for this answer.
pub(crate) async fn run(name: &str, client: &Client, output: Output) -> Result<(), Failure> {
    let sandbox: Sandbox = client.get(&["api", "plugins", name, "sandbox"]).await?;
    output.data(&sandbox, text)
}

fn text(sandbox: &Sandbox) -> String {
    let mut parts = vec![head(sandbox)];
    if !sandbox.layers.is_empty() {
        parts.push(layers(&sandbox.layers));
    }
    if !sandbox.mounts.is_empty() {
        let rows = sandbox.mounts.iter().map(|mount| [mount.access.clone(), mount.path.clone()]);
        parts.push(table(["ACCESS", "PATH"], rows));
    }
    let mut steps = Vec::new();
    for (number, step) in sandbox.steps.iter().enumerate() {
        steps.push(plain(&format!("{:2}. {}: {}", number + 1, step.step, step.does)));
        steps.extend(step.rules.iter().map(|rule| plain(&format!("      {rule}"))));
    }
    if !steps.is_empty() {
        parts.push(steps.join("\n"));
    }
    parts.join("\n\n")
}

fn head(sandbox: &Sandbox) -> String {
    let SandboxLimits { memory_max, cpu_quota, tasks_max, nofile, disk_max, tmp_max } = sandbox.limits;
    let limits = format!(
        "memory {}, cpu {cpu_quota} %, {tasks_max} tasks, {nofile} files, disk {}, tmp {}",
        bytes(memory_max),
        bytes(disk_max),
        bytes(tmp_max)
    );
    let seen = if sandbox.running {
        format!("read back at {}", time(sandbox.at))
    } else {
        "nothing: it does not run, and this is what its next start would get".to_owned()
    };
    let used = &sandbox.used;
    let uses = [
        used.memory.map(|memory| format!("memory {}", bytes(memory))),
        used.cpu_us.map(|us| format!("cpu {:.1} s since its start", us as f64 / 1e6)),
        used.tasks.map(|tasks| format!("{tasks} tasks with the launcher's")),
        used.throttled.map(|count| format!("held back {count} times")),
        used.background
            .then(|| "served after all others, because it always uses its processor time up".to_owned()),
    ];
    let uses = uses.into_iter().flatten().collect::<Vec<_>>().join(", ");
    record([
        ("plugin", Some(sandbox.plugin.clone())),
        ("verified", Some(seen)),
        ("layers", sandbox.running.then(|| count(&sandbox.layers))),
        ("refused", sandbox.refused.clone()),
        ("process", sandbox.pid.map(|pid| pid.to_string())),
        ("user", sandbox.user.map(|user| user.to_string())),
        ("limits", Some(limits)),
        ("uses", (!uses.is_empty()).then_some(uses)),
    ])
}

/// How many layers are how, worst news included.
fn count(layers: &[SandboxLayer]) -> String {
    let of = |state: &str| layers.iter().filter(|layer| layer.state == state).count();
    let words = [
        ("in_force", "in force"),
        ("partial", "in part"),
        ("not_in_force", "NOT in force"),
        ("off", "off"),
        ("unknown", "unknown"),
    ];
    let counted = words.into_iter().map(|(state, words)| (of(state), words)).filter(|(count, _)| *count > 0);
    counted.map(|(count, words)| format!("{count} {words}")).collect::<Vec<_>>().join(", ")
}

fn layers(layers: &[SandboxLayer]) -> String {
    let rows = layers.iter().map(|layer| {
        let state = match layer.state.as_str() {
            "in_force" => "in force",
            "not_in_force" => "NOT in force",
            other => other,
        };
        let remedy = layer.remedy.as_ref().map(|remedy| format!(" -> {remedy}")).unwrap_or_default();
        [
            layer.layer.clone(),
            layer.policy.clone(),
            state.to_owned(),
            layer.mechanism.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{}{remedy}", layer.evidence),
        ]
    });
    table(["LAYER", "POLICY", "STATE", "BY", "EVIDENCE"], rows)
}
