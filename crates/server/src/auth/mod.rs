//! Who is calling: API tokens, browser sessions, and the one-time links that begin them.
//!
//! Secrets are random, 256 bits, and kept as SHA-256 only; knowing the database does not sign anybody in. This room
//! knows headers and the store, and nothing of routes: what a caller may do stands in `routes::guard`.

mod first_token;
mod hosts;
mod refusals;
mod secret;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, header};
use temps_host::Role;
use temps_store::{PlatformStore, StoreError, TokenRecord};
use tokio::sync::mpsc;

use self::refusals::{Refusals, With};

pub use first_token::{ADMIN_TOKEN_NAME, FirstTokenError, ensure_admin_token};
pub use hosts::{HostPolicy, Misdirected};
pub(crate) use refusals::Refused;
pub use secret::{NoRandomness, fresh_secret, hash_of};

/// Beginning of every API token, by which people and scanners recognise one.
pub const TOKEN_PREFIX: &str = "tmp_";

/// Name of the cookie that holds a browser's session.
pub const SESSION_COOKIE: &str = "temps_session";

/// How long a browser stays signed in.
pub const SESSION_LIFETIME: TimeDelta = TimeDelta::days(7);

/// How long a one-time link works.
pub const LOGIN_LINK_LIFETIME: TimeDelta = TimeDelta::minutes(15);

/// How exactly a token's last use is known; a write for each request would cost more than it tells.
const LAST_USED_PRECISION: TimeDelta = TimeDelta::minutes(1);

/// Longest name of a token in characters.
pub const MAX_TOKEN_NAME: usize = 100;

/// A caller whose token or session was found to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `token:` or `session:` and its id.
    pub id: String,
    /// Name for people: the token's name, or `browser`.
    pub name: String,
    /// What the caller may do.
    pub role: Role,
}

impl Identity {
    /// The word in the audit trail.
    #[must_use]
    pub fn actor(&self) -> String {
        format!("{} ({})", self.id, self.name)
    }
}

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Another token has the name.
    #[error("there is a token named {0:?} already")]
    NameTaken(String),
    /// The name or the end is not acceptable.
    #[error("{field}: {message}")]
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The operating system has no randomness to give.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tokens and sessions. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    store: Arc<dyn PlatformStore>,
    refusals: Refusals,
}

impl Access {
    /// Access by what the store knows, and the sign-ins that will be refused.
    pub(crate) fn new(store: Arc<dyn PlatformStore>) -> (Self, mpsc::Receiver<Refused>) {
        let (refusals, refused) = Refusals::new();
        (Self { store, refusals }, refused)
    }

