//! Statements on deployments.

use chrono::{DateTime, Utc};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params_from_iter};
use temps_protocol::DeploymentInfo;

use super::super::journal::time;
use super::WriteTx;
use crate::{DeploymentFilter, DeploymentRecord, StoreError};

const COLUMNS: &str =
    "SELECT d.id, d.project_id, d.environment_id, d.external_id, d.state, d.url, d.branch, d.tag,
           d.commit_sha, d.commit_message, d.commit_author, d.error_message, d.probe,
           d.created_at, d.started_at, d.ready_at, d.finished_at, d.updated_at, p.slug, e.name
    FROM deployments d JOIN projects p ON p.id = d.project_id JOIN environments e ON e.id = d.environment_id";

pub(super) fn by_id(conn: &Connection, id: i32) -> Result<Option<DeploymentRecord>, StoreError> {
    Ok(conn.prepare_cached(&format!("{COLUMNS} WHERE d.id = ?1"))?.query_row([id], deployment).optional()?)
}

pub(super) fn by_external_id(
    conn: &Connection,
    project_id: i32,
    external_id: &str,
) -> Result<Option<DeploymentRecord>, StoreError> {
    let sql = format!("{COLUMNS} WHERE d.project_id = ?1 AND d.external_id = ?2");
    Ok(conn.prepare_cached(&sql)?.query_row((project_id, external_id), deployment).optional()?)
}

pub(super) fn list(
    conn: &Connection,
    filter: &DeploymentFilter,
) -> Result<Vec<DeploymentRecord>, StoreError> {
    let mut conditions: Vec<&str> = Vec::new();
    let mut values: Vec<Sql> = Vec::new();
    let mut narrow = |condition, value: Option<Sql>| {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(value);
        }
    };
    narrow("d.project_id = ?", filter.project_id.map(Sql::from));
    narrow("d.environment_id = ?", filter.environment_id.map(Sql::from));
    narrow("e.name = ?", filter.environment_name.clone().map(Sql::from));
    narrow("d.state = ?", filter.state.clone().map(Sql::from));
    narrow("d.id < ?", filter.before.map(Sql::from));
    let narrowed =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    values.push(filter.limit.into());
    let sql = format!("{COLUMNS}{narrowed} ORDER BY d.id DESC LIMIT ?");
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), deployment)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn probed(conn: &Connection, after: i32, limit: u32) -> Result<Vec<DeploymentRecord>, StoreError> {
    let sql =
        format!("{COLUMNS} WHERE d.probe = 1 AND d.finished_at IS NULL AND d.id > ?1 ORDER BY d.id LIMIT ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map((after, limit), deployment)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn unfinished_of(
    conn: &Connection,
    environment_id: i32,
) -> Result<Vec<DeploymentRecord>, StoreError> {
    let sql = format!("{COLUMNS} WHERE d.environment_id = ?1 AND d.finished_at IS NULL ORDER BY d.id");
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map([environment_id], deployment)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn insert(tx: &WriteTx<'_>, mut record: DeploymentRecord) -> Result<DeploymentRecord, StoreError> {
    let info = &record.info;
    let sql = "INSERT INTO deployments
            (project_id, environment_id, external_id, state, probe, created_at, updated_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) RETURNING id";
    let values = (
        info.project_id,
        info.environment_id,
        &info.external_id,
        &info.state,
        record.probe,
        info.created_at.timestamp_micros(),
    );
    record.info.id = tx.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    update(tx, &record)?;
    Ok(record)
}

pub(super) fn update(tx: &WriteTx<'_>, record: &DeploymentRecord) -> Result<(), StoreError> {
    let info = &record.info;
    let sql = "UPDATE deployments SET state = :state, url = :url, branch = :branch, tag = :tag,
            commit_sha = :commit_sha, commit_message = :commit_message, commit_author = :commit_author,
            error_message = :error_message, probe = :probe, started_at = :started_at, ready_at = :ready_at,
            finished_at = :finished_at, updated_at = :updated_at
        WHERE id = :id";
    tx.prepare_cached(sql)?.execute(named_params! {
        ":id": info.id,
        ":state": info.state,
        ":url": info.url,
        ":branch": info.branch,
        ":tag": info.tag,
        ":commit_sha": info.commit_sha,
        ":commit_message": info.commit_message,
        ":commit_author": info.commit_author,
        ":error_message": record.error_message,
        ":probe": record.probe,
        ":started_at": micros(info.started_at),
        ":ready_at": micros(record.ready_at),
        ":finished_at": micros(info.finished_at),
        ":updated_at": record.updated_at.timestamp_micros(),
    })?;
    Ok(())
}

fn micros(at: Option<DateTime<Utc>>) -> Option<i64> {
    at.map(|at| at.timestamp_micros())
}

fn deployment(row: &Row<'_>) -> rusqlite::Result<DeploymentRecord> {
    let maybe_time = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(time));
    let info = DeploymentInfo {
        id: row.get(0)?,
        project_id: row.get(1)?,
        environment_id: row.get(2)?,
        external_id: row.get(3)?,
        state: row.get(4)?,
        url: row.get(5)?,
        branch: row.get(6)?,
        tag: row.get(7)?,
        commit_sha: row.get(8)?,
        commit_message: row.get(9)?,
        commit_author: row.get(10)?,
        created_at: time(row.get(13)?),
        started_at: maybe_time(14)?,
        finished_at: maybe_time(16)?,
    };
    Ok(DeploymentRecord {
        info,
        error_message: row.get(11)?,
        probe: row.get(12)?,
        ready_at: maybe_time(15)?,
        updated_at: time(row.get(17)?),
        project_slug: row.get(18)?,
        environment_name: row.get(19)?,
    })
}
