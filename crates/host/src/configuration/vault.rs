//! The vault: seals secrets of plugins' configuration with a key that stands in a file beside the database, never in it.
//!
//! XChaCha20-Poly1305 with a random nonce. What is sealed is bound to its node, plugin and setting, so that a sealed text that
//! was moved to another place does not open there.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// Bytes of a nonce: enough for random ones.
const NONCE_BYTES: usize = 24;

/// Bytes that name a key, so that a wrong one can be told from a damaged text.
const KEY_ID_BYTES: usize = 8;

/// The form of what is sealed: this byte, the key's name, the nonce, the sealed text.
const FORM: u8 = 1;

/// What the key's file begins with.
const PREFIX: &str = "temps-config-key-1:";

/// Most bytes that are read of the key's file.
const MAX_FILE_BYTES: u64 = 1024;

/// Why a secret cannot be sealed or opened. Never holds one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The key's file is not there, and something was sealed with it.
    #[error(
        "{path} is missing, the key that secrets of plugins were sealed with; put it back from a backup, or set the secret anew with `temps plugin config set`"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file has another key.
    #[error(
        "the key in {path} is not the one that the secret was sealed with; put the right file back and restart the host, or set the secret anew with `temps plugin config set`"
    )]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
    /// The file is no key.
    #[error(
        "{path} is no key file of this program; put it back from a backup, or move it away and set the secrets anew"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the key.
    #[error(
        "{path} can be read by others; run `chmod 600 {path}`, and set the secrets anew if somebody may have read it"
    )]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("the key file {path} cannot be used: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// What was sealed was changed, or moved to another place.
    #[error(
        "what was sealed was changed, or belongs to another setting; set the secret anew with `temps plugin config set`"
    )]
    Damaged,
    /// The system gives no randomness.
    #[error("the system gave no randomness")]
    NoRandomness,
}

/// Where a secret belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) node: &'a str,
    pub(crate) plugin: &'a str,
    pub(crate) setting: &'a str,
}

impl Place<'_> {
    /// Its parts have no zero in them, so different places are different bytes.
    fn bytes(&self) -> Vec<u8> {
        [self.node, self.plugin, self.setting].join("\0").into_bytes()
    }
}

/// Seals and opens. The key is read when it is first needed, and made by the first secret.
pub(crate) struct Vault {
    path: PathBuf,
    key: Mutex<Option<Key>>,
}

#[derive(Clone)]
struct Key {
    cipher: XChaCha20Poly1305,
    id: [u8; KEY_ID_BYTES],
}

impl Vault {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, key: Mutex::new(None) }
    }

    /// Seals a text; the answer is base64.
    pub(crate) fn seal(&self, place: Place<'_>, text: &str) -> Result<String, VaultError> {
        let key = match self.key() {
            Err(VaultError::Missing { .. }) => self.make()?,
            key => key?,
        };
        let mut nonce = [0u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| VaultError::NoRandomness)?;
        let payload = Payload { msg: text.as_bytes(), aad: &place.bytes() };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::Damaged)?;
        Ok(BASE64.encode([&[FORM][..], &key.id, &nonce, &sealed].concat()))
    }

    /// Opens what was sealed for this place.
    pub(crate) fn open(&self, place: Place<'_>, sealed: &str) -> Result<String, VaultError> {
        let bytes = BASE64.decode(sealed).map_err(|_| VaultError::Damaged)?;
        let Some((&FORM, rest)) = bytes.split_first() else { return Err(VaultError::Damaged) };
        let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(VaultError::Damaged)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(VaultError::Damaged)?;
        let key = self.key()?;
        if key.id != *id {
            return Err(VaultError::WrongKey { path: self.path.clone() });
        }
        let payload = Payload { msg: sealed, aad: &place.bytes() };
        let text = key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| VaultError::Damaged)?;
        String::from_utf8(text).map_err(|_| VaultError::Damaged)
    }

    fn key(&self) -> Result<Key, VaultError> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &*known {
            return Ok(key.clone());
        }
        let key = self.read()?;
        Ok(known.insert(key).clone())
    }

    fn read(&self) -> Result<Key, VaultError> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(VaultError::Missing { path: self.path.clone() });
            }
            file => file.map_err(|error| self.failed(&error))?,
        };
        let mode = file.metadata().map_err(|error| self.failed(&error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(VaultError::Open { path: self.path.clone() });
        }
        let mut text = String::new();
        let no_key = || VaultError::NoKey { path: self.path.clone() };
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|_| no_key())?;
        let encoded = text.trim_end().strip_prefix(PREFIX).ok_or_else(no_key)?;
        let bytes = BASE64.decode(encoded).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        bytes.map(Key::new).ok_or_else(no_key)
    }

    /// Makes the key's file: whole and durable before anything is sealed with it, and never in place of another.
    fn make(&self) -> Result<Key, VaultError> {
        let mut bytes = [0u8; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| VaultError::NoRandomness)?;
        let draft = self.path.with_extension("new");
        let written = (|| {
            let _ = std::fs::remove_file(&draft);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            writeln!(file, "{PREFIX}{}", BASE64.encode(bytes))?;
            file.sync_all()?;
            std::fs::hard_link(&draft, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
        })();
        let _ = std::fs::remove_file(&draft);
        match written {
            // Somebody was faster, and theirs counts.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| self.failed(&error))?,
        }
        self.key()
    }

    fn failed(&self, error: &std::io::Error) -> VaultError {
        VaultError::File { path: self.path.clone(), reason: error.to_string() }
    }
}

