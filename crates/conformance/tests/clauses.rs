//! The checks and `spec/PROTOCOL.md` fit each other: no rule for plugins is forgotten, no check is about nothing.

use std::collections::{BTreeMap, BTreeSet};

use temps_conformance::{NOT_TESTABLE, checks, clause, clauses};

#[test]
fn every_clause_that_binds_a_plugin_has_a_check_or_a_reason_for_having_none() {
    let checked: BTreeSet<&str> = checks().map(|check| check.clause).collect();
    let excused: BTreeSet<&str> = NOT_TESTABLE.iter().map(|(id, _)| *id).collect();
    let binds =
        |text: &str| text.split(|c: char| !c.is_alphabetic()).any(|word| word == "must" || word == "should");
    let forgotten: Vec<&str> = clauses()
        .iter()
        .filter(|clause| binds(&clause.text))
        .map(|clause| clause.id.as_str())
        .filter(|id| !checked.contains(id) && !excused.contains(id))
        .collect();
    assert!(forgotten.is_empty(), "neither checked nor listed as not testable: {forgotten:?}");
}

#[test]
fn every_check_is_about_a_clause_that_is_there_and_has_a_name_of_its_own() {
    let mut names = BTreeMap::new();
    for check in checks() {
        assert!(
            clause(check.clause).is_some(),
            "{} is about {}, which is not there",
            check.name,
            check.clause
        );
        assert!(names.insert(check.name, ()).is_none(), "two checks are named {}", check.name);
    }
    for (id, reason) in NOT_TESTABLE {
        assert!(clause(id).is_some() && !reason.is_empty(), "{id}");
    }
}
