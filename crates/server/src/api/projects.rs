//! Projects and their environments as REST takes and gives them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// The project's id.
    pub id: i32,
    /// Name for people.
    pub name: String,
    /// Name for URLs, unique.
    pub slug: String,
    /// Owner of the source repository; empty if there is none.
    pub repo_owner: String,
    /// Name of the source repository; empty if there is none.
    pub repo_name: String,
    /// Branch that production is built from.
    pub main_branch: String,
    /// How the project is built, for example `nextjs`; empty if unknown.
    pub preset: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was last deployed, if ever.
    pub last_deployment: Option<DateTime<Utc>>,
}

/// A project to be registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// Name for people, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Name for URLs: lower-case letters, digits and inner hyphens, not only digits. Made from the name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Owner of the source repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_owner: Option<String>,
    /// Name of the source repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_name: Option<String>,
    /// Branch that production is built from; `main` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_branch: Option<String>,
    /// How the project is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
}

/// An environment of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Environment {
    /// The environment's id.
    pub id: i32,
    /// The project that it belongs to.
    pub project_id: i32,
    /// Slug of the project.
    pub project: String,
    /// Name for people, unique within the project.
    pub name: String,
    /// Name for URLs.
    pub slug: String,
    /// Branch that is deployed there, if it follows one.
    pub branch: Option<String>,
    /// Whether it was made for a branch or pull request.
    pub is_preview: bool,
    /// The deployment that serves there now, if any.
    pub current_deployment_id: Option<i32>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// An environment to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEnvironment {
    /// The project, by slug or id.
    pub project: String,
    /// Name for people, 1 to 100 characters, unique within the project.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Branch that is deployed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Whether it is made for a branch or pull request.
    #[serde(default)]
    pub is_preview: bool,
}

/// Which environments are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentQuery {
    /// Only this project, by slug or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Most entries wanted, 1 to 500; 50 when not given.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
