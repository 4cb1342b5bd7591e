//! Statements on tokens, sessions and sign-in codes. Secrets are looked up by their hash; none is kept.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row};

use super::super::journal::time;
use super::WriteTx;
use crate::{SecretHash, StoreError, TokenRecord};

const TOKEN: &str = "SELECT id, name, admin, created_at, last_used_at, expires_at FROM tokens";

pub(super) fn create_token(
    tx: &WriteTx<'_>,
    mut new: TokenRecord,
    hash: SecretHash,
) -> Result<Option<TokenRecord>, StoreError> {
    let sql = "INSERT INTO tokens (name, admin, hash, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (name) DO NOTHING RETURNING id";
    let expires_at = new.expires_at.map(|at| at.timestamp_micros());
    let values = (&new.name, new.admin, hash, new.created_at.timestamp_micros(), expires_at);
    let id = tx.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
    Ok(id.map(|id| {
        new.id = id;
        new
    }))
}

pub(super) fn tokens(conn: &Connection, after: i32, limit: u32) -> Result<Vec<TokenRecord>, StoreError> {
    let mut statement = conn.prepare_cached(&format!("{TOKEN} WHERE id > ?1 ORDER BY id LIMIT ?2"))?;
    let rows = statement.query_map((after, limit), token)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn token_by_hash(conn: &Connection, hash: SecretHash) -> Result<Option<TokenRecord>, StoreError> {
    Ok(conn.prepare_cached(&format!("{TOKEN} WHERE hash = ?1"))?.query_row([hash], token).optional()?)
}

pub(super) fn touch_token(tx: &WriteTx<'_>, id: i32, at: DateTime<Utc>) -> Result<(), StoreError> {
    let sql = "UPDATE tokens SET last_used_at = ?2 WHERE id = ?1";
    tx.prepare_cached(sql)?.execute((id, at.timestamp_micros()))?;
    Ok(())
}

pub(super) fn delete_token(tx: &WriteTx<'_>, id: i32) -> Result<Option<TokenRecord>, StoreError> {
    let found = tx.prepare_cached(&format!("{TOKEN} WHERE id = ?1"))?.query_row([id], token).optional()?;
    tx.prepare_cached("DELETE FROM tokens WHERE id = ?1")?.execute([id])?;
    Ok(found)
}

pub(super) fn add_login_code(
    tx: &WriteTx<'_>,
    hash: SecretHash,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let forget = "DELETE FROM login_codes WHERE expires_at <= ?1";
    tx.prepare_cached(forget)?.execute([now.timestamp_micros()])?;
    let sql = "INSERT INTO login_codes (hash, expires_at) VALUES (?1, ?2)";
    tx.prepare_cached(sql)?.execute((hash, expires_at.timestamp_micros()))?;
    Ok(())
}

pub(super) fn redeem(
    tx: &WriteTx<'_>,
    code: SecretHash,
    session: SecretHash,
    session_expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<i32>, StoreError> {
    let now = now.timestamp_micros();
    let used = tx
        .prepare_cached("DELETE FROM login_codes WHERE hash = ?1 AND expires_at > ?2")?
        .execute((code, now))?;
    if used == 0 {
        return Ok(None);
    }
    tx.prepare_cached("DELETE FROM sessions WHERE expires_at <= ?1")?.execute([now])?;
    let sql = "INSERT INTO sessions (hash, created_at, expires_at) VALUES (?1, ?2, ?3) RETURNING id";
    let values = (session, now, session_expires_at.timestamp_micros());
    Ok(Some(tx.prepare_cached(sql)?.query_row(values, |row| row.get(0))?))
}

pub(super) fn session(
    conn: &Connection,
    hash: SecretHash,
    now: DateTime<Utc>,
) -> Result<Option<i32>, StoreError> {
    let sql = "SELECT id FROM sessions WHERE hash = ?1 AND expires_at > ?2";
    Ok(conn.prepare_cached(sql)?.query_row((hash, now.timestamp_micros()), |row| row.get(0)).optional()?)
}

pub(super) fn delete_session(tx: &WriteTx<'_>, hash: SecretHash) -> Result<(), StoreError> {
    tx.prepare_cached("DELETE FROM sessions WHERE hash = ?1")?.execute([hash])?;
    Ok(())
}

fn token(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    Ok(TokenRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        admin: row.get(2)?,
        created_at: time(row.get(3)?),
        last_used_at: row.get::<_, Option<i64>>(4)?.map(time),
        expires_at: row.get::<_, Option<i64>>(5)?.map(time),
    })
}
