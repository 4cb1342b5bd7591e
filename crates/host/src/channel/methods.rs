//! The data methods: what a request asks for, whether it is granted, and what the platform answers.
//!
//! Reading a request and judging it is pure ([`read`]). Nothing here knows of frames or sockets.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use temps_protocol::data::Method;
use temps_protocol::limits::{DEFAULT_LIST_LIMIT, MAX_LIST_LIMIT};
use temps_protocol::{ChannelError, ErrorCode};
use tokio::sync::watch;

use crate::grants::Grants;
use crate::platform::{Platform, PlatformError};

/// A request that was read, checked and granted as far as its words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    GetProject { project_id: i32 },
    ListProjects { limit: Option<usize> },
    GetEnvironment { environment_id: i32 },
    ListEnvironments { project_id: i32 },
    GetDeployment { deployment_id: i32 },
    GetLastDeployment { project_id: i32, environment_id: Option<i32> },
    ListDeployments { project_id: i32, environment_id: Option<i32>, limit: u32 },
}

/// Why a request gets no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What the plugin is told.
    pub(super) error: ChannelError,
    /// Set when it asked for what it may not have.
    pub(super) denied: Option<Denied>,
    /// What went wrong, for the host's log and nobody else.
    pub(super) cause: Option<String>,
}

/// What a plugin asked for and may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Denied {
    /// A method that is not granted.
    Method(Method),
    /// Something of a project that is not granted, by this method.
    Project(Method, i32),
}

/// Reads a request and judges it by what it says.
pub(super) fn read(method: Method, params: &Value, grants: &Grants) -> Result<Call, Refusal> {
    if !grants.allows_method(method) {
        let message = format!("{} is not granted to this plugin; an operator can grant it", method.as_str());
        let error = ChannelError::new(ErrorCode::PermissionDenied, message);
        return Err(Refusal { error, denied: Some(Denied::Method(method)), cause: None });
    }
    let call = parse(method, &Params { method, given: params })?;
    match call.project() {
        Some(project) if !grants.allows_project(project) => Err(outside(method, "project", project, project)),
        _ => Ok(call),
    }
}

fn parse(method: Method, params: &Params<'_>) -> Result<Call, Refusal> {
    Ok(match method {
        Method::GetProject => Call::GetProject { project_id: params.id("project_id")? },
        Method::ListProjects => {
            Call::ListProjects { limit: params.limit()?.and_then(|limit| usize::try_from(limit).ok()) }
        }
        Method::GetEnvironment => Call::GetEnvironment { environment_id: params.id("environment_id")? },
        Method::ListEnvironments => Call::ListEnvironments { project_id: params.id("project_id")? },
        Method::GetDeployment => Call::GetDeployment { deployment_id: params.id("deployment_id")? },
        Method::GetLastDeployment => Call::GetLastDeployment {
            project_id: params.id("project_id")?,
            environment_id: params.optional_id("environment_id")?,
        },
        Method::ListDeployments => Call::ListDeployments {
            project_id: params.id("project_id")?,
            environment_id: params.optional_id("environment_id")?,
            limit: params.limit()?.unwrap_or(DEFAULT_LIST_LIMIT).min(MAX_LIST_LIMIT),
        },
    })
}

/// Asks the platform, and keeps back what the plugin may not see. Grants are looked at again once the answer is there: they
/// may have been revoked meanwhile.
pub(super) async fn carry_out(
    call: Call,
    platform: &dyn Platform,
    grants: &watch::Receiver<Arc<Grants>>,
) -> Result<Box<RawValue>, Refusal> {
    match call {
        Call::GetProject { project_id } => {
            let found = platform.get_project(project_id).await.map_err(failed)?;
            found_in(call, "project", project_id, found, grants, |project| project.id)
        }
        Call::ListProjects { limit } => {
            let mut all = platform.list_projects().await.map_err(failed)?;
            {
                let grants = grants.borrow();
                all.retain(|project| grants.allows_project(project.id));
            }
            all.truncate(limit.unwrap_or(usize::MAX));
            encode(&all)
        }
        Call::GetEnvironment { environment_id } => {
            let found = platform.get_environment(environment_id).await.map_err(failed)?;
            found_in(call, "environment", environment_id, found, grants, |environment| environment.project_id)
        }
        Call::ListEnvironments { project_id } => {
            let mut all = platform.list_environments(project_id).await.map_err(failed)?;
            let grants = grants.borrow();
            all.retain(|environment| grants.allows_project(environment.project_id));
            encode(&all)
        }
        Call::GetDeployment { deployment_id } => {
            let found = platform.get_deployment(deployment_id).await.map_err(failed)?;
            found_in(call, "deployment", deployment_id, found, grants, |deployment| deployment.project_id)
        }
        Call::GetLastDeployment { project_id, environment_id } => {
            let found = platform.get_last_deployment(project_id, environment_id).await.map_err(failed)?;
            match found {
                None => {
                    Err(plain(ErrorCode::NotFound, format!("project {project_id} has no such deployment")))
                }
                found => {
                    found_in(call, "project", project_id, found, grants, |deployment| deployment.project_id)
                }
            }
        }
        Call::ListDeployments { project_id, environment_id, limit } => {
            let mut all =
                platform.list_deployments(project_id, environment_id, limit).await.map_err(failed)?;
            let grants = grants.borrow();
            all.retain(|deployment| grants.allows_project(deployment.project_id));
            all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            encode(&all)
        }
    }
}

