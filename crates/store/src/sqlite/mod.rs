//! SQLite: one file, one writer thread with group commit, a few reader threads.
//!
//! This file is the engine's face: opening, and the two ways in that both doors use, [`SqliteStore::write`] and
//! [`SqliteStore::read`]. What is written stands in the files of the doors; the engine knows nothing of it, apart from
//! the journal's head, which it announces after each commit, and the link of the audit chain, with which it ends one.

mod attempts;
mod audit;
mod chain;
mod config;
mod connection;
mod deliveries;
pub(crate) mod journal;
mod key_value;
mod migrations;
mod platform;
mod plugins;
mod readers;
mod retention;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::Value;
use tokio::sync::watch;

use crate::{Seq, StoreError};
use chain::Chain;
pub use chain::ChainFile;
use readers::Readers;
pub(crate) use writer::WriteTx;
use writer::Writer;

/// A store in one SQLite file. Both doors open on it.
///
/// It needs no async runtime of its own: the database works on threads, callers wait on futures.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    head: watch::Receiver<Seq>,
    chain: Arc<Chain>,
}

impl SqliteStore {
    /// Opens the database at `path`, creates it (mode 0600) when it is not there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::TooNew`] when a later version of temps wrote it, [`StoreError::Full`] when the disk has no room,
    /// [`StoreError::Database`] when the file cannot be opened or is not a database.
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let mut conn = connection::open_for_writing(path)?;
        migrations::migrate(&mut conn)?;
        let (announce, head) = watch::channel(journal::head(&conn)?);
        let readers = Readers::start(path)?;
        let chain = Arc::new(Chain::default());
        let writer = Writer::start(conn, announce, chain.clone())?;
        Ok(Arc::new(Self { writer, readers, head, chain }))
    }

    /// Runs `work` in a transaction and returns once its commit is durable.
    ///
    /// Several callers share one commit. Each has a savepoint of its own: when `work` fails, or calls
    /// [`WriteTx::roll_back`], its own changes are undone and those of the others are kept. Dropping the future does not
    /// stop work that was queued.
    ///
    /// # Errors
    /// What `work` returned, with `action` as what was being done; or why the commit failed, and nothing was written then.
    pub(crate) async fn write<T, F>(&self, action: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.writer.write(work).await.map_err(|error| error.during(action))
    }

    /// Runs `work` on a connection that only reads, in one snapshot. It never waits for the writer.
    ///
    /// # Errors
    /// What `work` returned, with `action` as what was being done.
    pub(crate) async fn read<T, F>(&self, action: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.readers.read(work).await.map_err(|error| error.during(action))
    }

    /// Commits since it was opened, for whoever measures how many writes share one.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// Finishes the writes that are queued and closes the database. What comes later fails with [`StoreError::Closed`].
    ///
    /// Nothing is lost without it: each write that was confirmed is durable. It exists so that a program can end in order.
    pub async fn close(&self) {
        self.writer.close().await;
        self.readers.close();
    }
}

/// JSON that this crate wrote.
fn json_of(text: &str) -> Result<Value, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Database {
        action: "read JSON that it holds",
        reason: format!("the text is damaged: {e}"),
    })
}
