//! The typed client for platform data: one method per data method of the protocol.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use temps_protocol::data::{Method, MethodParams};
use temps_protocol::limits::REQUEST_TIMEOUT;
use temps_protocol::{ChannelError, DeploymentInfo, EnvironmentInfo, ErrorCode, ProjectInfo};

use crate::channel::Channel;

/// Asks the platform for data, over the channel. Cheap to clone.
///
/// Each call has a time-out, 10 s unless [`with_timeout`](Self::with_timeout) says otherwise. It covers everything: waiting
/// for a channel, for one of the 32 places in flight, and for the answer.
#[derive(Debug, Clone)]
pub struct PlatformClient {
    channel: Arc<Channel>,
    timeout: Duration,
}

/// Why the platform gave no data.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlatformError {
    /// The host made no channel in time. Some hosts never make one.
    #[error("{method} could not be asked: the host made no channel within {} s; try again later, or do without", .waited.as_secs_f32())]
    NoChannel {
        /// The method that was to be asked.
        method: String,
        /// How long the call waited.
        waited: Duration,
    },
    /// The platform did not answer in time.
    #[error("{method} was not answered within {} s; try again later", .waited.as_secs_f32())]
    Timeout {
        /// The method that was asked.
        method: String,
        /// How long the call waited.
        waited: Duration,
    },
    /// The channel was lost before the answer came. The question may be asked again.
    #[error("{method} was not answered: the channel was lost; ask again")]
    ChannelLost {
        /// The method that was asked.
        method: String,
    },
    /// The platform answered with an error.
    #[error("{method} was refused: {error}")]
    Refused {
        /// The method that was asked.
        method: String,
        /// What the platform said.
        error: ChannelError,
    },
    /// The answer does not have the form that the method promises.
    #[error("the answer to {method} cannot be read: {reason}")]
    BadAnswer {
        /// The method that was asked.
        method: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The question is larger than a frame may be (1 MiB).
    #[error("the question {method} has {bytes} bytes; a frame has at most 1048576")]
    TooLarge {
        /// The method that was to be asked.
        method: String,
        /// Size of the frame in bytes.
        bytes: usize,
    },
}

impl PlatformError {
    /// Whether the platform said that there is no such thing, or that the plugin may not see it.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if error.code == ErrorCode::NotFound)
    }

    /// Whether the operator has not granted what was asked.
    #[must_use]
    pub fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if error.code == ErrorCode::PermissionDenied)
    }
}

impl PlatformClient {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        Self { channel, timeout: REQUEST_TIMEOUT }
    }

    /// The channel that it asks over.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The same client with another time-out per call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether there is a channel at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.channel.is_connected()
    }

    /// One project.
    ///
    /// # Errors
    /// [`PlatformError`]; see [`PlatformError::is_not_found`].
    pub async fn get_project(&self, project_id: i32) -> Result<ProjectInfo, PlatformError> {
        let params = MethodParams { project_id: Some(project_id), ..MethodParams::default() };
        self.ask(Method::GetProject, params).await
    }

    /// All projects that the plugin may see.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        self.ask(Method::ListProjects, MethodParams::default()).await
    }

    /// One environment.
    ///
    /// # Errors
    /// [`PlatformError`]; see [`PlatformError::is_not_found`].
    pub async fn get_environment(&self, environment_id: i32) -> Result<EnvironmentInfo, PlatformError> {
        let params = MethodParams { environment_id: Some(environment_id), ..MethodParams::default() };
        self.ask(Method::GetEnvironment, params).await
    }

    /// The environments of a project.
    ///
    /// # Errors
    /// [`PlatformError`]; see [`PlatformError::is_not_found`].
    pub async fn list_environments(&self, project_id: i32) -> Result<Vec<EnvironmentInfo>, PlatformError> {
        let params = MethodParams { project_id: Some(project_id), ..MethodParams::default() };
        self.ask(Method::ListEnvironments, params).await
    }

    /// One deployment.
    ///
    /// # Errors
    /// [`PlatformError`]; see [`PlatformError::is_not_found`].
    pub async fn get_deployment(&self, deployment_id: i32) -> Result<DeploymentInfo, PlatformError> {
        let params = MethodParams { deployment_id: Some(deployment_id), ..MethodParams::default() };
        self.ask(Method::GetDeployment, params).await
    }

    /// The newest deployment of a project, in one environment if given.
    ///
    /// # Errors
    /// [`PlatformError`]; see [`PlatformError::is_not_found`].
    pub async fn get_last_deployment(
        &self,
        project_id: i32,
        environment_id: Option<i32>,
    ) -> Result<DeploymentInfo, PlatformError> {
        let params = MethodParams { project_id: Some(project_id), environment_id, ..MethodParams::default() };
        self.ask(Method::GetLastDeployment, params).await
    }

    /// Deployments of a project, newest first, in one environment if given; `limit` is 1 to 100, 20 if absent.
    ///
    /// # Errors
    /// [`PlatformError`]; see [`PlatformError::is_not_found`].
    pub async fn list_deployments(
        &self,
        project_id: i32,
        environment_id: Option<i32>,
        limit: Option<u32>,
    ) -> Result<Vec<DeploymentInfo>, PlatformError> {
        let params =
            MethodParams { project_id: Some(project_id), environment_id, limit, deployment_id: None };
        self.ask(Method::ListDeployments, params).await
    }

    /// Asks any method by name, for methods of a later host. `params` is an object.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, PlatformError> {
        self.channel.call(method, params, self.timeout).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        params: MethodParams,
    ) -> Result<T, PlatformError> {
        let bad = |e: serde_json::Error| PlatformError::BadAnswer {
            method: method.as_str().to_owned(),
            reason: e.to_string(),
        };
        let params = serde_json::to_value(params).map_err(bad)?;
        let answer = self.call(method.as_str(), params).await?;
        serde_json::from_value(answer).map_err(bad)
    }
}