impl Call {
    /// The method that was called.
    pub(super) fn method(self) -> Method {
        match self {
            Call::GetProject { .. } => Method::GetProject,
            Call::ListProjects { .. } => Method::ListProjects,
            Call::GetEnvironment { .. } => Method::GetEnvironment,
            Call::ListEnvironments { .. } => Method::ListEnvironments,
            Call::GetDeployment { .. } => Method::GetDeployment,
            Call::GetLastDeployment { .. } => Method::GetLastDeployment,
            Call::ListDeployments { .. } => Method::ListDeployments,
        }
    }

    /// The project that the call names.
    fn project(self) -> Option<i32> {
        match self {
            Call::GetProject { project_id }
            | Call::ListEnvironments { project_id }
            | Call::GetLastDeployment { project_id, .. }
            | Call::ListDeployments { project_id, .. } => Some(project_id),
            Call::ListProjects { .. } | Call::GetEnvironment { .. } | Call::GetDeployment { .. } => None,
        }
    }
}

impl Denied {
    /// The method that was called.
    pub(super) fn method(self) -> Method {
        match self {
            Denied::Method(method) | Denied::Project(method, _) => method,
        }
    }
}

/// One thing that was asked for by its id, if it exists in a granted project. A thing elsewhere is answered exactly like one
/// that does not exist.
fn found_in<T: Serialize>(
    call: Call,
    what: &'static str,
    id: i32,
    found: Option<T>,
    grants: &watch::Receiver<Arc<Grants>>,
    project_of: impl Fn(&T) -> i32,
) -> Result<Box<RawValue>, Refusal> {
    let Some(found) = found else { return Err(plain(ErrorCode::NotFound, nothing(what, id))) };
    let project = project_of(&found);
    if grants.borrow().allows_project(project) {
        encode(&found)
    } else {
        Err(outside(call.method(), what, id, project))
    }
}

fn outside(method: Method, what: &'static str, id: i32, project: i32) -> Refusal {
    let error = ChannelError::new(ErrorCode::NotFound, nothing(what, id));
    Refusal { error, denied: Some(Denied::Project(method, project)), cause: None }
}

fn nothing(what: &str, id: i32) -> String {
    format!("there is no {what} {id}, or this plugin may not see it")
}

pub(super) fn encode<T: Serialize>(result: &T) -> Result<Box<RawValue>, Refusal> {
    serde_json::value::to_raw_value(result)
        .map_err(|e| internal(format!("the answer cannot be written: {e}")))
}

fn failed(PlatformError(cause): PlatformError) -> Refusal {
    internal(cause)
}

/// What a plugin is told when something went wrong that is none of its business. The cause goes to the host's log.
pub(super) fn internal(cause: String) -> Refusal {
    let message = "the platform failed to answer; try again later".to_owned();
    Refusal { cause: Some(cause), ..plain(ErrorCode::Internal, message) }
}

/// A refusal that is nobody's offence.
pub(super) fn plain(code: ErrorCode, message: String) -> Refusal {
    Refusal { error: ChannelError::new(code, message), denied: None, cause: None }
}

/// The parameters of a request.
struct Params<'a> {
    method: Method,
    given: &'a Value,
}

impl Params<'_> {
    fn id(&self, name: &'static str) -> Result<i32, Refusal> {
        self.optional_id(name)?
            .ok_or_else(|| self.wrong(&format!("{name:?} is missing; it must be an integer")))
    }

    fn optional_id(&self, name: &'static str) -> Result<Option<i32>, Refusal> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let id = value.as_i64().and_then(|id| i32::try_from(id).ok());
        id.map(Some).ok_or_else(|| {
            self.wrong(&format!("{name:?} must be an integer of 32 bits, found {}", short(value)))
        })
    }

    fn limit(&self) -> Result<Option<u32>, Refusal> {
        let Some(value) = self.value("limit") else { return Ok(None) };
        let limit = value.as_u64().filter(|limit| *limit > 0);
        let limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        limit.map(Some).ok_or_else(|| {
            self.wrong(&format!("\"limit\" must be an integer of at least 1, found {}", short(value)))
        })
    }

    /// A parameter; null is as good as absent.
    fn value(&self, name: &str) -> Option<&Value> {
        self.given.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, what: &str) -> Refusal {
        plain(ErrorCode::InvalidParams, format!("{}: {what}", self.method.as_str()))
    }
}

pub(super) fn short(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}
