//! The platform's data as plugins ask for it, and who is calling their routes.

use async_trait::async_trait;
use temps_host::{Caller, Platform, PlatformError};
use temps_protocol::{DeploymentInfo, EnvironmentInfo, ProjectInfo};
use temps_store::{DeploymentFilter, StoreError};

use super::ReferencePlatform;

/// Most projects or environments that one call of a plugin gets; it bounds what an answer can weigh.
const MAX_LISTED: u32 = 1000;

#[async_trait]
impl Platform for ReferencePlatform {
    async fn get_project(&self, project_id: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        self.store.project(project_id).await.map_err(|error| failed(&error))
    }

    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        self.store.projects(0, MAX_LISTED).await.map_err(|error| failed(&error))
    }

    async fn get_environment(&self, environment_id: i32) -> Result<Option<EnvironmentInfo>, PlatformError> {
        let found = self.store.environment(environment_id).await.map_err(|error| failed(&error))?;
        Ok(found.map(|record| record.info))
    }

    async fn list_environments(&self, project_id: i32) -> Result<Vec<EnvironmentInfo>, PlatformError> {
        let found =
            self.store.environments(Some(project_id), 0, MAX_LISTED).await.map_err(|error| failed(&error))?;
        Ok(found.into_iter().map(|record| record.info).collect())
    }

    async fn get_deployment(&self, deployment_id: i32) -> Result<Option<DeploymentInfo>, PlatformError> {
        let found = self.store.deployment(deployment_id).await.map_err(|error| failed(&error))?;
        Ok(found.map(|record| record.info))
    }

    async fn list_deployments(
        &self,
        project_id: i32,
        environment_id: Option<i32>,
        limit: u32,
    ) -> Result<Vec<DeploymentInfo>, PlatformError> {
        let filter = DeploymentFilter {
            project_id: Some(project_id),
            environment_id,
            limit,
            ..DeploymentFilter::default()
        };
        let found = self.store.deployments(filter).await.map_err(|error| failed(&error))?;
        Ok(found.into_iter().map(|record| record.info).collect())
    }

    async fn authenticate(&self, request: &http::request::Parts) -> Option<Caller> {
        // A store that fails signs nobody in.
        let identity = self.access.identify(&request.headers).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a caller could not be looked up and was refused");
            None
        })?;
        Some(Caller { id: identity.id, name: identity.name, email: None, role: identity.role })
    }
}

fn failed(error: &StoreError) -> PlatformError {
    PlatformError(error.to_string())
}
