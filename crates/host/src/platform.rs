//! What the embedding platform gives: its data, and who is calling.

use async_trait::async_trait;
use temps_protocol::{DeploymentInfo, EnvironmentInfo, ProjectInfo};

/// Why the platform could not answer. The text goes to the host's log, never to a plugin.
#[derive(Debug, thiserror::Error)]
#[error("the platform failed to answer: {0}")]
pub struct PlatformError(pub String);

/// How much a caller may do at a plugin's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May look: GET and HEAD.
    Viewer,
    /// May do everything.
    Admin,
}

impl Role {
    /// The word in headers, REST and the CLI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Admin => "admin",
        }
    }
}

/// Who is calling a plugin's route, as the platform verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The platform's id for the user or token.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Mail address, if known.
    pub email: Option<String>,
    /// What the caller may do.
    pub role: Role,
}

/// What a platform gives to its plugins. The host checks grants before it asks, and filters what comes back.
#[async_trait]
pub trait Platform: Send + Sync + 'static {
    /// One project, or `None` if there is none with this id.
    async fn get_project(&self, project_id: i32) -> Result<Option<ProjectInfo>, PlatformError>;

    /// All projects.
    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError>;

    /// One environment, or `None` if there is none with this id. By default there are none.
    async fn get_environment(&self, environment_id: i32) -> Result<Option<EnvironmentInfo>, PlatformError> {
        let _ = environment_id;
        Ok(None)
    }

    /// The environments of a project; empty if there is no such project. By default there are none.
    async fn list_environments(&self, project_id: i32) -> Result<Vec<EnvironmentInfo>, PlatformError> {
        let _ = project_id;
        Ok(Vec::new())
    }

    /// One deployment, or `None` if there is none with this id. By default there are none.
    async fn get_deployment(&self, deployment_id: i32) -> Result<Option<DeploymentInfo>, PlatformError> {
        let _ = deployment_id;
        Ok(None)
    }

    /// Deployments of a project, newest first, in one environment if given, at most `limit`. By default there are none.
    async fn list_deployments(
        &self,
        project_id: i32,
        environment_id: Option<i32>,
        limit: u32,
    ) -> Result<Vec<DeploymentInfo>, PlatformError> {
        let _ = (project_id, environment_id, limit);
        Ok(Vec::new())
    }

    /// The newest deployment of a project, in one environment if given.
    async fn get_last_deployment(
        &self,
        project_id: i32,
        environment_id: Option<i32>,
    ) -> Result<Option<DeploymentInfo>, PlatformError> {
        Ok(self.list_deployments(project_id, environment_id, 1).await?.into_iter().next())
    }

    /// Who sent this request to a plugin's route; `None` for a caller that is not signed in.
    ///
    /// By default nobody is, so that only granted public paths and a plugin's static page files answer.
    async fn authenticate(&self, request: &http::request::Parts) -> Option<Caller> {
        let _ = request;
        None
    }
}
