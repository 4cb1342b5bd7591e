//! Who may call: sessions, one-time links, tokens.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// May look.
    Viewer,
    /// May do everything.
    Admin,
}

/// Who the caller is, as the daemon sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Id of the token or session.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// What the caller may do.
    pub role: TokenRole,
}

/// A link that signs one browser in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginLink {
    /// Open it in a browser. It works once.
    pub url: String,
    /// Until when it works.
    pub expires_at: DateTime<Utc>,
}

/// An API token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// The token's id.
    pub id: i32,
    /// Name for people.
    pub name: String,
    /// What its bearer may do.
    pub role: TokenRole,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to the minute; `null` if never.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it ends; `null` for never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Name for people, 1 to 100 characters, unique.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// What its bearer may do.
    pub role: TokenRole,
    /// When it ends; never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// A token that was just made, with its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token.
    pub token: Token,
    /// The secret, `tmp_…`. It is shown here and never again.
    pub secret: String,
}
