//! The one shape of every error answer: RFC 9457, `application/problem+json`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Media type of every error answer.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:temps:problem:` and the code; the same failure always has the same type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What failed, in a few words.
    pub title: String,
    /// The HTTP status, again.
    pub status: u16,
    /// What failed this time.
    pub detail: String,
    /// Stable short name of the failure, for programs: `not_found`, `illegal_transition`, …
    pub code: String,
    /// What to do next, when there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
