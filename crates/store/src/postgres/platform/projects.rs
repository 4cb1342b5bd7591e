//! Statements on projects.

use chrono::{DateTime, Utc};
use temps_protocol::ProjectInfo;
use tokio_postgres::Row;

use super::{On, text};
use crate::{NewProjectRecord, StoreError};

const COLUMNS: &str =
    "id, name, slug, repo_owner, repo_name, main_branch, preset, created_at, updated_at, last_deployment_at";

pub(super) async fn by_id(on: On<'_>, id: i32) -> Result<Option<ProjectInfo>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM projects WHERE id = $1");
    on.maybe(&sql, &[&id]).await?.as_ref().map(project).transpose()
}

pub(super) async fn by_slug(on: On<'_>, slug: &str) -> Result<Option<ProjectInfo>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM projects WHERE slug = $1");
    on.maybe(&sql, &[&text(slug)]).await?.as_ref().map(project).transpose()
}

pub(super) async fn list(on: On<'_>, after: i32, limit: u32) -> Result<Vec<ProjectInfo>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM projects WHERE id > $1 ORDER BY id LIMIT $2");
    on.query(&sql, &[&after, &i64::from(limit)]).await?.iter().map(project).collect()
}

pub(super) async fn insert(on: On<'_>, new: &NewProjectRecord) -> Result<ProjectInfo, StoreError> {
    let sql = format!(
        "INSERT INTO projects (name, slug, repo_owner, repo_name, main_branch, preset, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7) RETURNING {COLUMNS}"
    );
    let [name, slug, owner, repo, branch, preset] =
        [&new.name, &new.slug, &new.repo_owner, &new.repo_name, &new.main_branch, &new.preset]
            .map(|value| text(value));
    project(&on.one(&sql, &[&name, &slug, &owner, &repo, &branch, &preset, &new.created_at]).await?)
}

pub(super) async fn note_deployment(on: On<'_>, id: i32, at: DateTime<Utc>) -> Result<(), StoreError> {
    on.execute("UPDATE projects SET last_deployment_at = $2 WHERE id = $1", &[&id, &at]).await?;
    Ok(())
}

pub(super) async fn delete(on: On<'_>, id: i32) -> Result<(), StoreError> {
    on.execute("DELETE FROM projects WHERE id = $1", &[&id]).await?;
    Ok(())
}

fn project(row: &Row) -> Result<ProjectInfo, StoreError> {
    let repo_name: String = row.try_get(4)?;
    Ok(ProjectInfo {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        slug: row.try_get(2)?,
        repo_owner: row.try_get(3)?,
        source_type: if repo_name.is_empty() { String::new() } else { "git".to_owned() },
        repo_name,
        main_branch: row.try_get(5)?,
        preset: row.try_get(6)?,
        created_at: row.try_get(7)?,
        updated_at: row.try_get(8)?,
        last_deployment: row.try_get(9)?,
        enable_preview_environments: false,
        external_id: None,
    })
}
