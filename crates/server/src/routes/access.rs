//! Sessions, sign-in links and tokens.

use axum::extract::State;
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use temps_host::Role;
use temps_store::TokenRecord;

use super::answer::{Answer, Failure};
use super::extract::{Body, Path, Query};
use super::paging::{self, Cursor};
use crate::api::access::{CreatedToken, LoginLink, NewToken, Session, Token, TokenRole};
use crate::api::page::{Page, PageQuery};
use crate::app::App;
use crate::auth::Identity;

/// Who the caller is.
#[utoipa::path(get, path = "/api/session", tag = "access", operation_id = "getSession",
    responses((status = 200, description = "The caller", body = Session)))]
pub(super) async fn session(Extension(identity): Extension<Identity>) -> Json<Session> {
    Json(Session { id: identity.id, name: identity.name, role: role_word(identity.role) })
}

/// Signs the browser out.
#[utoipa::path(delete, path = "/api/session", tag = "access", operation_id = "endSession",
    responses((status = 204, description = "The session is over")))]
pub(super) async fn sign_out(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    app.access().sign_out(&headers).await?;
    app.host().record_audit("session.ended", None, &identity.actor(), json!({}));
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a link that signs one browser in, once, within 15 minutes.
#[utoipa::path(post, path = "/api/login-links", tag = "access", operation_id = "createLoginLink",
    responses((status = 201, description = "The link", body = LoginLink)))]
pub(super) async fn login_link(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
) -> Answer<(StatusCode, Json<LoginLink>)> {
    let link = app.login_link().await?;
    app.host().record_audit(
        "login_link.created",
        None,
        &identity.actor(),
        json!({ "expires_at": link.expires_at }),
    );
    Ok((StatusCode::CREATED, Json(link)))
}

/// All tokens, without their secrets.
#[utoipa::path(get, path = "/api/tokens", tag = "access", operation_id = "listTokens", params(PageQuery),
    responses((status = 200, description = "A page of tokens", body = Page<Token>)))]
pub(super) async fn tokens(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<Token>>> {
    let limit = paging::limit(query.limit)?;
    let after = paging::id_or(Cursor::read('t', query.cursor.as_deref())?, 0);
    let found = app.platform().store().tokens(after, limit + 1).await?;
    Ok(Json(paging::page('t', found, limit, |token| token.id.into(), token)))
}

/// Makes a token. Its secret is in the answer and never again.
#[utoipa::path(post, path = "/api/tokens", tag = "access", operation_id = "createToken", request_body = NewToken,
    responses((status = 201, description = "The token and its secret", body = CreatedToken)))]
pub(super) async fn create_token(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Body(new): Body<NewToken>,
) -> Answer<(StatusCode, Json<CreatedToken>)> {
    let role = match new.role {
        TokenRole::Viewer => Role::Viewer,
        TokenRole::Admin => Role::Admin,
    };
    let (record, secret) = app.access().create_token(&new.name, role, new.expires_at).await?;
    let detail = json!({ "token_id": record.id, "name": record.name, "role": role.as_str() });
    app.host().record_audit("token.created", None, &identity.actor(), detail);
    Ok((StatusCode::CREATED, Json(CreatedToken { token: token(record), secret })))
}

/// Ends a token. The token of the first start is made anew, with another secret, when the daemon starts again.
#[utoipa::path(delete, path = "/api/tokens/{id}", tag = "access", operation_id = "revokeToken",
    params(("id" = i32, Path, description = "Id of the token")),
    responses((status = 204, description = "It is good no more")))]
pub(super) async fn revoke_token(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<i32>,
) -> Answer<StatusCode> {
    let removed = app.platform().store().delete_token(id).await?;
    let removed = removed.ok_or_else(|| Failure::not_found(format!("there is no token {id}")))?;
    if removed.name == app.config().admin_token_name()
        && let Err(error) = std::fs::remove_file(app.config().places.admin_token_file())
    {
        tracing::warn!(%error, "the file of the token that was revoked could not be removed");
    }
    let detail = json!({ "token_id": id, "name": removed.name });
    app.host().record_audit("token.revoked", None, &identity.actor(), detail);
    Ok(StatusCode::NO_CONTENT)
}

fn token(record: TokenRecord) -> Token {
    Token {
        id: record.id,
        name: record.name,
        role: if record.admin { TokenRole::Admin } else { TokenRole::Viewer },
        created_at: record.created_at,
        last_used_at: record.last_used_at,
        expires_at: record.expires_at,
    }
}

fn role_word(role: Role) -> TokenRole {
    match role {
        Role::Viewer => TokenRole::Viewer,
        Role::Admin => TokenRole::Admin,
    }
}
