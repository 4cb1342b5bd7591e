//! The key of the audit chain: 256 bits in a file of the state directory that only its owner can read, and the seals that
//! are made with it. The key never enters the database, a log or an error.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hmac::digest::Key;
use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use temps_store::{Mac, Seal, Sealing};

use crate::places::hex;

/// Bytes of the key: as many as the digest has.
const KEY_BYTES: usize = 32;

/// Hexadecimal digits of a key's name; enough that two keys never share one by chance.
const NAME_DIGITS: usize = 16;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("the key of the audit chain, {path}, cannot be used: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file does not hold a key.
    #[error(
        "{path} does not hold 64 hexadecimal digits and a newline; restore it from a backup. If it is lost, move it away: \
         a new key is made, and what was sealed with the old one cannot be verified any more"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system has no randomness to give.
    #[error("no key for the audit chain could be made: {0}")]
    NoRandomness(getrandom::Error),
}

/// Seals with HMAC-SHA256.
pub(super) struct KeySeal {
    state: Hmac<Sha256>,
    name: String,
}

impl std::fmt::Debug for KeySeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeySeal").field(&self.name).finish()
    }
}

impl KeySeal {
    /// The key in a file; made when there is none.
    ///
    /// # Errors
    /// [`KeyError`]. A file that is there is never replaced.
    pub(super) fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; KEY_BYTES];
                getrandom::fill(&mut key).map_err(KeyError::NoRandomness)?;
                write(path, &hex(&key)).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
                Ok(Self::new(&key))
            }
            other => other,
        }
    }

    /// The key in a file.
    ///
    /// # Errors
    /// [`KeyError`], also when there is no file.
    pub(super) fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        // A copy that was restored may have lost its mode.
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        let key =
            Mac::from_hex(text.trim_end()).ok_or_else(|| KeyError::Damaged { path: path.to_owned() })?;
        Ok(Self::new(&key.0))
    }

    fn new(key: &[u8; KEY_BYTES]) -> Self {
        // The algorithm takes a whole block, and fills a shorter key up with zeros.
        let mut block = Key::<Hmac<Sha256>>::default();
        block[..KEY_BYTES].copy_from_slice(key);
        let state = Hmac::<Sha256>::new(&block);
        let mut name = Box::new(KeySealing(state.clone()));
        name.feed(b"temps audit key name 1\n");
        let mut name = name.finish().to_hex();
        name.truncate(NAME_DIGITS);
        Self { state, name }
    }
}

/// Puts the key where it belongs, whole or not at all.
fn write(path: &Path, key: &str) -> std::io::Result<()> {
    let half = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    std::fs::rename(&half, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

struct KeySealing(Hmac<Sha256>);

impl Sealing for KeySealing {
    fn feed(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> Mac {
        Mac(self.0.finalize().into_bytes().into())
    }
}

impl Seal for KeySeal {
    fn key_id(&self) -> &str {
        &self.name
    }

    fn begin(&self) -> Box<dyn Sealing> {
        Box::new(KeySealing(self.state.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        assert!(matches!(KeySeal::load(&path), Err(KeyError::File { .. })));
        let made = KeySeal::load_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = KeySeal::load_or_make(&path).unwrap();
        assert_eq!(made.key_id(), again.key_id());
        let key = std::fs::read_to_string(&path).unwrap();
        assert!(!format!("{made:?}").contains(key.trim()) && !key.contains(made.key_id()));
        let other = KeySeal::load_or_make(&dir.path().join("other.key")).unwrap();
        assert_ne!(made.key_id(), other.key_id());
        assert_ne!(made.begin().finish(), other.begin().finish());
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        std::fs::write(&path, "abc\n").unwrap();
        let error = KeySeal::load_or_make(&path).unwrap_err().to_string();
        assert!(error.contains("restore it") && !error.contains("abc"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc\n");
    }

    #[test]
    fn the_seal_is_hmac_sha256() {
        // The known answer of RFC 4231, test case 2, padded by the algorithm itself to the same key.
        let mut key = [0; KEY_BYTES];
        key[..4].copy_from_slice(b"Jefe");
        let mut sealing = KeySeal::new(&key).begin();
        sealing.feed(b"what do ya want ");
        sealing.feed(b"for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(sealing.finish().to_hex(), expected);
    }
}
