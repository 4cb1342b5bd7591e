//! Refusals: every answer that the host gives instead of the plugin, as problem+json (RFC 9457).

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::path::PathError;
use super::{headers, path};
use crate::plugin::PluginState;

/// Why a request was not forwarded, or its answer not passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The path goes nowhere.
    #[error(transparent)]
    Path(#[from] path::PathError),
    /// No plugin has this name.
    #[error("there is no plugin of this name")]
    UnknownPlugin,
    /// The caller is not signed in.
    #[error("sign in, or send an API token as `Authorization: Bearer`")]
    SignInNeeded,
    /// The page's token is unknown, too old, or another plugin's.
    #[error("the page's token is not valid here any more; ask the frame page for a new one")]
    PageTokenInvalid,
    /// Signed in, but sent from another site's page.
    #[error("the request comes from another site; cookies do not count then")]
    ForeignOrigin,
    /// The caller may only look.
    #[error("a viewer may only read (GET and HEAD)")]
    ViewerMayOnlyRead,
    /// The method is never forwarded, or not offered here.
    #[error("the method is not allowed here")]
    MethodNotAllowed(&'static str),
    /// The platform did not say in time who is calling.
    #[error("the platform did not say in time who is calling; try again")]
    AuthenticationSlow,
    /// The operating system gave no randomness for a token.
    #[error("no token could be made; try again")]
    NoRandomness,
    /// The request's body is too long.
    #[error("the request body has more than {0} bytes")]
    BodyTooLarge(u64),
    /// The caller stopped sending its body.
    #[error("the request body did not arrive")]
    BodySlow,
    /// The caller's body broke off or could not be read.
    #[error("the request body could not be read to its end")]
    BodyBroken,
    /// An upgrade cannot have a body.
    #[error("a request for an upgrade has no body")]
    UpgradeWithBody,
    /// The plugin does not run.
    #[error("the plugin is {}", .state.as_str())]
    NotRunning {
        /// Where it stands.
        state: PluginState,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// As many requests as the plugin may have are under way.
    #[error("the plugin has all the requests that it may have at once; try again")]
    Busy,
    /// The plugin's socket does not answer.
    #[error("the plugin cannot be reached")]
    Unreachable,
    /// The plugin broke off, or answered what is not HTTP.
    #[error("the plugin gave no valid answer")]
    BadAnswer,
    /// The plugin took too long.
    #[error("the plugin took too long to answer")]
    TooSlow,
}

impl Refusal {
    /// The status, and a word that stays the same for programs.
    pub(super) fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Path(PathError::NoPlugin) | Self::UnknownPlugin => {
                (StatusCode::NOT_FOUND, "unknown_plugin")
            }
            Self::Path(PathError::Reserved) => (StatusCode::NOT_FOUND, "not_found"),
            Self::Path(PathError::DotSegment | PathError::Encoding) => (StatusCode::BAD_REQUEST, "bad_path"),
            Self::SignInNeeded => (StatusCode::UNAUTHORIZED, "sign_in_needed"),
            Self::PageTokenInvalid => (StatusCode::UNAUTHORIZED, "page_token_invalid"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign_origin"),
            Self::ViewerMayOnlyRead => (StatusCode::FORBIDDEN, "viewer_may_only_read"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::AuthenticationSlow => (StatusCode::SERVICE_UNAVAILABLE, "authentication_slow"),
            Self::NoRandomness => (StatusCode::SERVICE_UNAVAILABLE, "no_randomness"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::BodySlow => (StatusCode::REQUEST_TIMEOUT, "body_slow"),
            Self::BodyBroken => (StatusCode::BAD_REQUEST, "body_broken"),
            Self::UpgradeWithBody => (StatusCode::BAD_REQUEST, "upgrade_with_body"),
            Self::NotRunning { .. } => (StatusCode::SERVICE_UNAVAILABLE, "plugin_not_running"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "plugin_busy"),
            Self::Unreachable => (StatusCode::BAD_GATEWAY, "plugin_unreachable"),
            Self::BadAnswer => (StatusCode::BAD_GATEWAY, "plugin_bad_answer"),
            Self::TooSlow => (StatusCode::GATEWAY_TIMEOUT, "plugin_too_slow"),
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::NotRunning { retry_after, .. } => Some(retry_after.as_secs().max(1)),
            Self::Busy | Self::AuthenticationSlow | Self::NoRandomness => Some(1),
            _ => None,
        }
    }

    /// The answer. It names the plugin as the caller did, and nothing of the inside.
    pub(super) fn response(&self, method: &Method, plugin: Option<&str>) -> Response<Body> {
        let (status, code) = self.code();
        let mut problem = serde_json::json!({
            "type": format!("urn:temps:problem:{code}"),
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.to_string(),
            "code": code,
        });
        if let Some(plugin) = plugin {
            problem["plugin"] = plugin.into();
        }
        if let Self::NotRunning { state, .. } = self {
            problem["state"] = state.as_str().into();
        }
        let text = problem.to_string();
        let length = text.len();
        let body = if method == Method::HEAD { Body::empty() } else { Body::from(text) };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers::add_page_rules(fields);
        if let Some(seconds) = self.retry_after() {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self {
            Self::SignInNeeded => {
                fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"temps\""));
            }
            Self::PageTokenInvalid => {
                let challenge = HeaderValue::from_static("Bearer realm=\"temps\", error=\"invalid_token\"");
                fields.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::MethodNotAllowed(allowed) => {
                fields.insert(header::ALLOW, HeaderValue::from_static(allowed));
            }
            // The rest of the body is not read, so the connection cannot be used again.
            Self::BodyTooLarge(_) | Self::BodySlow | Self::BodyBroken => {
                fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
