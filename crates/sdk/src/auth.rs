//! The auth secret of one start, and who has shown it.
//!
//! The secret proves that a request comes from the host. The gate to the socket is its directory, which only the
//! host and the plugin can enter; the secret is the second lock, for the plugin's own routes.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::problem::Problem;

/// Whether the plugin's own routes ask for the auth secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteAuth {
    /// Only requests with `Authorization: Bearer <auth secret>` reach the routes; others are answered 401.
    #[default]
    Required,
    /// Every request that reaches the socket reaches the routes. For hosts that do not send the secret.
    Open,
}

/// The auth secret. It is never shown by `Debug` and compared in constant time.
#[derive(Clone)]
pub(crate) struct Secret(std::sync::Arc<str>);

/// What a request's headers say about the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The request shows the secret.
    Right,
    /// The request shows something else.
    Wrong,
    /// The request shows nothing.
    Absent,
}

impl Secret {
    pub(crate) fn new(text: impl Into<std::sync::Arc<str>>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }

    /// Reads the claim of a request. Two `Authorization` headers are a wrong claim: nobody honest sends two.
    pub(crate) fn claim(&self, headers: &HeaderMap) -> Claim {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), rest) = (values.next(), values.next()) else { return Claim::Absent };
        let token = value.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match token {
            Some(token) if rest.is_none() && self.matches(token) => Claim::Right,
            _ => Claim::Wrong,
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Lets a request pass only with the secret.
pub(crate) async fn require(State(secret): State<Secret>, request: Request, next: Next) -> Response {
    match secret.claim(request.headers()) {
        Claim::Right => next.run(request).await,
        Claim::Wrong | Claim::Absent => refusal(),
    }
}

/// Lets a request pass with the secret or without any; only a wrong one is refused.
///
/// This is for what the host itself calls (`/_events`, `/_temps/channel`): other hosts send no header there.
pub(crate) async fn refuse_wrong(State(secret): State<Secret>, request: Request, next: Next) -> Response {
    match secret.claim(request.headers()) {
        Claim::Right | Claim::Absent => next.run(request).await,
        Claim::Wrong => refusal(),
    }
}

fn refusal() -> Response {
    let problem = Problem::new(401, "the request does not carry the auth secret of this start of the plugin")
        .into_response();
    ([("www-authenticate", "Bearer")], problem).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(values: &[&str]) -> Claim {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        Secret::new("s3cret").claim(&headers)
    }

    #[test]
    fn only_the_exact_secret_is_right() {
        assert_eq!(claim(&["Bearer s3cret"]), Claim::Right);
        assert_eq!(claim(&["bearer s3cret"]), Claim::Right);
        assert_eq!(claim(&[]), Claim::Absent);
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Basic s3cret", "s3cret", ""] {
            assert_eq!(claim(&[wrong]), Claim::Wrong, "{wrong}");
        }
        assert_eq!(claim(&["Bearer s3cret", "Bearer other"]), Claim::Wrong);
    }
}
