//! What is decided for machines that differ.

use super::*;

fn machine() -> Machine {
    Machine {
        uid: 0,
        gid: 0,
        user_namespace: false,
        unavailable: BTreeMap::new(),
        partial: BTreeMap::new(),
        groups: [Layer::Memory, Layer::Cpu, Layer::Tasks].map(|l| (l, Mechanism::GroupV2)).into(),
        groups_refused: BTreeMap::new(),
    }
}

fn wanted() -> Wanted {
    Wanted {
        policies: Policies::strictest(),
        limits: Limits::default(),
        egress: None,
        mounts: vec![Mount { path: "/srv/data".into(), access: crate::plan::Access::Data }],
        user: Some((70_001, 70_001)),
    }
}

fn names(decision: &Decision) -> Vec<&'static str> {
    decision.steps.iter().map(Step::name).collect()
}

fn program() -> Program {
    Program {
        path: "/bin/true".into(),
        args: vec![crate::Arg::plain("true")],
        env: BTreeMap::new(),
        directory: "/".into(),
    }
}

#[test]
fn a_machine_that_can_do_everything_does_it_and_in_order() {
    let decision = decide(&machine(), &wanted()).unwrap();
    assert!(decision.layers.iter().all(|d| d.missing.is_none() && d.mechanism.is_some()), "{decision:?}");
    assert_eq!(decision.plan(program(), vec!["/group".into()]).check(), Ok(()));
    let steps = names(&decision);
    let at = |name: &str| steps.iter().position(|step| *step == name).unwrap_or_else(|| panic!("no {name}"));
    // The view of processes is mounted while the old one still shows that this is allowed.
    assert!(at("fresh_proc") < at("root"));
    // The user's change would take the capability with which the bounding set is emptied; filters come last of all.
    assert!(at("become_user") < at("drop_capabilities") && at("drop_capabilities") < at("no_new_privileges"));
    assert_eq!(steps.last(), Some(&"system_calls"));
    assert!(!steps.contains(&"user_namespace"));
}

#[test]
fn a_required_layer_that_is_missing_is_refused_by_name_with_a_remedy_and_a_preferred_one_is_reported() {
    for layer in Layer::ALL {
        let mut machine = machine();
        machine.unavailable.insert(layer, "no such thing".into());
        machine.groups.remove(&layer);
        let user = if layer == Layer::User { None } else { Some((70_001, 70_001)) };
        let wanted = Wanted { user, ..wanted() };
        let decision = decide(&machine, &wanted).unwrap();
        let decided = decision.of(layer).unwrap();
        // Every user of its own has a count of tasks of its own, so this one has a second way.
        let expected = layer != Layer::Tasks;
        assert_eq!(decided.missing.is_some(), expected, "{layer}: {decided:?}");
        assert_eq!(decision.plan(program(), Vec::new()).check(), Ok(()), "{layer}");
        let required = Wanted { policies: wanted.policies.clone().with(layer, Policy::Require), ..wanted };
        match decide(&machine, &required) {
            Err(refusal) => {
                let text = refusal.to_string();
                assert!(expected && refusal.layer == layer && text.contains(layer.as_str()), "{text}");
                assert!(!refusal.remedy.is_empty());
            }
            Ok(_) => assert!(!expected, "{layer} was not refused"),
        }
    }
}

#[test]
fn a_layer_that_is_off_leaves_no_step() {
    for layer in Layer::ALL {
        let wanted = Wanted { policies: Policies::strictest().with(layer, Policy::Off), ..wanted() };
        let decision = decide(&machine(), &wanted).unwrap();
        assert_eq!(decision.plan(program(), Vec::new()).check(), Ok(()), "{layer}");
        let decided = decision.of(layer).unwrap();
        assert_eq!((decided.mechanism.as_ref(), decided.missing.as_ref()), (None, None), "{layer}");
        let own = |step: &Step| step.layer() == layer;
        let kept = decision.steps.iter().filter(|step| own(step)).map(Step::name).collect::<Vec<_>>();
        let allowed: &[&str] = match layer {
            Layer::Processes => &["subreaper", "new_session", "die_with_launcher"],
            Layer::OpenFiles => &["process_limits"],
            // A /proc of its own is still mounted somewhere.
            Layer::Files => &["mount_namespace", "private_mounts"],
            _ => &[],
        };
        assert!(kept.iter().all(|step| allowed.contains(step)), "{layer}: {kept:?}");
    }
}

