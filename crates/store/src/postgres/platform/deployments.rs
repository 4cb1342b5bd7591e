//! Statements on deployments.

use temps_protocol::DeploymentInfo;
use tokio_postgres::Row;

use super::{Narrowed, On, text};
use crate::{DeploymentFilter, DeploymentRecord, StoreError};

const SELECT: &str =
    "SELECT d.id, d.project_id, d.environment_id, d.external_id, d.state, d.url, d.branch, d.tag,
           d.commit_sha, d.commit_message, d.commit_author, d.error_message, d.probe,
           d.created_at, d.started_at, d.ready_at, d.finished_at, d.updated_at, p.slug, e.name
    FROM deployments d JOIN projects p ON p.id = d.project_id JOIN environments e ON e.id = d.environment_id";

pub(super) async fn by_id(on: On<'_>, id: i32) -> Result<Option<DeploymentRecord>, StoreError> {
    on.maybe(&format!("{SELECT} WHERE d.id = $1"), &[&id]).await?.as_ref().map(deployment).transpose()
}

pub(super) async fn by_external_id(
    on: On<'_>,
    project_id: i32,
    external_id: &str,
) -> Result<Option<DeploymentRecord>, StoreError> {
    let sql = format!("{SELECT} WHERE d.project_id = $1 AND d.external_id = $2");
    on.maybe(&sql, &[&project_id, &text(external_id)]).await?.as_ref().map(deployment).transpose()
}

pub(super) async fn list(on: On<'_>, filter: &DeploymentFilter) -> Result<Vec<DeploymentRecord>, StoreError> {
    let mut narrowed = Narrowed::default();
    narrowed.by_some("d.project_id = ", filter.project_id);
    narrowed.by_some("d.environment_id = ", filter.environment_id);
    narrowed.by_some("e.name = ", filter.environment_name.as_deref().map(text));
    narrowed.by_some("d.state = ", filter.state.as_deref().map(text));
    narrowed.by_some("d.id < ", filter.before);
    let rows = narrowed.query(on, SELECT, "ORDER BY d.id DESC", filter.limit.into()).await?;
    rows.iter().map(deployment).collect()
}

pub(super) async fn probed(on: On<'_>, after: i32, limit: u32) -> Result<Vec<DeploymentRecord>, StoreError> {
    let sql =
        format!("{SELECT} WHERE d.probe AND d.finished_at IS NULL AND d.id > $1 ORDER BY d.id LIMIT $2");
    on.query(&sql, &[&after, &i64::from(limit)]).await?.iter().map(deployment).collect()
}

pub(super) async fn unfinished_of(
    on: On<'_>,
    environment_id: i32,
) -> Result<Vec<DeploymentRecord>, StoreError> {
    let sql = format!("{SELECT} WHERE d.environment_id = $1 AND d.finished_at IS NULL ORDER BY d.id");
    on.query(&sql, &[&environment_id]).await?.iter().map(deployment).collect()
}

pub(super) async fn insert(on: On<'_>, mut record: DeploymentRecord) -> Result<DeploymentRecord, StoreError> {
    let info = &record.info;
    let sql = "INSERT INTO deployments
            (project_id, environment_id, external_id, state, probe, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING id";
    let external_id = info.external_id.as_deref().map(text);
    let row = on
        .one(
            sql,
            &[
                &info.project_id,
                &info.environment_id,
                &external_id,
                &text(&info.state),
                &record.probe,
                &info.created_at,
            ],
        )
        .await?;
    record.info.id = row.try_get(0)?;
    update(on, &record).await?;
    Ok(record)
}

pub(super) async fn update(on: On<'_>, record: &DeploymentRecord) -> Result<(), StoreError> {
    let info = &record.info;
    let sql = "UPDATE deployments SET state = $2, url = $3, branch = $4, tag = $5,
            commit_sha = $6, commit_message = $7, commit_author = $8,
            error_message = $9, probe = $10, started_at = $11, ready_at = $12,
            finished_at = $13, updated_at = $14
        WHERE id = $1";
    let [url, branch, tag, sha, message, author, error] = [
        &info.url,
        &info.branch,
        &info.tag,
        &info.commit_sha,
        &info.commit_message,
        &info.commit_author,
        &record.error_message,
    ]
    .map(|value| value.as_deref().map(text));
    on.execute(
        sql,
        &[
            &info.id,
            &text(&info.state),
            &url,
            &branch,
            &tag,
            &sha,
            &message,
            &author,
            &error,
            &record.probe,
            &info.started_at,
            &record.ready_at,
            &info.finished_at,
            &record.updated_at,
        ],
    )
    .await?;
    Ok(())
}

fn deployment(row: &Row) -> Result<DeploymentRecord, StoreError> {
    let info = DeploymentInfo {
        id: row.try_get(0)?,
        project_id: row.try_get(1)?,
        environment_id: row.try_get(2)?,
        external_id: row.try_get(3)?,
        state: row.try_get(4)?,
        url: row.try_get(5)?,
        branch: row.try_get(6)?,
        tag: row.try_get(7)?,
        commit_sha: row.try_get(8)?,
        commit_message: row.try_get(9)?,
        commit_author: row.try_get(10)?,
        created_at: row.try_get(13)?,
        started_at: row.try_get(14)?,
        finished_at: row.try_get(16)?,
    };
    Ok(DeploymentRecord {
        info,
        error_message: row.try_get(11)?,
        probe: row.try_get(12)?,
        ready_at: row.try_get(15)?,
        updated_at: row.try_get(17)?,
        project_slug: row.try_get(18)?,
        environment_name: row.try_get(19)?,
    })
}
