//! Which layers of the sandbox this machine gives to this user: each was built around a program that really ran, and read
//! back. And what the settings make of that: what is off, and what is required in vain.

use temps_host::sandbox::SandboxSettings;
use temps_sandbox::{
    Groups, Layer, LayerReport, Limits, Machine, Policies, Policy, State, TrialReport, Wanted,
};

use super::{Check, Status};

/// Tries every layer.
pub(crate) fn checks(settings: &SandboxSettings) -> Vec<Check> {
    let tried = std::env::current_exe().map_err(|error| error.to_string()).and_then(|program| {
        let user = temps_host::sandbox::trial_user(settings);
        Machine::probe(&program, &Groups::open(), &Policies::strictest(), user)
            .map_err(|error| error.to_string())
    });
    match tried {
        Ok(TrialReport { machine, layers }) => {
            let who = if machine.uid == 0 { "root" } else { "an ordinary user" };
            let full = layers.iter().filter(|report| report.state == State::InForce).count();
            let found = format!(
                "as {who}, {full} of {} layers were in force around a program that was tried",
                layers.len()
            );
            let status = if full == layers.len() { Status::Ok } else { Status::Warning };
            let mut checks = vec![Check::new("sandbox", status, found)];
            checks.extend(layers.iter().map(of_layer));
            checks.extend(
                scopes(settings)
                    .into_iter()
                    .flat_map(|(whose, policies)| of_settings(&machine, settings, &whose, &policies)),
            );
            checks
        }
        Err(why) => vec![Check::new("sandbox", Status::Problem, format!("no plugin can be launched: {why}"))],
    }
}

fn of_layer(report: &LayerReport) -> Check {
    let name = format!("sandbox layer {}", report.layer);
    let by = report.mechanism.as_ref().map(|by| format!("{by}; ")).unwrap_or_default();
    let found = format!("{}: {by}{}", report.state.as_str(), report.evidence);
    match report.state {
        State::InForce => Check::new(name, Status::Ok, found),
        State::Unknown => Check::new(name, Status::Unknown, found),
        State::Off => Check::new(name, Status::Warning, found),
        State::Partial | State::NotInForce => {
            Check::new(name, Status::Warning, found).hint(report.layer.remedy())
        }
    }
}

/// What is set for all plugins, and for each one for which something else is.
fn scopes(settings: &SandboxSettings) -> Vec<(String, Policies)> {
    let all = settings.policies("");
    let own = settings.plugins.keys().map(|name| (format!("for {name}"), settings.policies(name)));
    let own = own.filter(|(_, own)| *own != all).collect::<Vec<_>>();
    std::iter::once(("for all plugins".to_owned(), all.clone())).chain(own).collect()
}

/// What an operator should know of settings: what they turn off, and whether they require what is not to be had.
fn of_settings(
    machine: &Machine,
    settings: &SandboxSettings,
    whose: &str,
    policies: &Policies,
) -> Vec<Check> {
    let elsewhere = |layer| whose != "for all plugins" && settings.all.policies.of(layer) == Policy::Off;
    let off = Layer::ALL.into_iter().filter(|layer| policies.of(*layer) == Policy::Off && !elsewhere(*layer));
    let mut checks: Vec<Check> = off.map(|layer| turned_off(layer, whose)).collect();
    let user = machine.has_users(policies).then(|| temps_host::sandbox::trial_user(settings));
    let wanted = Wanted {
        policies: policies.clone(),
        limits: Limits::default(),
        mounts: Vec::new(),
        egress: None,
        user,
    };
    if let Err(refusal) = temps_sandbox::decide(machine, &wanted) {
        let name = format!("sandbox setting {}", refusal.layer);
        let found =
            format!("required {whose}, and not to be had here, so nothing is started: {}", refusal.why);
        checks.push(Check::new(name, Status::Problem, found).hint(refusal.remedy));
    }
    checks
}

fn turned_off(layer: Layer, whose: &str) -> Check {
    let hint = format!("it would protect from {}", layer.protects_from());
    Check::new(format!("sandbox setting {layer}"), Status::Warning, format!("off {whose}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use temps_host::sandbox::PluginSandbox;

    fn report(state: State) -> LayerReport {
        LayerReport {
            layer: Layer::Memory,
            policy: Policy::Strict,
            state,
            mechanism: None,
            evidence: "no group".into(),
        }
    }

    #[test]
    fn a_layer_that_is_not_in_force_comes_with_a_remedy_and_one_that_was_not_read_is_unknown() {
        let missing = of_layer(&report(State::NotInForce));
        assert_eq!(missing.status, Status::Warning);
        assert!(missing.hint.unwrap().contains("Delegate=yes") && missing.found.contains("NOT in force"));
        assert_eq!(of_layer(&report(State::Unknown)).status, Status::Unknown);
        assert_eq!(of_layer(&report(State::InForce)).hint, None);
    }

    #[test]
    fn what_is_off_is_said_and_what_is_required_in_vain_is_a_problem() {
        let with = |layer, policy| PluginSandbox {
            policies: Policies::unset().with(layer, policy),
            read_only_paths: Vec::new(),
        };
        let machine = Machine::unable("nothing works");
        let found = |settings: &SandboxSettings| -> Vec<Check> {
            let scopes = scopes(settings).into_iter();
            scopes.flat_map(|(whose, policies)| of_settings(&machine, settings, &whose, &policies)).collect()
        };
        let mut settings = SandboxSettings::default();
        assert_eq!(found(&settings), []);
        settings.all = with(Layer::Ipc, Policy::Off);
        settings.plugins.insert("hello".to_owned(), with(Layer::Memory, Policy::Off));
        let off = found(&settings);
        assert!(off.iter().all(|check| check.status == Status::Warning) && off.len() == 2, "{off:?}");
        assert!(off[0].found == "off for all plugins" && off[1].found == "off for hello", "{off:?}");
        settings.plugins.insert("hello".to_owned(), with(Layer::Files, Policy::Require));
        let vain = found(&settings).pop().unwrap();
        assert_eq!(vain.status, Status::Problem);
        assert!(
            vain.found.contains("required for hello") && vain.found.contains("nothing works"),
            "{vain:?}"
        );
    }
}
