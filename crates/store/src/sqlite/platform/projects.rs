//! Statements on projects.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row};
use temps_protocol::ProjectInfo;

use super::super::journal::time;
use super::WriteTx;
use crate::{NewProjectRecord, StoreError};

const COLUMNS: &str = "SELECT id, name, slug, repo_owner, repo_name, main_branch, preset, created_at, updated_at, last_deployment_at FROM projects";

pub(super) fn by_id(conn: &Connection, id: i32) -> Result<Option<ProjectInfo>, StoreError> {
    Ok(conn.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?.query_row([id], project).optional()?)
}

pub(super) fn by_slug(conn: &Connection, slug: &str) -> Result<Option<ProjectInfo>, StoreError> {
    Ok(conn.prepare_cached(&format!("{COLUMNS} WHERE slug = ?1"))?.query_row([slug], project).optional()?)
}

pub(super) fn list(conn: &Connection, after: i32, limit: u32) -> Result<Vec<ProjectInfo>, StoreError> {
    let mut statement = conn.prepare_cached(&format!("{COLUMNS} WHERE id > ?1 ORDER BY id LIMIT ?2"))?;
    let rows = statement.query_map((after, limit), project)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn insert(tx: &WriteTx<'_>, new: &NewProjectRecord) -> Result<ProjectInfo, StoreError> {
    let at = new.created_at.timestamp_micros();
    let sql = "INSERT INTO projects (name, slug, repo_owner, repo_name, main_branch, preset, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
               RETURNING id, name, slug, repo_owner, repo_name, main_branch, preset, created_at, updated_at, last_deployment_at";
    let values = (&new.name, &new.slug, &new.repo_owner, &new.repo_name, &new.main_branch, &new.preset, at);
    Ok(tx.prepare_cached(sql)?.query_row(values, project)?)
}

pub(super) fn note_deployment(tx: &WriteTx<'_>, id: i32, at: DateTime<Utc>) -> Result<(), StoreError> {
    let sql = "UPDATE projects SET last_deployment_at = ?2 WHERE id = ?1";
    tx.prepare_cached(sql)?.execute((id, at.timestamp_micros()))?;
    Ok(())
}

pub(super) fn delete(tx: &WriteTx<'_>, id: i32) -> Result<(), StoreError> {
    tx.prepare_cached("DELETE FROM projects WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn project(row: &Row<'_>) -> rusqlite::Result<ProjectInfo> {
    let repo_name: String = row.get(4)?;
    Ok(ProjectInfo {
        id: row.get(0)?,
        name: row.get(1)?,
        slug: row.get(2)?,
        repo_owner: row.get(3)?,
        source_type: if repo_name.is_empty() { String::new() } else { "git".to_owned() },
        repo_name,
        main_branch: row.get(5)?,
        preset: row.get(6)?,
        created_at: time(row.get(7)?),
        updated_at: time(row.get(8)?),
        last_deployment: row.get::<_, Option<i64>>(9)?.map(time),
        enable_preview_environments: false,
        external_id: None,
    })
}
