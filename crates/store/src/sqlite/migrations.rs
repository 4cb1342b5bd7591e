//! Bringing a database's schema up to date: numbered steps for each door, forward only, each in one transaction.

use rusqlite::{Connection, OptionalExtension};

use crate::StoreError;

/// The steps of one door, in order. Step `n` leads from schema version `n` to `n + 1`. A step that was released is
/// never edited; a change is a new step.
struct Door {
    name: &'static str,
    steps: &'static [&'static str],
}

const DOORS: [Door; 2] = [
    Door {
        name: "host",
        steps: &[
            include_str!("../../migrations/host/0001_begin.sql"),
            include_str!("../../migrations/host/0002_deliveries.sql"),
            include_str!("../../migrations/host/0003_audit_chain.sql"),
            include_str!("../../migrations/host/0004_key_value.sql"),
            include_str!("../../migrations/host/0005_config.sql"),
        ],
    },
    Door { name: "platform", steps: &[include_str!("../../migrations/platform/0001_begin.sql")] },
];

/// Takes all steps that the database has not seen.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_versions (door TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
    )?;
    DOORS.iter().try_for_each(|door| migrate_door(conn, door))
}

fn migrate_door(conn: &mut Connection, door: &Door) -> Result<(), StoreError> {
    loop {
        // The version is read inside the transaction, so two programs that open a new file do not both take a step.
        let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let found: u32 = tx
            .query_row("SELECT version FROM schema_versions WHERE door = ?1", [door.name], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        let known = u32::try_from(door.steps.len()).unwrap_or(u32::MAX);
        if found > known {
            return Err(StoreError::TooNew { found, known });
        }
        let Some(step) = door.steps.get(found as usize) else { return Ok(()) };
        tx.execute_batch(step).map_err(|e| StoreError::from(e).during("bring its schema up to date"))?;
        tx.execute(
            "INSERT INTO schema_versions (door, version) VALUES (?1, ?2)
             ON CONFLICT (door) DO UPDATE SET version = excluded.version",
            (door.name, found + 1),
        )?;
        tx.commit()?;
    }
}
