//! Projects and environments over REST.

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::json;
use temps_protocol::ProjectInfo;
use temps_store::EnvironmentRecord;

use super::answer::Answer;
use super::extract::{Body, Path, Query};
use super::paging::{self, Cursor};
use crate::api::page::{Page, PageQuery};
use crate::api::projects::{Environment, EnvironmentQuery, NewEnvironment, NewProject, Project};
use crate::app::App;
use crate::auth::Identity;

/// All projects, oldest first.
#[utoipa::path(get, path = "/api/projects", tag = "projects", operation_id = "listProjects", params(PageQuery),
    responses((status = 200, description = "A page of projects", body = Page<Project>)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<Project>>> {
    let limit = paging::limit(query.limit)?;
    let after = paging::id_or(Cursor::read('p', query.cursor.as_deref())?, 0);
    let found = app.platform().store().projects(after, limit + 1).await?;
    Ok(Json(paging::page('p', found, limit, |project| project.id.into(), project)))
}

/// Registers a project.
#[utoipa::path(post, path = "/api/projects", tag = "projects", operation_id = "createProject", request_body = NewProject,
    responses((status = 201, description = "The project", body = Project)))]
pub(super) async fn create(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Body(new): Body<NewProject>,
) -> Answer<(StatusCode, Json<Project>)> {
    let made = app.platform().create_project(new).await?;
    let detail = json!({ "project_id": made.id, "slug": made.slug });
    app.host().record_audit("project.created", None, &identity.actor(), detail);
    Ok((StatusCode::CREATED, Json(project(made))))
}

/// One project, by slug or id.
#[utoipa::path(get, path = "/api/projects/{project}", tag = "projects", operation_id = "getProject",
    params(("project" = String, Path, description = "Slug or id of the project")),
    responses((status = 200, description = "The project", body = Project)))]
pub(super) async fn get(State(app): State<App>, Path(wanted): Path<String>) -> Answer<Json<Project>> {
    Ok(Json(project(app.platform().project(&wanted).await?)))
}

/// Removes a project with its environments and deployments.
#[utoipa::path(delete, path = "/api/projects/{project}", tag = "projects", operation_id = "deleteProject",
    params(("project" = String, Path, description = "Slug or id of the project")),
    responses((status = 204, description = "It is gone")))]
pub(super) async fn delete(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(wanted): Path<String>,
) -> Answer<StatusCode> {
    app.platform().delete_project(&wanted).await?;
    app.host().record_audit("project.deleted", None, &identity.actor(), json!({ "project": wanted }));
    Ok(StatusCode::NO_CONTENT)
}

/// Environments, oldest first.
#[utoipa::path(get, path = "/api/environments", tag = "projects", operation_id = "listEnvironments",
    params(EnvironmentQuery),
    responses((status = 200, description = "A page of environments", body = Page<Environment>)))]
pub(super) async fn list_environments(
    State(app): State<App>,
    Query(query): Query<EnvironmentQuery>,
) -> Answer<Json<Page<Environment>>> {
    let limit = paging::limit(query.limit)?;
    let after = paging::id_or(Cursor::read('n', query.cursor.as_deref())?, 0);
    let project_id = match &query.project {
        Some(wanted) => Some(app.platform().project(wanted).await?.id),
        None => None,
    };
    let found = app.platform().store().environments(project_id, after, limit + 1).await?;
    Ok(Json(paging::page('n', found, limit, |record| record.info.id.into(), environment)))
}

/// Makes an environment.
#[utoipa::path(post, path = "/api/environments", tag = "projects", operation_id = "createEnvironment",
    request_body = NewEnvironment,
    responses((status = 201, description = "The environment", body = Environment)))]
pub(super) async fn create_environment(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Body(new): Body<NewEnvironment>,
) -> Answer<(StatusCode, Json<Environment>)> {
    let made = app.platform().create_environment(new).await?;
    let detail =
        json!({ "environment_id": made.info.id, "project": made.project_slug, "name": made.info.name });
    app.host().record_audit("environment.created", None, &identity.actor(), detail);
    Ok((StatusCode::CREATED, Json(environment(made))))
}

/// One environment.
#[utoipa::path(get, path = "/api/environments/{id}", tag = "projects", operation_id = "getEnvironment",
    params(("id" = i32, Path, description = "Id of the environment")),
    responses((status = 200, description = "The environment", body = Environment)))]
pub(super) async fn get_environment(
    State(app): State<App>,
    Path(id): Path<i32>,
) -> Answer<Json<Environment>> {
    Ok(Json(environment(app.platform().environment(id).await?)))
}

/// Removes an environment with its deployments.
#[utoipa::path(delete, path = "/api/environments/{id}", tag = "projects", operation_id = "deleteEnvironment",
    params(("id" = i32, Path, description = "Id of the environment")),
    responses((status = 204, description = "It is gone")))]
pub(super) async fn delete_environment(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<i32>,
) -> Answer<StatusCode> {
    app.platform().delete_environment(id).await?;
    app.host().record_audit("environment.deleted", None, &identity.actor(), json!({ "environment_id": id }));
    Ok(StatusCode::NO_CONTENT)
}

fn project(info: ProjectInfo) -> Project {
    Project {
        id: info.id,
        name: info.name,
        slug: info.slug,
        repo_owner: info.repo_owner,
        repo_name: info.repo_name,
        main_branch: info.main_branch,
        preset: info.preset,
        created_at: info.created_at,
        updated_at: info.updated_at,
        last_deployment: info.last_deployment,
    }
}

fn environment(record: EnvironmentRecord) -> Environment {
    let info = record.info;
    Environment {
        id: info.id,
        project_id: info.project_id,
        project: record.project_slug,
        name: info.name,
        slug: info.slug,
        branch: info.branch,
        is_preview: info.is_preview,
        current_deployment_id: info.current_deployment_id,
        created_at: info.created_at,
        updated_at: info.updated_at,
    }
}
