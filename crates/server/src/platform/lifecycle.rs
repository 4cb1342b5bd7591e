//! A deployment's life: which state may follow which, and what each move tells the plugins.
//!
//! Everything here is a pure function of its arguments; the platform acts on the answers in one transaction.

use crate::api::deployments::DeploymentState;

/// What plugins are told about a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notice {
    /// `deployment.created`
    Created,
    /// `deployment.ready`
    Ready,
    /// `deployment.succeeded`
    Succeeded,
    /// `deployment.failed`
    Failed,
    /// `deployment.cancelled`
    Cancelled,
}

/// A move that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deployment is {from}, it cannot become {to}")]
pub struct IllegalMove {
    /// Where the deployment stands.
    pub from: DeploymentState,
    /// Where it was to go.
    pub to: DeploymentState,
}

/// What a new deployment in `state` tells: that it was created, and what its state means. States that were skipped
/// tell nothing, because nobody saw them.
#[must_use]
pub fn birth(state: DeploymentState) -> Vec<Notice> {
    std::iter::once(Notice::Created).chain(arrival(state)).collect()
}

/// What the move from one state to another tells; `None` when it is no move.
///
/// A deployment goes forward only, and may skip states; from each state that is not final it may fail or be cancelled.
///
/// # Errors
/// [`IllegalMove`] when it may not.
pub fn transition(from: DeploymentState, to: DeploymentState) -> Result<Option<Notice>, IllegalMove> {
    if from == to {
        return Ok(None);
    }
    if from.is_final() || step_of(to) <= step_of(from) {
        return Err(IllegalMove { from, to });
    }
    Ok(arrival(to))
}

/// Whether a report of `reported` says only what is past, for a deployment that stands at `now`: reports may arrive
/// twice and late, and that must not be an error.
#[must_use]
pub fn is_past(now: DeploymentState, reported: DeploymentState) -> bool {
    !reported.is_final() && now != reported && (now.is_final() || step_of(reported) < step_of(now))
}

fn arrival(state: DeploymentState) -> Option<Notice> {
    match state {
        DeploymentState::Pending | DeploymentState::Building | DeploymentState::Deploying => None,
        DeploymentState::Ready => Some(Notice::Ready),
        DeploymentState::Succeeded => Some(Notice::Succeeded),
        DeploymentState::Failed => Some(Notice::Failed),
        DeploymentState::Cancelled => Some(Notice::Cancelled),
    }
}

/// How far along a state is. The three ends are equally far.
fn step_of(state: DeploymentState) -> u8 {
    match state {
        DeploymentState::Pending => 0,
        DeploymentState::Building => 1,
        DeploymentState::Deploying => 2,
        DeploymentState::Ready => 3,
        DeploymentState::Succeeded | DeploymentState::Failed | DeploymentState::Cancelled => 4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use DeploymentState::{Building, Cancelled, Deploying, Failed, Pending, Ready, Succeeded};

    fn any_state() -> impl Strategy<Value = DeploymentState> {
        select(DeploymentState::ALL.to_vec())
    }

    #[test]
    fn the_straight_way_tells_each_station_once() {
        assert_eq!(birth(Pending), [Notice::Created]);
        assert_eq!(transition(Pending, Building), Ok(None));
        assert_eq!(transition(Building, Deploying), Ok(None));
        assert_eq!(transition(Deploying, Ready), Ok(Some(Notice::Ready)));
        assert_eq!(transition(Ready, Succeeded), Ok(Some(Notice::Succeeded)));
    }

    #[test]
    fn a_deployment_that_is_reported_at_its_end_tells_only_what_was_seen() {
        assert_eq!(birth(Succeeded), [Notice::Created, Notice::Succeeded]);
        assert_eq!(birth(Failed), [Notice::Created, Notice::Failed]);
        assert_eq!(transition(Pending, Succeeded), Ok(Some(Notice::Succeeded)));
    }

    #[test]
    fn nothing_goes_back() {
        assert_eq!(transition(Ready, Building), Err(IllegalMove { from: Ready, to: Building }));
        assert_eq!(transition(Succeeded, Failed), Err(IllegalMove { from: Succeeded, to: Failed }));
        assert_eq!(transition(Cancelled, Ready), Err(IllegalMove { from: Cancelled, to: Ready }));
    }

    proptest! {
        #[test]
        fn a_final_state_is_never_left(from in any_state(), to in any_state()) {
            let moved = transition(from, to);
            prop_assert_eq!(from.is_final() && from != to && moved.is_ok(), false);
        }

        #[test]
        fn every_unfinished_deployment_can_fail_and_be_cancelled(from in any_state()) {
            prop_assume!(!from.is_final());
            prop_assert_eq!(transition(from, Failed), Ok(Some(Notice::Failed)));
            prop_assert_eq!(transition(from, Cancelled), Ok(Some(Notice::Cancelled)));
        }

        #[test]
        fn a_whole_life_tells_created_first_and_exactly_one_end_last(wishes in prop::collection::vec(any_state(), 1..12)) {
            let mut state = wishes[0];
            let mut told = birth(state);
            for wish in &wishes[1..] {
                if let Ok(notice) = transition(state, *wish) {
                    state = *wish;
                    told.extend(notice);
                }
            }
            prop_assert_eq!(told[0], Notice::Created);
            let ends = told.iter().filter(|n| matches!(n, Notice::Succeeded | Notice::Failed | Notice::Cancelled)).count();
            prop_assert_eq!(ends, usize::from(state.is_final()));
            let distinct: std::collections::HashSet<_> = told.iter().collect();
            prop_assert_eq!(distinct.len(), told.len(), "nothing is told twice");
        }

        #[test]
        fn what_is_past_is_never_a_legal_move(now in any_state(), reported in any_state()) {
            if is_past(now, reported) {
                prop_assert!(transition(now, reported).is_err());
            }
        }
    }
}
