//! Why the platform does not do what it is asked to.

use temps_store::StoreError;

use super::lifecycle::IllegalMove;

/// A refusal of the platform: the caller asked for something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such project.
    #[error("there is no project {0:?}")]
    NoProject(String),
    /// There is no such environment.
    #[error("there is no environment {0:?}")]
    NoEnvironment(String),
    /// There is no such deployment.
    #[error("there is no deployment {0}")]
    NoDeployment(i32),
    /// Another project has the slug.
    #[error("there is a project with the slug {0:?} already")]
    SlugTaken(String),
    /// The project has an environment of this name.
    #[error("the project has an environment {0:?} already")]
    EnvironmentTaken(String),
    /// The reporter's id belongs to a deployment to another environment.
    #[error(
        "{external_id:?} is a deployment to {environment:?} already; each deployment needs its own external_id"
    )]
    ExternalIdElsewhere {
        /// The reporter's id.
        external_id: String,
        /// The environment of the deployment that has it.
        environment: String,
    },
    /// The deployment cannot go there.
    #[error(transparent)]
    IllegalMove(#[from] IllegalMove),
    /// A value is not acceptable.
    #[error("{field}: {message}")]
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
}

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The platform refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed; nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
