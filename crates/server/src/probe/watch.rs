//! When a probed deployment becomes ready, succeeds or fails: a pure function of the answers and the time.

use std::time::{Duration, Instant};

use crate::api::deployments::DeploymentState;
use crate::config::ProbePolicy;

/// What a question to a deployment brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A status of 2xx or 3xx in time.
    Healthy,
    /// Something else, in words.
    Unhealthy(String),
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Ask again later.
    Wait,
    /// It serves.
    Ready,
    /// It has stayed healthy.
    Succeeded,
    /// It did not get there, and why.
    Failed(String),
}

/// What is known of one deployment since this process began to ask. A restart of the daemon begins anew, so that the
/// time in which nobody asked does not count against the deployment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    since: Instant,
    healthy_since: Option<Instant>,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, healthy_since: None }
    }

    /// Takes in an answer about a deployment that stands at `state`.
    pub(super) fn step(
        &mut self,
        state: DeploymentState,
        answer: Answer,
        now: Instant,
        policy: &ProbePolicy,
    ) -> Decision {
        let out_of_time = now.duration_since(self.since) >= policy.give_up_after;
        match answer {
            Answer::Healthy => {
                let healthy_since = *self.healthy_since.get_or_insert(now);
                if state != DeploymentState::Ready {
                    // The time to stay healthy begins with becoming ready.
                    *self = Self { since: now, healthy_since: Some(now) };
                    Decision::Ready
                } else if now.duration_since(healthy_since) >= policy.healthy_for {
                    Decision::Succeeded
                } else {
                    Decision::Wait
                }
            }
            Answer::Unhealthy(reason) => {
                self.healthy_since = None;
                match (out_of_time, state) {
                    (false, _) => Decision::Wait,
                    (true, DeploymentState::Ready) => Decision::Failed(format!(
                        "it did not stay healthy for {} within {}: {reason}",
                        words(policy.healthy_for),
                        words(policy.give_up_after)
                    )),
                    (true, _) => Decision::Failed(format!(
                        "it did not answer within {}: {reason}",
                        words(policy.give_up_after)
                    )),
                }
            }
        }
    }
}

fn words(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use DeploymentState::{Deploying, Ready};

    fn policy() -> ProbePolicy {
        ProbePolicy::default()
    }

    fn down() -> Answer {
        Answer::Unhealthy("connection refused".into())
    }

    #[test]
    fn it_is_ready_at_the_first_good_answer_and_succeeds_ten_seconds_later() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut watch = Watch::new(begin);
        assert_eq!(watch.step(Deploying, down(), at(1), &policy()), Decision::Wait);
        assert_eq!(watch.step(Deploying, Answer::Healthy, at(2), &policy()), Decision::Ready);
        assert_eq!(watch.step(Ready, Answer::Healthy, at(11), &policy()), Decision::Wait);
        assert_eq!(watch.step(Ready, Answer::Healthy, at(12), &policy()), Decision::Succeeded);
    }

    #[test]
    fn a_bad_answer_begins_the_healthy_time_anew() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut watch = Watch::new(begin);
        watch.step(Deploying, Answer::Healthy, at(0), &policy());
        assert_eq!(watch.step(Ready, down(), at(9), &policy()), Decision::Wait);
        assert_eq!(watch.step(Ready, Answer::Healthy, at(10), &policy()), Decision::Wait);
        assert_eq!(watch.step(Ready, Answer::Healthy, at(19), &policy()), Decision::Wait);
        assert_eq!(watch.step(Ready, Answer::Healthy, at(20), &policy()), Decision::Succeeded);
    }

    #[test]
    fn it_fails_with_the_last_answer_when_the_time_is_up() {
        let begin = Instant::now();
        let mut watch = Watch::new(begin);
        let late = begin + policy().give_up_after;
        let Decision::Failed(why) = watch.step(Deploying, down(), late, &policy()) else {
            panic!("must fail")
        };
        assert_eq!(why, "it did not answer within 5 min: connection refused");
        assert!(matches!(watch.step(Ready, down(), late, &policy()), Decision::Failed(_)));
    }

    #[test]
    fn after_a_restart_a_ready_deployment_must_stay_healthy_again() {
        let begin = Instant::now();
        let mut watch = Watch::new(begin);
        assert_eq!(watch.step(Ready, Answer::Healthy, begin, &policy()), Decision::Wait);
        let later = begin + policy().healthy_for;
        assert_eq!(watch.step(Ready, Answer::Healthy, later, &policy()), Decision::Succeeded);
    }

    proptest! {
        #[test]
        fn every_watch_ends(answers in prop::collection::vec(any::<bool>(), 700)) {
            let begin = Instant::now();
            let (mut watch, mut state) = (Watch::new(begin), Deploying);
            let mut ended = false;
            // Long enough for both deadlines; whatever comes at the end stays.
            let last = answers[answers.len() - 1];
            for (second, healthy) in answers.iter().copied().chain(std::iter::repeat_n(last, 400)).enumerate() {
                let answer = if healthy { Answer::Healthy } else { down() };
                match watch.step(state, answer, begin + Duration::from_secs(second as u64), &policy()) {
                    Decision::Wait => {}
                    Decision::Ready => { prop_assert_eq!(state, Deploying); state = Ready; }
                    Decision::Succeeded => { prop_assert_eq!(state, Ready); ended = true; }
                    Decision::Failed(_) => ended = true,
                }
                if ended { break; }
            }
            prop_assert!(ended);
        }
    }
}
