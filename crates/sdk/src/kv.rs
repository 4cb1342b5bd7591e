//! The typed client for the plugin's key-value storage: small JSON values that the host keeps, each plugin its own.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use temps_protocol::{ErrorCode, KvEntry, KvPage, KvParams, OwnMethod};

use crate::context::PluginContext;
use crate::platform::{PlatformClient, PlatformError};

/// The plugin's key-value storage. Cheap to clone.
///
/// A value has 64 KiB of JSON at most, a key 256 bytes, everything together 10 MiB and 10,000 entries. A write is durable
/// when its call returns.
#[derive(Debug, Clone)]
pub struct KvClient {
    platform: PlatformClient,
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<T> {
    /// Its value.
    pub value: T,
    /// Grows with each write; give it to [`KvClient::put_if`].
    pub revision: i64,
    /// When it ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why a call to the storage failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum KvError {
    /// Somebody else wrote the entry meanwhile. Read it again, and repeat.
    #[error("the entry {key:?} has another revision than expected: {current} (0: it does not exist)")]
    Conflict {
        /// Its key.
        key: String,
        /// The revision that it has now.
        current: i64,
    },
    /// It would be more than the plugin may keep.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The value cannot be written as JSON, or what is kept is not what was asked for.
    #[error("the value of {key:?} does not fit its type: {reason}")]
    Type {
        /// Its key.
        key: String,
        /// What does not fit.
        reason: String,
    },
    /// The host gave no answer, or refused for another reason.
    #[error(transparent)]
    Host(#[from] PlatformError),
}

impl PluginContext {
    /// The plugin's key-value storage.
    #[must_use]
    pub fn kv(&self) -> KvClient {
        KvClient { platform: self.platform().clone() }
    }
}

impl KvClient {
    /// The same client with another time-out per call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { platform: self.platform.with_timeout(timeout) }
    }

    /// One entry; `None` when there is none, or when it has ended.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Entry<T>>, KvError> {
        match self.ask::<KvEntry>(OwnMethod::KvGet, key, KvParams::default()).await {
            Ok(entry) => typed(entry).map(Some),
            Err(KvError::Host(error)) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an entry, whatever was there. Returns its revision.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn put<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<i64, KvError> {
        self.write(key, value, None, None).await
    }

    /// Writes an entry that ends after `ttl` (whole seconds, rounded up).
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn put_for<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<i64, KvError> {
        self.write(key, value, None, Some(ttl)).await
    }

    /// Writes an entry if it still has this revision; 0: if it does not exist. Of several that try at the same time, one
    /// succeeds.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when it has another one.
    pub async fn put_if<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        revision: i64,
    ) -> Result<i64, KvError> {
        self.write(key, value, Some(revision), None).await
    }

    /// Writes an entry if it has `revision` (when given), for `ttl` (when given). Returns its revision.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn write<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        revision: Option<i64>,
        ttl: Option<Duration>,
    ) -> Result<i64, KvError> {
        #[derive(serde::Deserialize)]
        struct Written {
            revision: i64,
        }
        let value = serde_json::to_value(value)
            .map_err(|error| KvError::Type { key: key.to_owned(), reason: error.to_string() })?;
        let ttl = ttl.map(|ttl| ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
        let params = KvParams { value: Some(value), revision, ttl, ..KvParams::default() };
        Ok(self.ask::<Written>(OwnMethod::KvPut, key, params).await?.revision)
    }

    /// Deletes an entry. Returns whether it was there.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn delete(&self, key: &str) -> Result<bool, KvError> {
        self.remove(key, None).await
    }

    /// Deletes an entry if it still has this revision.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when it has another one.
    pub async fn delete_if(&self, key: &str, revision: i64) -> Result<bool, KvError> {
        self.remove(key, Some(revision)).await
    }

    async fn remove(&self, key: &str, revision: Option<i64>) -> Result<bool, KvError> {
        #[derive(serde::Deserialize)]
        struct Removed {
            deleted: bool,
        }
        let params = KvParams { revision, ..KvParams::default() };
        Ok(self.ask::<Removed>(OwnMethod::KvDelete, key, params).await?.deleted)
    }

    /// Keys that begin with `prefix`, with their revisions, in the order of their bytes.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn keys(&self, prefix: &str) -> Result<Vec<(String, i64)>, KvError> {
        let entries = self.all(prefix, false).await?;
        Ok(entries.into_iter().map(|entry| (entry.key, entry.revision)).collect())
    }

    /// Entries whose keys begin with `prefix`, with their values, in the order of the bytes of their keys.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, Entry<T>)>, KvError> {
        let entries = self.all(prefix, true).await?;
        entries.into_iter().map(|entry| Ok((entry.key.clone(), typed(entry)?))).collect()
    }

    /// One page of entries, with [`KvParams::prefix`], `limit`, `cursor` and `values` as wanted.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn page(&self, params: KvParams) -> Result<KvPage, KvError> {
        self.call(OwnMethod::KvList, params).await
    }

    /// All pages. The quota bounds them.
    async fn all(&self, prefix: &str, values: bool) -> Result<Vec<KvEntry>, KvError> {
        let mut entries = Vec::new();
        let mut cursor = None;
        loop {
            let prefix = Some(prefix.to_owned());
            let params = KvParams { prefix, values: Some(values), cursor, ..KvParams::default() };
            let page = self.page(params).await?;
            entries.extend(page.entries);
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(entries),
            }
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: OwnMethod,
        key: &str,
        params: KvParams,
    ) -> Result<T, KvError> {
        let asked = self.call(method, KvParams { key: Some(key.to_owned()), ..params }).await;
        asked.map_err(|error| match error {
            KvError::Host(PlatformError::Refused { error, .. }) if error.code == ErrorCode::Conflict => {
                KvError::Conflict { key: key.to_owned(), current: error.revision.unwrap_or_default() }
            }
            other => other,
        })
    }

    async fn call<T: DeserializeOwned>(&self, method: OwnMethod, params: KvParams) -> Result<T, KvError> {
        let bad = |error: serde_json::Error| PlatformError::BadAnswer {
            method: method.as_str().to_owned(),
            reason: error.to_string(),
        };
        let params = serde_json::to_value(params).map_err(bad)?;
        match self.platform.call(method.as_str(), params).await {
            Ok(answer) => Ok(serde_json::from_value(answer).map_err(bad)?),
            Err(PlatformError::Refused { error, .. }) if error.code == ErrorCode::QuotaExceeded => {
                Err(KvError::QuotaExceeded(error.message))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn typed<T: DeserializeOwned>(entry: KvEntry) -> Result<Entry<T>, KvError> {
    let value = serde_json::from_value(entry.value.unwrap_or(Value::Null));
    let value = value.map_err(|error| KvError::Type { key: entry.key, reason: error.to_string() })?;
    Ok(Entry { value, revision: entry.revision, expires_at: entry.expires_at })
}
