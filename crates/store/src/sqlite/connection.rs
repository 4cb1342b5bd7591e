//! How a connection is opened: who may read the file, and what SQLite is told about durability and waiting.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ffi};

use crate::StoreError;

/// How long a statement waits for another process that holds the database. Ours is the only writer as a rule; a backup
/// or an operator's shell holds it for moments.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements that a connection keeps. Both doors together use fewer, so none is parsed twice.
const CACHED_STATEMENTS: usize = 128;

/// Bytes that the write-ahead log is cut back to after a checkpoint, so that one burst does not keep its room for ever.
const WAL_SIZE_LIMIT: i64 = 64 * 1024 * 1024;

/// Opens (or creates) the database for the one writer.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, StoreError> {
    make_private(path).map_err(|e| StoreError::Database {
        action: "open its file",
        reason: format!("{}: {e}", path.display()),
    })?;
    let conn = open(path)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Database {
            action: "turn on its write-ahead log",
            reason: format!("the file system of {} offers only mode {mode}", path.display()),
        });
    }
    // FULL: a commit returns after its data is on the disk, so an event that was confirmed survives a power cut.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "journal_size_limit", WAL_SIZE_LIMIT)?;
    Ok(conn)
}

/// Opens one more connection, which cannot write.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    let conn = open(path)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// Opens a database that is there, to look at it and to change nothing.
pub(super) fn open_as_it_is(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|e| StoreError::Database {
        action: "open its file",
        reason: format!("{}: {e}", path.display()),
    })?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    Ok(conn)
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    // No SQLITE_OPEN_URI: a path with a question mark is a path.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn =
        Connection::open_with_flags(path, flags).map_err(|e| StoreError::from(e).during("open its file"))?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    conn.pragma_update(None, "foreign_keys", true)?;
    Ok(conn)
}

/// Sees to it that the file exists and that only its owner may open it. SQLite gives the files beside it the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map_or(0, |e| e.extended_code);
        // The second one is how SQLite says that the index of its write-ahead log could not grow.
        if code & 0xff == ffi::SQLITE_FULL || code == ffi::SQLITE_IOERR_SHMSIZE {
            return StoreError::Full;
        }
        if matches!(code & 0xff, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) {
            return StoreError::Damaged { reason: error.to_string() };
        }
        StoreError::Database { action: "run a statement", reason: error.to_string() }
    }
}
