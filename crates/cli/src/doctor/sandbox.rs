//! Which layers of the sandbox this machine gives to this user: each was built around a program that really ran, and read back.

use temps_sandbox::{Groups, LayerReport, Machine, Policies, State, TrialReport};

use super::{Check, Status};

/// Tries every layer.
pub(crate) fn checks() -> Vec<Check> {
    let tried = std::env::current_exe().map_err(|error| error.to_string()).and_then(|program| {
        let user = temps_host::sandbox::trial_user();
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
            std::iter::once(Check::new("sandbox", status, found)).chain(layers.iter().map(of_layer)).collect()
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
        State::Off => Check::new(name, Status::Ok, found),
        State::Partial | State::NotInForce => {
            Check::new(name, Status::Warning, found).hint(report.layer.remedy())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use temps_sandbox::{Layer, Policy};

    #[test]
    fn a_layer_that_is_not_in_force_comes_with_a_remedy_and_one_that_was_not_read_is_unknown() {
        let report = |state| LayerReport {
            layer: Layer::Memory,
            policy: Policy::Prefer,
            state,
            mechanism: None,
            evidence: "no group".into(),
        };
        let missing = of_layer(&report(State::NotInForce));
        assert_eq!(missing.status, Status::Warning);
        assert!(missing.hint.unwrap().contains("Delegate=yes") && missing.found.contains("NOT in force"));
        assert_eq!(of_layer(&report(State::Unknown)).status, Status::Unknown);
        assert_eq!(of_layer(&report(State::InForce)).hint, None);
    }
}
