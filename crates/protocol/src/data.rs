//! Platform data that a plugin can ask for over the channel, and the methods that ask for it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A project as plugins see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProjectInfo {
    /// The project's id on the wire.
    pub id: i32,
    /// Name for people.
    pub name: String,
    /// Name for URLs.
    pub slug: String,
    /// Name of the source repository; empty if there is none.
    #[serde(default)]
    pub repo_name: String,
    /// Owner of the source repository; empty if there is none.
    #[serde(default)]
    pub repo_owner: String,
    /// Branch that production is built from.
    #[serde(default)]
    pub main_branch: String,
    /// How the project is built, for example `nextjs`; empty if unknown.
    #[serde(default)]
    pub preset: String,
    /// Where the source comes from, for example `git`; empty if unknown.
    #[serde(default)]
    pub source_type: String,
    /// When the project was registered.
    pub created_at: DateTime<Utc>,
    /// When the project was last changed.
    pub updated_at: DateTime<Utc>,
    /// When the project was last deployed, if ever.
    #[serde(default)]
    pub last_deployment: Option<DateTime<Utc>>,
    /// Whether branches get environments of their own.
    #[serde(default)]
    pub enable_preview_environments: bool,
    /// The platform's own id for the project, where that is not an integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// An environment of a project as plugins see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvironmentInfo {
    /// The environment's id on the wire.
    pub id: i32,
    /// The project that it belongs to.
    pub project_id: i32,
    /// Name for people, for example `production`.
    pub name: String,
    /// Name for URLs.
    pub slug: String,
    /// Branch that is deployed there, if it follows one.
    #[serde(default)]
    pub branch: Option<String>,
    /// Whether it was made for a branch or pull request.
    #[serde(default)]
    pub is_preview: bool,
    /// The deployment that serves there now, if any.
    #[serde(default)]
    pub current_deployment_id: Option<i32>,
    /// When the environment was made.
    pub created_at: DateTime<Utc>,
    /// When the environment was last changed.
    pub updated_at: DateTime<Utc>,
    /// The platform's own id for the environment, where that is not an integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// A deployment as plugins see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentInfo {
    /// The deployment's id on the wire.
    pub id: i32,
    /// The project that was deployed.
    pub project_id: i32,
    /// The environment that it was deployed to.
    pub environment_id: i32,
    /// Where the deployment stands: `pending`, `building`, `deploying`, `ready`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// The URL that it serves, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Branch that was deployed, if known.
    #[serde(default)]
    pub branch: Option<String>,
    /// Tag that was deployed, if any.
    #[serde(default)]
    pub tag: Option<String>,
    /// Commit that was deployed, if known.
    #[serde(default)]
    pub commit_sha: Option<String>,
    /// First line of the commit's message, if known.
    #[serde(default)]
    pub commit_message: Option<String>,
    /// Who wrote the commit, if known.
    #[serde(default)]
    pub commit_author: Option<String>,
    /// When the deployment was reported first.
    pub created_at: DateTime<Utc>,
    /// When work on it began, if it did.
    #[serde(default)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended, if it has.
    #[serde(default)]
    pub finished_at: Option<DateTime<Utc>>,
    /// The platform's own id for the deployment, where that is not an integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// A data method that a plugin can call, and that an operator can grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// One project by `project_id`.
    GetProject,
    /// All projects that the plugin may see.
    ListProjects,
    /// One environment by `environment_id`.
    GetEnvironment,
    /// The environments of `project_id`.
    ListEnvironments,
    /// One deployment by `deployment_id`.
    GetDeployment,
    /// The newest deployment of `project_id`, in `environment_id` if given.
    GetLastDeployment,
    /// Deployments of `project_id`, newest first, in `environment_id` if given, at most `limit`.
    ListDeployments,
}

impl Method {
    /// All data methods, in the order of the specification.
    pub const ALL: [Method; 7] = [
        Method::GetProject,
        Method::ListProjects,
        Method::GetEnvironment,
        Method::ListEnvironments,
        Method::GetDeployment,
        Method::GetLastDeployment,
        Method::ListDeployments,
    ];

    /// The method's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::GetProject => "get_project",
            Method::ListProjects => "list_projects",
            Method::GetEnvironment => "get_environment",
            Method::ListEnvironments => "list_environments",
            Method::GetDeployment => "get_deployment",
            Method::GetLastDeployment => "get_last_deployment",
            Method::ListDeployments => "list_deployments",
        }
    }

    /// The method with this name on the wire, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

/// Parameters of the data methods; each method reads the fields that it needs and ignores the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MethodParams {
    /// Id of a project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<i32>,
    /// Id of an environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<i32>,
    /// Id of a deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<i32>,
    /// Most entries wanted, 1 to [`crate::limits::MAX_LIST_LIMIT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_names_are_the_same_for_serde_and_for_parse() {
        for method in Method::ALL {
            assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
            assert_eq!(Method::parse(method.as_str()), Some(method));
        }
        assert_eq!(Method::parse("drop_database"), None);
    }
}
