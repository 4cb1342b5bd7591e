//! The events of the reference platform. Their payloads are the protocol's own types, so the two cannot drift apart.

use chrono::{DateTime, Utc};
use temps_protocol::payload::{
    DeploymentCancelled, DeploymentCreated, DeploymentFailed, DeploymentReady, DeploymentSubject,
    DeploymentSucceeded, EnvironmentSubject, ProjectSubject,
};
use temps_protocol::{Payload, PluginEvent, ProjectInfo};
use temps_store::{DeploymentRecord, EnvironmentRecord};

use super::lifecycle::Notice;

/// The event that tells `notice` about a deployment.
pub(super) fn of_deployment(notice: Notice, record: &DeploymentRecord, at: DateTime<Utc>) -> PluginEvent {
    let info = &record.info;
    let deployment = DeploymentSubject {
        deployment_id: info.id,
        project_id: Some(info.project_id),
        environment_id: Some(info.environment_id),
        environment_name: Some(record.environment_name.clone()),
        external_id: info.external_id.clone(),
    };
    let (url, commit_sha) = (info.url.clone(), info.commit_sha.clone());
    let payload = match notice {
        Notice::Created => Payload::DeploymentCreated(DeploymentCreated {
            deployment,
            commit_sha,
            branch: info.branch.clone(),
        }),
        Notice::Ready => Payload::DeploymentReady(DeploymentReady { deployment, url }),
        Notice::Succeeded => {
            Payload::DeploymentSucceeded(DeploymentSucceeded { deployment, url, commit_sha })
        }
        Notice::Failed => Payload::DeploymentFailed(DeploymentFailed {
            deployment,
            error_message: record.error_message.clone(),
        }),
        Notice::Cancelled => Payload::DeploymentCancelled(DeploymentCancelled { deployment }),
    };
    event(&payload, info.project_id, at)
}

/// `project.created`.
pub(super) fn of_new_project(project: &ProjectInfo, at: DateTime<Utc>) -> PluginEvent {
    event(&Payload::ProjectCreated(project_subject(project)), project.id, at)
}

/// `project.deleted`.
pub(super) fn of_deleted_project(project: &ProjectInfo, at: DateTime<Utc>) -> PluginEvent {
    event(&Payload::ProjectDeleted(project_subject(project)), project.id, at)
}

/// `environment.created`.
pub(super) fn of_new_environment(record: &EnvironmentRecord, at: DateTime<Utc>) -> PluginEvent {
    event(&Payload::EnvironmentCreated(environment_subject(record)), record.info.project_id, at)
}

/// `environment.deleted`.
pub(super) fn of_deleted_environment(record: &EnvironmentRecord, at: DateTime<Utc>) -> PluginEvent {
    event(&Payload::EnvironmentDeleted(environment_subject(record)), record.info.project_id, at)
}

fn project_subject(project: &ProjectInfo) -> ProjectSubject {
    ProjectSubject {
        project_id: project.id,
        project_name: project.name.clone(),
        external_id: project.external_id.clone(),
    }
}

fn environment_subject(record: &EnvironmentRecord) -> EnvironmentSubject {
    let info = &record.info;
    EnvironmentSubject {
        environment_id: info.id,
        project_id: info.project_id,
        environment_name: info.name.clone(),
        external_id: info.external_id.clone(),
    }
}

fn event(payload: &Payload, project_id: i32, at: DateTime<Utc>) -> PluginEvent {
    PluginEvent {
        id: uuid::Uuid::now_v7().to_string(),
        event_type: payload.event_type().to_owned(),
        timestamp: at,
        project_id: Some(project_id),
        data: payload.to_data(),
    }
}
