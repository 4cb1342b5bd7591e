//! Statements on tokens, sessions and sign-in codes. Secrets are looked up by their hash; none is kept.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{On, text};
use crate::{SecretHash, StoreError, TokenRecord};

const COLUMNS: &str = "id, name, admin, created_at, last_used_at, expires_at";

pub(super) async fn create_token(
    on: On<'_>,
    new: &TokenRecord,
    hash: SecretHash,
) -> Result<Option<TokenRecord>, StoreError> {
    let sql = format!(
        "INSERT INTO tokens (name, admin, hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name) DO NOTHING RETURNING {COLUMNS}"
    );
    let row = on
        .maybe(&sql, &[&text(&new.name), &new.admin, &hash.as_slice(), &new.created_at, &new.expires_at])
        .await?;
    row.as_ref().map(token).transpose()
}

pub(super) async fn tokens(on: On<'_>, after: i32, limit: u32) -> Result<Vec<TokenRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM tokens WHERE id > $1 ORDER BY id LIMIT $2");
    on.query(&sql, &[&after, &i64::from(limit)]).await?.iter().map(token).collect()
}

pub(super) async fn token_by_hash(on: On<'_>, hash: SecretHash) -> Result<Option<TokenRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM tokens WHERE hash = $1");
    on.maybe(&sql, &[&hash.as_slice()]).await?.as_ref().map(token).transpose()
}

pub(super) async fn touch_token(on: On<'_>, id: i32, at: DateTime<Utc>) -> Result<(), StoreError> {
    on.execute("UPDATE tokens SET last_used_at = $2 WHERE id = $1", &[&id, &at]).await?;
    Ok(())
}

pub(super) async fn delete_token(on: On<'_>, id: i32) -> Result<Option<TokenRecord>, StoreError> {
    let sql = format!("DELETE FROM tokens WHERE id = $1 RETURNING {COLUMNS}");
    on.maybe(&sql, &[&id]).await?.as_ref().map(token).transpose()
}

pub(super) async fn add_login_code(
    on: On<'_>,
    hash: SecretHash,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let sql = "WITH forgotten AS (DELETE FROM login_codes WHERE expires_at <= $3)
               INSERT INTO login_codes (hash, expires_at) VALUES ($1, $2)";
    on.execute(sql, &[&hash.as_slice(), &expires_at, &now]).await?;
    Ok(())
}

pub(super) async fn redeem(
    on: On<'_>,
    code: SecretHash,
    session: SecretHash,
    session_expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<i32>, StoreError> {
    // One statement, so that of two that use a code at the same time one finds it gone.
    let sql = "WITH used AS (DELETE FROM login_codes WHERE hash = $1 AND expires_at > $4 RETURNING hash),
                    forgotten AS (DELETE FROM sessions WHERE expires_at <= $4 AND EXISTS (SELECT FROM used))
               INSERT INTO sessions (hash, created_at, expires_at) SELECT $2, $4, $3 FROM used RETURNING id";
    let row = on.maybe(sql, &[&code.as_slice(), &session.as_slice(), &session_expires_at, &now]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn session(
    on: On<'_>,
    hash: SecretHash,
    now: DateTime<Utc>,
) -> Result<Option<i32>, StoreError> {
    let sql = "SELECT id FROM sessions WHERE hash = $1 AND expires_at > $2";
    Ok(on.maybe(sql, &[&hash.as_slice(), &now]).await?.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn delete_session(on: On<'_>, hash: SecretHash) -> Result<(), StoreError> {
    on.execute("DELETE FROM sessions WHERE hash = $1", &[&hash.as_slice()]).await?;
    Ok(())
}

fn token(row: &Row) -> Result<TokenRecord, StoreError> {
    Ok(TokenRecord {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        admin: row.try_get(2)?,
        created_at: row.try_get(3)?,
        last_used_at: row.try_get(4)?,
        expires_at: row.try_get(5)?,
    })
}
