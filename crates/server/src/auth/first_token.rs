//! The first admin token: a file that only its owner may read, so that whoever runs the daemon can use it at once.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chrono::Utc;
use temps_store::{PlatformStore, StoreError};

use super::{NoRandomness, TOKEN_PREFIX, fresh_secret, hash_of};

/// Name of the token whose secret stands in the file. On a database that hosts share, the host's node follows an `@`.
pub const ADMIN_TOKEN_NAME: &str = "admin";

/// Longest token file in bytes that is read.
const MAX_FILE_BYTES: u64 = 4096;

/// Why there is no admin token.
#[derive(Debug, thiserror::Error)]
pub enum FirstTokenError {
    /// The file cannot be read or written.
    #[error("cannot use {}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The operating system has no randomness to give.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sees to it that the file holds a token that is good. A file that is there is kept, so that it works with a new
/// database too; one that was removed is made anew, and the token called `name` that stood in it ends.
///
/// # Errors
/// [`FirstTokenError`].
pub async fn ensure_admin_token(
    store: &dyn PlatformStore,
    file: &Path,
    name: &str,
) -> Result<(), FirstTokenError> {
    let failed =
        |error: std::io::Error| FirstTokenError::File { file: file.into(), reason: error.to_string() };
    let secret = match read(file).map_err(failed)? {
        Some(secret) => secret,
        None => {
            let secret = fresh_secret(TOKEN_PREFIX)?;
            write(file, &secret).map_err(failed)?;
            secret
        }
    };
    if store.token_by_hash(hash_of(&secret)).await?.is_some() {
        return Ok(());
    }
    let mut after = 0;
    loop {
        let page = store.tokens(after, 100).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for token in page.iter().filter(|token| token.name == name) {
            store.delete_token(token.id).await?;
        }
    }
    store.create_token(name, true, hash_of(&secret), Utc::now(), None).await?;
    Ok(())
}

fn read(file: &Path) -> std::io::Result<Option<String>> {
    let found = match std::fs::symlink_metadata(file) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !found.is_file() || found.len() > MAX_FILE_BYTES {
        return Err(std::io::Error::other("it is not the token's file; remove it, and it is made anew"));
    }
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?;
    let text = std::fs::read_to_string(file)?.trim().to_owned();
    // An interrupted or emptied file must not make a token of nothing.
    Ok(Some(text).filter(|text| text.starts_with(TOKEN_PREFIX) && text.len() >= TOKEN_PREFIX.len() + 43))
}

/// Writes beside the file and renames, so that there is never half a token.
fn write(file: &Path, secret: &str) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut writer = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    writer.write_all(format!("{secret}\n").as_bytes())?;
    writer.sync_all()?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use temps_store::sqlite::SqliteStore;

    use super::*;

    #[tokio::test]
    async fn the_token_in_the_file_is_good_and_the_file_is_its_owners_only() {
        let dir = tempfile::tempdir().unwrap();
        let (store, file) =
            (SqliteStore::open(&dir.path().join("a.db")).unwrap(), dir.path().join("admin-token"));
        ensure_admin_token(&*store, &file, ADMIN_TOKEN_NAME).await.unwrap();
        let first = std::fs::read_to_string(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let token = store.token_by_hash(hash_of(first.trim())).await.unwrap().unwrap();
        assert!(token.admin);
        ensure_admin_token(&*store, &file, ADMIN_TOKEN_NAME).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), first, "a second start changes nothing");
    }

    #[tokio::test]
    async fn a_removed_or_emptied_file_is_made_anew_and_ends_the_old_token() {
        let dir = tempfile::tempdir().unwrap();
        let (store, file) =
            (SqliteStore::open(&dir.path().join("a.db")).unwrap(), dir.path().join("admin-token"));
        ensure_admin_token(&*store, &file, ADMIN_TOKEN_NAME).await.unwrap();
        let first = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, "").unwrap();
        ensure_admin_token(&*store, &file, ADMIN_TOKEN_NAME).await.unwrap();
        let second = std::fs::read_to_string(&file).unwrap();
        assert_ne!(first, second);
        assert!(store.token_by_hash(hash_of(first.trim())).await.unwrap().is_none());
        assert!(store.token_by_hash(hash_of(second.trim())).await.unwrap().is_some());
    }
}
