//! Grants of a plugin: looked at, given, taken back.

use axum::extract::State;
use axum::{Extension, Json};

use super::answer::Answer;
use super::extract::{OptionalBody, Path, Query};
use crate::api::plugins::{Grant, GrantRef, GrantRequest, Grants};
use crate::app::App;
use crate::auth::Identity;

/// What a plugin may do, and what it asks for beyond that.
#[utoipa::path(get, path = "/api/plugins/{name}/grants", tag = "plugins", operation_id = "listGrants",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "Given and missing grants", body = Grants)))]
pub(super) async fn list(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<Grants>> {
    look(&app, &name).await
}

/// Gives grants; without any, everything that the plugin asks for. Works at once.
#[utoipa::path(post, path = "/api/plugins/{name}/grants", tag = "plugins", operation_id = "giveGrants",
    params(("name" = String, Path, description = "Name of the plugin")), request_body = Option<GrantRequest>,
    responses((status = 200, description = "Given and missing grants", body = Grants)))]
pub(super) async fn give(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    OptionalBody(request): OptionalBody<GrantRequest>,
) -> Answer<Json<Grants>> {
    let grants = request.grants.into_iter().map(|grant| (grant.kind, grant.value)).collect();
    app.host().grant(&name, grants, &identity.actor()).await?;
    look(&app, &name).await
}

/// Takes one grant back. Works at once.
#[utoipa::path(delete, path = "/api/plugins/{name}/grants", tag = "plugins", operation_id = "revokeGrant",
    params(("name" = String, Path, description = "Name of the plugin"), GrantRef),
    responses((status = 200, description = "Given and missing grants", body = Grants)))]
pub(super) async fn revoke(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    Query(grant): Query<GrantRef>,
) -> Answer<Json<Grants>> {
    app.host().revoke(&name, vec![(grant.kind, grant.value)], &identity.actor()).await?;
    look(&app, &name).await
}

async fn look(app: &App, name: &str) -> Answer<Json<Grants>> {
    let (given, missing) = app.host().grants(name).await?;
    let given = given.into_iter().map(|grant| Grant {
        kind: grant.kind,
        value: grant.value,
        granted_by: grant.granted_by,
        granted_at: grant.granted_at,
    });
    let missing = missing.into_iter().map(|(kind, value)| GrantRef { kind, value }).collect();
    Ok(Json(Grants { given: given.collect(), missing }))
}
