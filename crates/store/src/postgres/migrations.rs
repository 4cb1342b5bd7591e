//! Bringing the database's schema up to date: numbered steps for each door, forward only. All of them are taken in one
//! transaction, under a lock, so that of several hosts that start at once one takes them and the others find them taken.

use super::connection::Conn;
use crate::StoreError;

/// The steps of one door, in order. Step `n` leads from schema version `n` to `n + 1`. A step that was released is
/// never edited; a change is a new step.
struct Door {
    name: &'static str,
    steps: &'static [&'static str],
}

const DOORS: [Door; 2] = [
    Door { name: "host", steps: &[include_str!("../../migrations/postgres/host/0001_begin.sql")] },
    Door { name: "platform", steps: &[include_str!("../../migrations/postgres/platform/0001_begin.sql")] },
];

/// Takes all steps that the database has not seen.
pub(super) async fn migrate(conn: &Conn) -> Result<(), StoreError> {
    // A step may have much to rewrite, and others wait for whoever takes it.
    conn.batch(
        "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
         SET LOCAL idle_in_transaction_session_timeout = 0;
         SELECT pg_advisory_xact_lock(hashtextextended('temps schema', 0))",
    )
    .await?;
    match take_steps(conn).await {
        Ok(()) => conn.batch("COMMIT").await.map_err(|error| error.during("bring its schema up to date")),
        Err(error) => {
            // The connection is given up by the caller, and the transaction with it.
            Err(error.during("bring its schema up to date"))
        }
    }
}

/// The version of each door's schema in the database and in this program. Nothing is changed.
pub(super) async fn versions(conn: &Conn) -> Result<Vec<(&'static str, u32, u32)>, StoreError> {
    let there = conn.one("SELECT to_regclass('temps.schema_versions') IS NOT NULL", &[]).await?;
    let there: bool = there.try_get(0)?;
    let mut versions = Vec::new();
    for door in &DOORS {
        let found = if there { version(conn, door.name).await? } else { 0 };
        versions.push((door.name, found, known(door)));
    }
    Ok(versions)
}

async fn take_steps(conn: &Conn) -> Result<(), StoreError> {
    let there = conn.one("SELECT to_regnamespace('temps') IS NOT NULL", &[]).await?;
    // Asked first, because a role that got a schema made for it may not make one.
    if !there.try_get::<_, bool>(0)? {
        conn.batch("CREATE SCHEMA temps").await?;
    }
    conn.batch("CREATE TABLE IF NOT EXISTS schema_versions (door TEXT PRIMARY KEY, version BIGINT NOT NULL)")
        .await?;
    for door in &DOORS {
        let found = version(conn, door.name).await?;
        if found > known(door) {
            return Err(StoreError::TooNew { found, known: known(door) });
        }
        for step in &door.steps[found as usize..] {
            conn.batch(step).await?;
        }
        conn.execute(
            "INSERT INTO schema_versions (door, version) VALUES ($1, $2)
             ON CONFLICT (door) DO UPDATE SET version = excluded.version",
            &[&door.name, &i64::from(known(door))],
        )
        .await?;
    }
    Ok(())
}

async fn version(conn: &Conn, door: &str) -> Result<u32, StoreError> {
    let row = conn.maybe("SELECT version FROM schema_versions WHERE door = $1", &[&door]).await?;
    let version: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

fn known(door: &Door) -> u32 {
    u32::try_from(door.steps.len()).unwrap_or(u32::MAX)
}