impl Key {
    fn new(bytes: [u8; KEY_BYTES]) -> Self {
        let digest = Sha256::digest([b"temps config key id".as_slice(), &bytes].concat());
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Self { cipher: XChaCha20Poly1305::new(&bytes.into()), id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'_> = Place { node: "local", plugin: "a", setting: "token" };

    fn vault(dir: &tempfile::TempDir) -> Vault {
        Vault::at(dir.path().join("config.key"))
    }

    #[test]
    fn what_was_sealed_opens_after_a_restart_and_two_sealings_differ() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = vault(&dir).seal(HERE, "s3cret ü").unwrap();
        assert_ne!(sealed, vault(&dir).seal(HERE, "s3cret ü").unwrap());
        assert!(!BASE64.decode(&sealed).unwrap().windows(6).any(|part| part == b"s3cret"));
        assert_eq!(vault(&dir).open(HERE, &sealed).unwrap(), "s3cret ü");
        let mode = std::fs::metadata(dir.path().join("config.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays");
    }

    #[test]
    fn a_sealed_text_opens_at_its_own_place_only_and_a_changed_one_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(&dir);
        let sealed = vault.seal(HERE, "s3cret").unwrap();
        for elsewhere in [
            Place { node: "other", ..HERE },
            Place { plugin: "b", ..HERE },
            Place { setting: "other", ..HERE },
            Place { plugin: "a\0token", setting: "", ..HERE },
        ] {
            assert_eq!(vault.open(elsewhere, &sealed), Err(VaultError::Damaged), "{elsewhere:?}");
        }
        let bytes = BASE64.decode(&sealed).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(vault.open(HERE, &BASE64.encode(&changed)).is_err(), "byte {at}");
        }
        assert_eq!(vault.open(HERE, "AQ=="), Err(VaultError::Damaged));
    }

    #[test]
    fn a_lost_a_wrong_an_open_and_a_broken_key_file_are_told_apart_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.key");
        let sealed = vault(&dir).seal(HERE, "s3cret").unwrap();
        let key = std::fs::read(&path).unwrap();
        let open = || vault(&dir).open(HERE, &sealed).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(), VaultError::Missing { .. }));
        vault(&dir).seal(HERE, "another").unwrap();
        assert!(matches!(open(), VaultError::WrongKey { .. }));
        std::fs::write(&path, "nonsense").unwrap();
        assert!(matches!(open(), VaultError::NoKey { .. }));
        assert!(
            matches!(vault(&dir).seal(HERE, "x"), Err(VaultError::NoKey { .. })),
            "nothing is written over"
        );
        std::fs::write(&path, &key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(), VaultError::Open { .. }));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(vault(&dir).open(HERE, &sealed).unwrap(), "s3cret");
        for error in [VaultError::Missing { path: path.clone() }, VaultError::WrongKey { path }] {
            assert!(error.to_string().contains("temps plugin config set"), "{error}");
        }
    }
}
