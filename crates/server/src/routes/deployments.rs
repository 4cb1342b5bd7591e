//! Deployments over REST: reported by a CI, looked at, moved on.

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::json;
use temps_store::{DeploymentFilter, DeploymentRecord, StoreError};

use super::answer::Answer;
use super::extract::{Body, Path, Query};
use super::paging::{self, Cursor};
use crate::api::deployments::{
    Deployment, DeploymentChange, DeploymentQuery, DeploymentReport, DeploymentState,
};
use crate::api::page::Page;
use crate::app::App;
use crate::auth::Identity;

/// Deployments, newest first.
#[utoipa::path(get, path = "/api/deployments", tag = "deployments", operation_id = "listDeployments",
    params(DeploymentQuery),
    responses((status = 200, description = "A page of deployments", body = Page<Deployment>)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<DeploymentQuery>,
) -> Answer<Json<Page<Deployment>>> {
    let limit = paging::limit(query.limit)?;
    let project_id = match &query.project {
        Some(wanted) => Some(app.platform().project(wanted).await?.id),
        None => None,
    };
    let cursor = Cursor::read('d', query.cursor.as_deref())?;
    let filter = DeploymentFilter {
        project_id,
        environment_id: None,
        environment_name: query.environment,
        state: query.state.map(|state| state.as_str().to_owned()),
        before: cursor.map(|cursor| paging::id_or(Some(cursor), 0)),
        limit: limit + 1,
    };
    let found = app.platform().deployments(filter).await?;
    let found = found.into_iter().map(deployment).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(paging::page('d', found, limit, |found| found.id.into(), |found| found)))
}

/// Reports a deployment. Project and environment are made when they do not exist. With an `external_id` the same report
/// again changes nothing, and a later state moves the deployment on.
#[utoipa::path(post, path = "/api/deployments", tag = "deployments", operation_id = "reportDeployment",
    request_body = DeploymentReport,
    responses((status = 201, description = "The deployment, which was not known before", body = Deployment),
        (status = 200, description = "The deployment, which was known", body = Deployment)))]
pub(super) async fn report(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Body(report): Body<DeploymentReport>,
) -> Answer<(StatusCode, Json<Deployment>)> {
    let reported = app.platform().report(report).await?;
    if reported.new {
        let info = &reported.record.info;
        let detail = json!({ "deployment_id": info.id, "project": reported.record.project_slug });
        app.host().record_audit("deployment.reported", None, &identity.actor(), detail);
    }
    app.prober().look_now();
    let status = if reported.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(deployment(reported.record)?)))
}

/// One deployment.
#[utoipa::path(get, path = "/api/deployments/{id}", tag = "deployments", operation_id = "getDeployment",
    params(("id" = i32, Path, description = "Id of the deployment")),
    responses((status = 200, description = "The deployment", body = Deployment)))]
pub(super) async fn get(State(app): State<App>, Path(id): Path<i32>) -> Answer<Json<Deployment>> {
    Ok(Json(deployment(app.platform().deployment(id).await?)?))
}

/// Moves a deployment on. A move that is not allowed is refused with 409.
#[utoipa::path(patch, path = "/api/deployments/{id}", tag = "deployments", operation_id = "changeDeployment",
    params(("id" = i32, Path, description = "Id of the deployment")), request_body = DeploymentChange,
    responses((status = 200, description = "The deployment as it stands now", body = Deployment)))]
pub(super) async fn change(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<i32>,
    Body(change): Body<DeploymentChange>,
) -> Answer<Json<Deployment>> {
    let record = app.platform().change_deployment(id, change).await?;
    let detail = json!({ "deployment_id": id, "state": record.info.state });
    app.host().record_audit("deployment.changed", None, &identity.actor(), detail);
    app.prober().look_now();
    Ok(Json(deployment(record)?))
}

fn deployment(record: DeploymentRecord) -> Result<Deployment, StoreError> {
    let info = record.info;
    let state = DeploymentState::parse(&info.state).ok_or_else(|| StoreError::Database {
        action: "read a deployment",
        reason: format!("deployment {} has the unknown state {:?}", info.id, info.state),
    })?;
    Ok(Deployment {
        id: info.id,
        project_id: info.project_id,
        project: record.project_slug,
        environment_id: info.environment_id,
        environment: record.environment_name,
        external_id: info.external_id,
        state,
        url: info.url,
        branch: info.branch,
        tag: info.tag,
        commit_sha: info.commit_sha,
        commit_message: info.commit_message,
        commit_author: info.commit_author,
        error_message: record.error_message,
        probe: record.probe,
        created_at: info.created_at,
        started_at: info.started_at,
        ready_at: record.ready_at,
        finished_at: info.finished_at,
        updated_at: record.updated_at,
    })
}
