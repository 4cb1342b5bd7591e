//! Statements on environments.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row};
use temps_protocol::EnvironmentInfo;

use super::super::journal::time;
use super::WriteTx;
use crate::{EnvironmentRecord, NewEnvironmentRecord, StoreError};

const COLUMNS: &str =
    "SELECT e.id, e.project_id, e.name, e.slug, e.branch, e.is_preview, e.current_deployment_id,
                              e.created_at, e.updated_at, p.slug
                       FROM environments e JOIN projects p ON p.id = e.project_id";

pub(super) fn by_id(conn: &Connection, id: i32) -> Result<Option<EnvironmentRecord>, StoreError> {
    Ok(conn.prepare_cached(&format!("{COLUMNS} WHERE e.id = ?1"))?.query_row([id], environment).optional()?)
}

pub(super) fn by_name(
    conn: &Connection,
    project_id: i32,
    name: &str,
) -> Result<Option<EnvironmentRecord>, StoreError> {
    let sql = format!("{COLUMNS} WHERE e.project_id = ?1 AND e.name = ?2");
    Ok(conn.prepare_cached(&sql)?.query_row((project_id, name), environment).optional()?)
}

pub(super) fn list(
    conn: &Connection,
    project_id: Option<i32>,
    after: i32,
    limit: u32,
) -> Result<Vec<EnvironmentRecord>, StoreError> {
    let narrowed = if project_id.is_some() { "e.project_id = ?1" } else { "?1 IS NULL" };
    let sql = format!("{COLUMNS} WHERE {narrowed} AND e.id > ?2 ORDER BY e.id LIMIT ?3");
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map((project_id, after, limit), environment)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn insert(tx: &WriteTx<'_>, new: &NewEnvironmentRecord) -> Result<EnvironmentRecord, StoreError> {
    let at = new.created_at.timestamp_micros();
    let sql = "INSERT INTO environments (project_id, name, slug, branch, is_preview, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) RETURNING id";
    let values = (new.project_id, &new.name, &new.slug, &new.branch, new.is_preview, at);
    let id: i32 = tx.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    by_id(tx, id)?.ok_or(StoreError::Database {
        action: "write an environment",
        reason: format!("environment {id} is gone at once"),
    })
}

pub(super) fn set_current(
    tx: &WriteTx<'_>,
    id: i32,
    deployment_id: i32,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let sql = "UPDATE environments SET current_deployment_id = ?2, updated_at = ?3 WHERE id = ?1";
    tx.prepare_cached(sql)?.execute((id, deployment_id, at.timestamp_micros()))?;
    Ok(())
}

pub(super) fn delete(tx: &WriteTx<'_>, id: i32) -> Result<(), StoreError> {
    tx.prepare_cached("DELETE FROM environments WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn environment(row: &Row<'_>) -> rusqlite::Result<EnvironmentRecord> {
    let info = EnvironmentInfo {
        id: row.get(0)?,
        project_id: row.get(1)?,
        name: row.get(2)?,
        slug: row.get(3)?,
        branch: row.get(4)?,
        is_preview: row.get(5)?,
        current_deployment_id: row.get(6)?,
        created_at: time(row.get(7)?),
        updated_at: time(row.get(8)?),
        external_id: None,
    };
    Ok(EnvironmentRecord { info, project_slug: row.get(9)? })
}
