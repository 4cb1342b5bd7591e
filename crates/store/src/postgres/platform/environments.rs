//! Statements on environments.

use chrono::{DateTime, Utc};
use temps_protocol::EnvironmentInfo;
use tokio_postgres::Row;

use super::{Narrowed, On, text};
use crate::{EnvironmentRecord, NewEnvironmentRecord, StoreError};

const SELECT: &str =
    "SELECT e.id, e.project_id, e.name, e.slug, e.branch, e.is_preview, e.current_deployment_id,
                             e.created_at, e.updated_at, p.slug
                      FROM environments e JOIN projects p ON p.id = e.project_id";

pub(super) async fn by_id(on: On<'_>, id: i32) -> Result<Option<EnvironmentRecord>, StoreError> {
    on.maybe(&format!("{SELECT} WHERE e.id = $1"), &[&id]).await?.as_ref().map(environment).transpose()
}

pub(super) async fn by_name(
    on: On<'_>,
    project_id: i32,
    name: &str,
) -> Result<Option<EnvironmentRecord>, StoreError> {
    let sql = format!("{SELECT} WHERE e.project_id = $1 AND e.name = $2");
    on.maybe(&sql, &[&project_id, &text(name)]).await?.as_ref().map(environment).transpose()
}

pub(super) async fn list(
    on: On<'_>,
    project_id: Option<i32>,
    after: i32,
    limit: u32,
) -> Result<Vec<EnvironmentRecord>, StoreError> {
    let mut narrowed = Narrowed::default();
    narrowed.by_some("e.project_id = ", project_id);
    narrowed.by("e.id > ", after);
    let rows = narrowed.query(on, SELECT, "ORDER BY e.id", limit.into()).await?;
    rows.iter().map(environment).collect()
}

pub(super) async fn insert(on: On<'_>, new: &NewEnvironmentRecord) -> Result<EnvironmentRecord, StoreError> {
    let sql = "INSERT INTO environments (project_id, name, slug, branch, is_preview, created_at, updated_at)
               VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING id";
    let (name, slug, branch) = (text(&new.name), text(&new.slug), new.branch.as_deref().map(text));
    let row =
        on.one(sql, &[&new.project_id, &name, &slug, &branch, &new.is_preview, &new.created_at]).await?;
    let id = row.try_get(0)?;
    by_id(on, id).await?.ok_or(StoreError::Database {
        action: "write an environment",
        reason: format!("environment {id} is gone at once"),
    })
}

pub(super) async fn set_current(
    on: On<'_>,
    id: i32,
    deployment_id: i32,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let sql = "UPDATE environments SET current_deployment_id = $2, updated_at = $3 WHERE id = $1";
    on.execute(sql, &[&id, &deployment_id, &at]).await?;
    Ok(())
}

pub(super) async fn delete(on: On<'_>, id: i32) -> Result<(), StoreError> {
    on.execute("DELETE FROM environments WHERE id = $1", &[&id]).await?;
    Ok(())
}

fn environment(row: &Row) -> Result<EnvironmentRecord, StoreError> {
    let info = EnvironmentInfo {
        id: row.try_get(0)?,
        project_id: row.try_get(1)?,
        name: row.try_get(2)?,
        slug: row.try_get(3)?,
        branch: row.try_get(4)?,
        is_preview: row.try_get(5)?,
        current_deployment_id: row.try_get(6)?,
        created_at: row.try_get(7)?,
        updated_at: row.try_get(8)?,
        external_id: None,
    };
    Ok(EnvironmentRecord { info, project_slug: row.try_get(9)? })
}
