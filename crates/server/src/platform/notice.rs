//! The events of the reference platform, with their payloads as the protocol gives them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use temps_protocol::PluginEvent;
use temps_store::{DeploymentRecord, EnvironmentRecord};

use super::lifecycle::Notice;

/// The event that tells `notice` about a deployment.
pub(super) fn of_deployment(notice: Notice, record: &DeploymentRecord, at: DateTime<Utc>) -> PluginEvent {
    let info = &record.info;
    let mut data = json!({
        "deployment_id": info.id,
        "project_id": info.project_id,
        "environment_id": info.environment_id,
        "environment_name": record.environment_name,
    });
    let more = match notice {
        Notice::Created => json!({ "commit_sha": info.commit_sha, "branch": info.branch }),
        Notice::Ready => json!({ "url": info.url }),
        Notice::Succeeded => json!({ "commit_sha": info.commit_sha, "url": info.url }),
        Notice::Failed => json!({ "error_message": record.error_message }),
        Notice::Cancelled => json!({}),
    };
    if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
        data.extend(more);
    }
    event(notice.event_type(), info.project_id, data, at)
}

/// `project.created` or `project.deleted`.
pub(super) fn of_project(event_type: &str, id: i32, name: &str, at: DateTime<Utc>) -> PluginEvent {
    event(event_type, id, json!({ "project_id": id, "project_name": name }), at)
}

/// `environment.created` or `environment.deleted`.
pub(super) fn of_environment(event_type: &str, record: &EnvironmentRecord, at: DateTime<Utc>) -> PluginEvent {
    let info = &record.info;
    let data = json!({
        "environment_id": info.id,
        "project_id": info.project_id,
        "environment_name": info.name,
    });
    event(event_type, info.project_id, data, at)
}

fn event(event_type: &str, project_id: i32, data: Value, at: DateTime<Utc>) -> PluginEvent {
    PluginEvent {
        id: uuid::Uuid::now_v7().to_string(),
        event_type: event_type.to_owned(),
        timestamp: at,
        project_id: Some(project_id),
        data,
    }
}