#[test]
fn a_part_is_no_whole() {
    let mut machine = machine();
    machine.partial.insert(Layer::Landlock, "version 2 of Landlock".into());
    let decision = decide(&machine, &wanted()).unwrap();
    assert!(names(&decision).contains(&"landlock"));
    assert!(decision.of(Layer::Landlock).unwrap().missing.is_some());
    let required =
        Wanted { policies: Policies::strictest().with(Layer::Landlock, Policy::Require), ..wanted() };
    assert!(decide(&machine, &required).is_err());
}

#[test]
fn an_ordinary_user_gets_a_user_namespace_and_is_told_what_it_lacks() {
    let machine =
        Machine { uid: 1000, gid: 1000, user_namespace: true, groups: BTreeMap::new(), ..machine() };
    let decision = decide(&machine, &Wanted { user: None, ..wanted() }).unwrap();
    let steps = names(&decision);
    assert_eq!(steps[0], "user_namespace");
    assert!(!steps.contains(&"become_user"));
    for layer in [Layer::User, Layer::Memory, Layer::Cpu, Layer::Tasks] {
        assert!(decision.of(layer).unwrap().missing.is_some(), "{layer}");
    }
    // The last resort is there, and is called what it is.
    assert!(decision.of(Layer::Memory).unwrap().mechanism.as_ref().unwrap().contains("per process"));
    assert_eq!(decision.of(Layer::Cpu).unwrap().mechanism, None);
}

#[test]
fn without_a_network_namespace_internet_sockets_are_refused_where_the_network_is_unwanted() {
    let mut machine = machine();
    machine.unavailable.insert(Layer::Network, "no".into());
    let internet = |policies: Policies| {
        let decision = decide(&machine, &Wanted { policies, ..wanted() }).unwrap();
        decision.steps.contains(&Step::SystemCalls { internet: true })
    };
    assert!(!internet(Policies::strictest()));
    assert!(internet(Policies::default().with(Layer::Network, Policy::Off)));
}

/// What was read of a program with these layers, one of which is in another state.
fn read_back(decision: &Decision, odd: Layer, state: State) -> Vec<LayerReport> {
    let report = |decided: &Decided| LayerReport {
        layer: decided.layer,
        policy: decided.policy,
        state: if decided.layer == odd { state } else { State::InForce },
        mechanism: decided.mechanism.clone(),
        evidence: "as read".into(),
    };
    decision.layers.iter().map(report).collect()
}

#[test]
fn what_the_machine_can_do_has_to_be_in_force_unless_it_is_only_preferred() {
    for layer in Layer::ALL {
        let with = |policy| {
            let wanted = Wanted { policies: Policies::default().with(layer, policy), ..wanted() };
            decide(&machine(), &wanted).unwrap()
        };
        for policy in [Policy::default(), Policy::Strict, Policy::Require] {
            let decision = with(policy);
            assert_eq!(decision.judge(&read_back(&decision, layer, State::InForce)), Ok(()));
            for state in [State::NotInForce, State::Partial, State::Unknown] {
                let breach = decision.judge(&read_back(&decision, layer, state)).unwrap_err();
                let text = breach.to_string();
                assert!(breach.layer == layer && text.contains(policy.as_str()), "{text}");
                assert!(text.contains("as read") && text.contains(layer.remedy()), "{text}");
            }
        }
        let preferred = with(Policy::Prefer);
        assert_eq!(preferred.judge(&read_back(&preferred, layer, State::NotInForce)), Ok(()));
    }
    // What the machine cannot do is left out by default, and nobody waits for it.
    let mut poor = machine();
    poor.unavailable.insert(Layer::Landlock, "no such thing".into());
    let decision = decide(&poor, &wanted()).unwrap();
    assert_eq!(decision.judge(&read_back(&decision, Layer::Landlock, State::NotInForce)), Ok(()));
    assert!(decision.judge(&read_back(&decision, Layer::Ipc, State::NotInForce)).is_err());
}
