//! Deployments as REST takes and gives them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Known, and nothing done yet.
    Pending,
    /// Being built.
    Building,
    /// Built, and being brought up.
    Deploying,
    /// Passed its health check and serves traffic.
    Ready,
    /// Live and healthy.
    Succeeded,
    /// Did not get there; the end.
    Failed,
    /// Given up by somebody; the end.
    Cancelled,
}

impl DeploymentState {
    /// All states, in the order of a deployment's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Building,
        Self::Deploying,
        Self::Ready,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word in REST, CLI and on the plugins' wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Building => "building",
            Self::Deploying => "deploying",
            Self::Ready => "ready",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether a deployment in this state stays as it is for ever.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl std::fmt::Display for DeploymentState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// The deployment's id.
    pub id: i32,
    /// The project that was deployed.
    pub project_id: i32,
    /// Slug of the project.
    pub project: String,
    /// The environment that it was deployed to.
    pub environment_id: i32,
    /// Name of the environment.
    pub environment: String,
    /// The reporter's own id for it.
    pub external_id: Option<String>,
    /// Where it stands.
    pub state: DeploymentState,
    /// The URL that it serves.
    pub url: Option<String>,
    /// Branch that was deployed.
    pub branch: Option<String>,
    /// Tag that was deployed.
    pub tag: Option<String>,
    /// Commit that was deployed.
    pub commit_sha: Option<String>,
    /// First line of the commit's message.
    pub commit_message: Option<String>,
    /// Who wrote the commit.
    pub commit_author: Option<String>,
    /// Why it failed, if it did.
    pub error_message: Option<String>,
    /// Whether the daemon asks the URL until it is healthy.
    pub probe: bool,
    /// When it was reported first.
    pub created_at: DateTime<Utc>,
    /// When work on it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it became ready.
    pub ready_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// What a CI says of a deployment. Project and environment are made when they do not exist.
///
/// With an `external_id` the same deployment can be reported as often as one likes: the same report again changes
/// nothing, a later state moves it on, and fields that are left out stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentReport {
    /// Slug of the project (made when it does not exist), or the id of one that does.
    pub project: String,
    /// Name of the environment, made when it does not exist; `production` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The reporter's own id, 1 to 200 characters, unique within the project.
    #[schema(min_length = 1, max_length = 200)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Where it stands. Left out: `deploying` with `probe`, otherwise `pending`; in a later report, as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeploymentState>,
    /// The URL that it serves, `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Branch that was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Tag that was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Commit that was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_sha: Option<String>,
    /// The commit's message; its first line is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who wrote the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Why it failed, with state `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Let the daemon itself ask the URL: `ready` once it answers, `succeeded` once it has stayed healthy. Needs `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<bool>,
}

/// A change to a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentChange {
    /// Where it stands now.
    pub state: DeploymentState,
    /// The URL that it serves, `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Why it failed, with state `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

/// Which deployments are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeploymentQuery {
    /// Only this project, by slug or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only environments of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Only this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeploymentState>,
    /// Most entries wanted, 1 to 500; 50 when not given.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
