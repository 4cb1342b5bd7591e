//! Key-value storage: small JSON values that plugins keep, each plugin its own.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::StoreError;

/// Bytes of keys and values that one page of [`KeyValueStore::kv_list`] has at most, so that it fits into one frame of
/// the channel. One entry always fits.
pub const MAX_KV_PAGE_BYTES: usize = 512 * 1024;

/// Counts the writes to a plugin's storage. An entry has the number of the write that made it what it is, so its
/// revision grows, also when it was deleted in between. The first write is 1; 0 stands for an entry that there is not.
pub type Revision = i64;

/// One entry of a plugin's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// Its key.
    pub key: String,
    /// Its value, as JSON text; `None` when only keys were asked for.
    pub value: Option<String>,
    /// The write that made it what it is.
    pub revision: Revision,
    /// When it was written.
    pub updated_at: DateTime<Utc>,
    /// When it ends, if it does. From this moment on it is not there for readers.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvPut {
    /// The key.
    pub key: String,
    /// The value, as JSON text.
    pub value: String,
    /// When the entry ends; `None` for one that stays.
    pub expires_at: Option<DateTime<Utc>>,
    /// Compare and set: the entry must have this revision, and must not exist for 0. `None` writes in any case.
    pub expected: Option<Revision>,
}

/// How much one plugin may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvQuota {
    /// Entries.
    pub entries: u64,
    /// Bytes of keys and values together.
    pub bytes: u64,
}

/// How much one plugin keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KvUsage {
    /// Entries.
    pub entries: u64,
    /// Bytes of keys and values together.
    pub bytes: u64,
}

/// What became of a [`KvPut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvWritten {
    /// It was written, as this revision.
    Written(Revision),
    /// The entry has another revision than expected, 0 when it does not exist. Nothing was written.
    Conflict(Revision),
    /// It would be more than the quota allows; this much is kept now. Nothing was written.
    QuotaExceeded(KvUsage),
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvDeleted {
    /// The entry is gone.
    Deleted,
    /// There was none.
    Absent,
    /// The entry has another revision than expected, and stays.
    Conflict(Revision),
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvQuery {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most this many.
    pub limit: usize,
    /// Whether the values are wanted too.
    pub values: bool,
}

/// Entries in the order of the bytes of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvPage {
    /// The entries.
    pub entries: Vec<KvEntry>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

/// Key-value storage. A plugin's entries are its own: every call names the plugin.
///
/// Every write is durable when its future resolves. The time is always the caller's, so that what has ended is decided in
/// one place.
#[async_trait]
pub trait KeyValueStore: Send + Sync + 'static {
    /// One entry with its value, if it is there at `now`.
    async fn kv_get(
        &self,
        plugin: &str,
        key: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<KvEntry>, StoreError>;

    /// Writes one entry, if it is as expected and within the quota. Among writers that expect the same revision at the
    /// same time, exactly one wins.
    async fn kv_put(
        &self,
        plugin: &str,
        put: KvPut,
        quota: KvQuota,
        now: DateTime<Utc>,
    ) -> Result<KvWritten, StoreError>;

    /// Deletes one entry, if it has the expected revision (`None`: any).
    async fn kv_delete(
        &self,
        plugin: &str,
        key: &str,
        expected: Option<Revision>,
        now: DateTime<Utc>,
    ) -> Result<KvDeleted, StoreError>;

    /// Entries that are there at `now`, at most `limit` and [`MAX_KV_PAGE_BYTES`].
    async fn kv_list(&self, plugin: &str, query: KvQuery, now: DateTime<Utc>) -> Result<KvPage, StoreError>;

    /// How much is there at `now`.
    async fn kv_usage(&self, plugin: &str, now: DateTime<Utc>) -> Result<KvUsage, StoreError>;

    /// Deletes everything of a plugin. Returns how many entries that were.
    async fn kv_clear(&self, plugin: &str) -> Result<u64, StoreError>;

    /// Removes some of what has ended before `now`, of all plugins, in one small commit. Returns how many entries; the
    /// caller comes again until there are none.
    async fn kv_sweep(&self, now: DateTime<Utc>) -> Result<u64, StoreError>;
}