    /// Who sent a request with these headers; `None` for a caller that is not signed in.
    ///
    /// One of our tokens decides alone, good or not. Otherwise the session cookie does.
    ///
    /// # Errors
    /// What the store says. Nobody is signed in then, and nobody is told that a good token is bad.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Option<Identity>, StoreError> {
        match (bearer(headers), session_cookie(headers)) {
            (Some(secret), _) => self.by_token(secret).await,
            (None, Some(secret)) => self.by_session(secret).await,
            (None, None) => Ok(None),
        }
    }

    async fn by_token(&self, secret: &str) -> Result<Option<Identity>, StoreError> {
        let now = Utc::now();
        let known = self.store.token_by_hash(hash_of(secret)).await?;
        let Some(token) = known.filter(|token| token.expires_at.is_none_or(|end| end > now)) else {
            self.refusals.count(With::Token);
            return Ok(None);
        };
        if token.last_used_at.is_none_or(|used| now - used >= LAST_USED_PRECISION)
            && let Err(error) = self.store.touch_token(token.id, now).await
        {
            tracing::warn!(%error, token = token.id, "a token's last use was not noted");
        }
        let role = if token.admin { Role::Admin } else { Role::Viewer };
        Ok(Some(Identity { id: format!("token:{}", token.id), name: token.name, role }))
    }

    async fn by_session(&self, secret: &str) -> Result<Option<Identity>, StoreError> {
        let id = self.store.session(hash_of(secret), Utc::now()).await?;
        if id.is_none() {
            self.refusals.count(With::Session);
        }
        Ok(id.map(|id| Identity {
            id: format!("session:{id}"),
            name: "browser".to_owned(),
            role: Role::Admin,
        }))
    }

    /// Makes an API token. Returns it with its secret, which is not kept.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn create_token(
        &self,
        name: &str,
        role: Role,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(TokenRecord, String), TokenError> {
        let now = Utc::now();
        let invalid = |field, message: &str| TokenError::Invalid { field, message: message.to_owned() };
        let length = name.chars().count();
        if name.trim().is_empty() || length > MAX_TOKEN_NAME || name.chars().any(char::is_control) {
            return Err(invalid("name", "must have 1 to 100 printable characters"));
        }
        if name.split('@').next() == Some(ADMIN_TOKEN_NAME) {
            return Err(invalid(
                "name",
                "\"admin\", alone or before an \"@\", belongs to the token that a daemon makes at its first start",
            ));
        }
        if expires_at.is_some_and(|end| end <= now) {
            return Err(invalid("expires_at", "is in the past"));
        }
        let secret = fresh_secret(TOKEN_PREFIX)?;
        let made =
            self.store.create_token(name, role == Role::Admin, hash_of(&secret), now, expires_at).await?;
        let token = made.ok_or_else(|| TokenError::NameTaken(name.to_owned()))?;
        Ok((token, secret))
    }

    /// Makes a code that signs one browser in, with the time until which it works.
    ///
    /// # Errors
    /// [`TokenError::NoRandomness`] or [`TokenError::Store`].
    pub async fn login_code(&self) -> Result<(String, DateTime<Utc>), TokenError> {
        let (code, now) = (fresh_secret("")?, Utc::now());
        let expires_at = now + LOGIN_LINK_LIFETIME;
        self.store.add_login_code(hash_of(&code), expires_at, now).await?;
        Ok((code, expires_at))
    }

    /// Uses a code up. Returns the secret of the new session, or `None` when the code is unknown, used or too old.
    ///
    /// # Errors
    /// [`TokenError::NoRandomness`] or [`TokenError::Store`].
    pub async fn redeem(&self, code: &str) -> Result<Option<String>, TokenError> {
        let (session, now) = (fresh_secret("")?, Utc::now());
        let opened = self
            .store
            .redeem_login_code(hash_of(code), hash_of(&session), now + SESSION_LIFETIME, now)
            .await?;
        if opened.is_none() {
            self.refusals.count(With::LoginLink);
        }
        Ok(opened.map(|_| session))
    }

    /// Ends the session of these headers, if there is one.
    ///
    /// # Errors
    /// What the store says.
    pub async fn sign_out(&self, headers: &HeaderMap) -> Result<(), StoreError> {
        match session_cookie(headers) {
            Some(secret) => self.store.delete_session(hash_of(secret)).await,
            None => Ok(()),
        }
    }
}

/// One of our tokens in the `Authorization` header. Other credentials are not ours to judge: they may be a plugin's.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = text.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && secret.starts_with(TOKEN_PREFIX)).then_some(secret)
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == SESSION_COOKIE).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_our_own_tokens_are_taken_from_the_authorization_header() {
        assert_eq!(bearer(&headers(&[(header::AUTHORIZATION, "Bearer tmp_a")])), Some("tmp_a"));
        assert_eq!(bearer(&headers(&[(header::AUTHORIZATION, "bearer  tmp_a")])), Some("tmp_a"));
        assert_eq!(bearer(&headers(&[(header::AUTHORIZATION, "Bearer of-a-plugin")])), None);
        assert_eq!(bearer(&headers(&[(header::AUTHORIZATION, "Basic tmp_a")])), None);
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let found = headers(&[(header::COOKIE, "a=b; temps_session=s3; c=d")]);
        assert_eq!(session_cookie(&found), Some("s3"));
        assert_eq!(session_cookie(&headers(&[(header::COOKIE, "not_temps_session=x")])), None);
    }
}
