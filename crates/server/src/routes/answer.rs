//! How every failure is answered: which status and code each room's error has, as `application/problem+json`.
//!
//! This is the only place where errors become status codes.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use temps_host::events::DeliveryError;
use temps_host::host::{OperateError, PublishError};
use temps_store::StoreError;

use crate::api::problem::{PROBLEM_JSON, Problem};
use crate::auth::{Misdirected, TokenError};
use crate::platform::{ChangeError, Refusal};

/// A handler's result.
pub(crate) type Answer<T> = Result<T, Failure>;

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failure(Box<Problem>);

impl Failure {
    /// A failure with its status, its stable code and what happened this time.
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: format!("urn:temps:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            hint: None,
        }))
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Something the request names does not exist.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// A value of the request is not acceptable.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// The database is away for a while; where it is and what it said goes to the log, not to the caller.
    fn unavailable(error: &StoreError, detail: &str) -> Self {
        tracing::warn!(%error, "a request found no database");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", detail)
    }

    /// Something failed on our side; the words go to the log, not to the caller.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed inside");
        let detail = "the daemon failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", error.to_string()),
            StoreError::Closed => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the daemon is being stopped")
            }
            StoreError::NodeTaken { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "node_taken", error.to_string())
            }
            StoreError::Unreachable { .. } => Self::unavailable(
                &error,
                "the database cannot be reached now, and nothing was done; try again, the daemon's log says why",
            ),
            StoreError::Lost { .. } => Self::unavailable(
                &error,
                "the connection to the database broke, and whether this was done is not known; do it again",
            ),
            other => Self::internal(&other),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, detail.clone());
        match refusal {
            Refusal::NoProject(_) => Self::not_found(detail).hint("GET /api/projects lists all projects"),
            Refusal::NoEnvironment(_) => {
                Self::not_found(detail).hint("GET /api/environments lists all environments")
            }
            Refusal::NoDeployment(_) => {
                Self::not_found(detail).hint("GET /api/deployments lists all deployments")
            }
            Refusal::SlugTaken(_) => conflict("slug_taken").hint("choose another slug"),
            Refusal::EnvironmentTaken(_) => conflict("environment_taken").hint("choose another name"),
            Refusal::ExternalIdElsewhere { .. } => conflict("external_id_taken"),
            Refusal::IllegalMove(illegal) if illegal.from.is_final() => {
                conflict("illegal_transition").hint("it has ended; report a new deployment")
            }
            Refusal::IllegalMove(_) => conflict("illegal_transition").hint("a deployment only goes forward"),
            Refusal::Invalid { .. } => Self::invalid(detail),
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => refusal.into(),
            ChangeError::Store(error) => error.into(),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NameTaken(_) => {
                Self::new(StatusCode::CONFLICT, "name_taken", error.to_string()).hint("choose another name")
            }
            TokenError::Invalid { .. } => Self::invalid(error.to_string()),
            TokenError::NoRandomness(error) => Self::internal(&error),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl From<OperateError> for Failure {
    fn from(error: OperateError) -> Self {
        let detail = error.to_string();
        match error {
            OperateError::UnknownPlugin(_) => Self::not_found(detail).hint("GET /api/plugins lists all"),
            OperateError::NotNow { .. } => Self::new(StatusCode::CONFLICT, "not_now", detail),
            OperateError::Invalid(_) => Self::invalid(detail),
            OperateError::Store(error) => error.into(),
        }
    }
}

impl From<DeliveryError> for Failure {
    fn from(error: DeliveryError) -> Self {
        let detail = error.to_string();
        match error {
            DeliveryError::UnknownPlugin(_) => Self::not_found(detail).hint("GET /api/plugins lists all"),
            DeliveryError::UnknownEvent(_) => Self::not_found(detail),
            DeliveryError::NotNow(_) => Self::new(StatusCode::CONFLICT, "not_now", detail),
            DeliveryError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail),
            DeliveryError::Store(error) => error.into(),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Invalid(error) => Self::invalid(error.to_string()),
            PublishError::Store(error) => error.into(),
        }
    }
}

impl From<Misdirected> for Failure {
    fn from(error: Misdirected) -> Self {
        let detail = error.to_string();
        match error {
            Misdirected::NoHost => Self::new(StatusCode::BAD_REQUEST, "no_host", detail),
            Misdirected::ForeignHost(_) => Self::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", detail)
                .hint("add the name to allowed_hosts (or set public_url) in temps.toml if it is meant"),
            Misdirected::ForeignOrigin(_) => Self::new(StatusCode::FORBIDDEN, "foreign_origin", detail)
                .hint("programs send an API token instead of a cookie"),
        }
    }
}
