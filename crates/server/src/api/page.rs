//! Pages: how a list is given piece by piece.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Entries on a page when the caller names no limit.
pub const DEFAULT_PAGE_LIMIT: u32 = 50;

/// Most entries on a page; a page is built in memory.
pub const MAX_PAGE_LIMIT: u32 = 500;

/// A piece of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries, in the list's order.
    pub items: Vec<T>,
    /// Give it as `cursor` for the entries that follow; `null` at the end.
    pub next_cursor: Option<String>,
}

/// Which piece of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Most entries wanted, 1 to 500; 50 when not given.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
