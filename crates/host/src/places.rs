//! Places on disk: which directory holds what, who may enter it, and that only one host works there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

use crate::config::HostConfig;
use crate::database::RELAY_SOCKET;
use crate::egress::EGRESS_SOCKET;

/// Most bytes of a socket's path: the kernel's field has 108, the last one is a zero.
const MAX_SOCKET_PATH: usize = 107;

/// Directory of plugins' data, below the state directory.
const DATA: &str = "data";

/// File name of a plugin's socket.
const SOCKET_NAME: &str = "plugin.sock";

/// Length of the directory name that stands for a plugin whose own name would make the socket's path too long.
const SHORT_NAME: usize = 16;

/// Length of the longest file name in a plugin's directory for sockets.
const LONGEST_SOCKET_NAME: usize = RELAY_SOCKET.len();
const _: () = assert!(LONGEST_SOCKET_NAME >= EGRESS_SOCKET.len(), "the longest is the longest");
const _: () = assert!(LONGEST_SOCKET_NAME >= SOCKET_NAME.len(), "the longest is the longest");

/// Longest directory for sockets, in bytes: what remains of a socket's path below it always fits.
pub const MAX_RUN_DIR: usize = MAX_SOCKET_PATH - SHORT_NAME - LONGEST_SOCKET_NAME - 2;

/// Why the places cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A directory could not be made or read.
    #[error(
        "{path} cannot be used: {source}; create it for the user that runs the host, or choose another place"
    )]
    Unusable {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody else could change what is in a directory.
    #[error(
        "{path} belongs to or can be written by somebody else; run `chown {uid} {path}` and `chmod go-w {path}`"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The user that runs the host.
        uid: u32,
    },
    /// Another host works there.
    #[error("another host{} works with {path}; stop it first, or use another state_dir", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Taken {
        /// The directory.
        path: PathBuf,
        /// Process id of the other host, if it could be read.
        pid: Option<u32>,
    },
    /// Sockets in this directory would have paths that the kernel does not take.
    #[error(
        "run_dir {path} has {length} bytes; at most {max} leave room for a socket's path, choose a shorter one"
    )]
    TooLong {
        /// The directory.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// Most bytes.
        max: usize,
    },
}

/// The directories of one host, held for it alone as long as this lives.
#[derive(Debug)]
pub struct Places {
    state_dir: PathBuf,
    run_dir: PathBuf,
    locks: [File; 2],
}

impl Places {
    /// Makes and checks the directories and takes them for this host.
    ///
    /// # Errors
    /// [`PlaceError`] says which place cannot be used and what to do.
    pub fn take(config: &HostConfig) -> Result<Self, PlaceError> {
        let length = config.run_dir.as_os_str().len();
        let max = MAX_RUN_DIR;
        if length > max {
            return Err(PlaceError::TooLong { path: config.run_dir.clone(), length, max });
        }
        for directory in [&config.state_dir, &config.run_dir] {
            make_private(directory).map_err(|source| unusable(directory, source))?;
            check_ours(directory)?;
        }
        // A plugins directory that cannot be made is not fatal: it may appear later, and is looked for again and again.
        if let Some(first) = config.plugins_dirs.first()
            && let Err(error) = make_private(first)
        {
            tracing::warn!(path = %first.display(), %error, "the plugins directory cannot be made");
        }
        let locks = [lock(&config.state_dir)?, lock(&config.run_dir)?];
        let places = Self { state_dir: config.state_dir.clone(), run_dir: config.run_dir.clone(), locks };
        for directory in [places.data_root(), places.logs_root(), places.artifacts()] {
            make_private(&directory).map_err(|source| unusable(&directory, source))?;
        }
        places.sweep_run_dir();
        Ok(places)
    }

    /// Lets another host take the places, though this value lives on.
    pub fn release(&self) {
        for lock in &self.locks {
            // Closing the file does the same later.
            let _ = rustix::fs::flock(lock, FlockOperation::Unlock);
        }
    }

    /// Where the programs that the host runs are kept.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.state_dir.join("artifacts")
    }

    /// The files beside the audit trail: its key, and where its chain stood.
    #[must_use]
    pub fn trail(&self) -> crate::audit::TrailFiles {
        crate::audit::TrailFiles::of(&self.state_dir)
    }

    /// The key that secrets of plugins' configuration are sealed with.
    #[must_use]
    pub fn config_key(&self) -> PathBuf {
        self.state_dir.join("config.key")
    }

    /// Where a plugin's log files are.
    #[must_use]
    pub fn logs(&self, plugin: &str) -> PathBuf {
        self.logs_root().join(plugin)
    }

    /// A plugin's data directory, made when it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn data(&self, plugin: &str) -> std::io::Result<PathBuf> {
        let directory = self.data_path(plugin);
        make_private(&directory)?;
        Ok(directory)
    }

    /// Where a plugin's data directory is, or will be.
    pub(crate) fn data_path(&self, plugin: &str) -> PathBuf {
        self.data_root().join(plugin)
    }

    /// A fresh directory for a plugin's temporary files; what an earlier start left there is gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn temporary(&self, plugin: &str) -> std::io::Result<PathBuf> {
        let directory = self.state_dir.join("tmp").join(plugin);
        remove_tree(&directory)?;
        make_private(&directory)?;
        Ok(directory)
    }

    /// The path for a plugin's socket, in a fresh directory that only we can enter; an earlier socket is gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn socket(&self, plugin: &str) -> std::io::Result<PathBuf> {
        let directory = self.run_dir.join(self.short_name(plugin));
        remove_tree(&directory)?;
        make_private(&directory)?;
        Ok(directory.join(SOCKET_NAME))
    }

    /// A fresh directory for a short use, below the run directory.
    ///
    /// # Errors
    /// What the system says.
    pub fn scratch(&self, label: u64) -> std::io::Result<PathBuf> {
        // A dot keeps it apart from every plugin's name.
        let directory = self.run_dir.join(format!(".look-{label}"));
        remove_tree(&directory)?;
        make_private(&directory)?;
        Ok(directory)
    }

    fn data_root(&self) -> PathBuf {
        self.state_dir.join(DATA)
    }

    /// Where the data of a host's plugins is, or will be.
    pub(crate) fn data_root_of(config: &HostConfig) -> PathBuf {
        config.state_dir.join(DATA)
    }

    fn logs_root(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    fn short_name(&self, plugin: &str) -> String {
        let full = self.run_dir.as_os_str().len() + plugin.len() + LONGEST_SOCKET_NAME + 2;
        if full <= MAX_SOCKET_PATH {
            return plugin.to_owned();
        }
        let mut name = hex(&Sha256::digest(plugin.as_bytes()));
        name.truncate(SHORT_NAME);
        name
    }

    /// Removes sockets and scratch directories of a host that was killed.
    fn sweep_run_dir(&self) {
        let Ok(entries) = std::fs::read_dir(&self.run_dir) else { return };
        for entry in entries.flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && let Err(error) = remove_tree(&entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "a left-over directory stays");
            }
        }
    }
}

/// Makes a directory that only its owner can enter, with its parents; one that is there stays as it is.
///
/// # Errors
/// What the system says.
pub(crate) fn make_private(directory: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Removes a directory with everything in it; one that is not there is fine.
pub(crate) fn remove_tree(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unusable(path: &Path, source: std::io::Error) -> PlaceError {
    PlaceError::Unusable { path: path.to_owned(), source }
}

fn check_ours(directory: &Path) -> Result<(), PlaceError> {
    let meta = std::fs::metadata(directory).map_err(|source| unusable(directory, source))?;
    let uid = rustix::process::geteuid().as_raw();
    if meta.uid() != uid || meta.mode() & 0o022 != 0 {
        return Err(PlaceError::Foreign { path: directory.to_owned(), uid });
    }
    Ok(())
}

/// Takes a directory for this process until the file is closed; the kernel lets go of it when the process dies.
fn lock(directory: &Path) -> Result<File, PlaceError> {
    let path = directory.join("host.lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.map_err(|source| unusable(&path, source))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut text = String::new();
        // Without the other's process id the message is shorter, no more.
        let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut text);
        return Err(PlaceError::Taken { path: directory.to_owned(), pid: text.trim().parse().ok() });
    }
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|source| unusable(&path, source))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn config(root: &Path) -> HostConfig {
        HostConfig::for_places(root.join("plugins"), root.join("state"), root.join("run"))
    }

    #[test]
    fn a_second_host_is_refused_with_the_first_ones_process_id() {
        let root = tempfile::tempdir().unwrap();
        let first = Places::take(&config(root.path())).unwrap();
        let error = Places::take(&config(root.path())).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Places::take(&config(root.path())).unwrap();
    }

    #[test]
    fn places_are_private_and_left_overs_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let stale = root.path().join("run/hello");
        make_private(&stale).unwrap();
        std::fs::write(stale.join(SOCKET_NAME), "").unwrap();
        let places = Places::take(&config(root.path())).unwrap();
        assert!(!stale.exists());
        for path in [places.data("hello").unwrap(), root.path().join("run"), places.artifacts()] {
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = Places::take(&config(root.path())).unwrap_err();
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }

    #[test]
    fn a_socket_path_always_fits_or_the_host_does_not_start() {
        let root = tempfile::tempdir().unwrap();
        let mut config = config(root.path());
        config.run_dir = root.path().join("r".repeat(40));
        let places = Places::take(&config).unwrap();
        let long = "a".repeat(63);
        let socket = places.socket(&long).unwrap();
        assert!(socket.with_file_name(RELAY_SOCKET).as_os_str().len() <= MAX_SOCKET_PATH);
        assert_ne!(socket, places.socket(&"b".repeat(63)).unwrap());
        drop(places);
        config.run_dir = root.path().join("r".repeat(90));
        assert!(matches!(Places::take(&config), Err(PlaceError::TooLong { .. })));
    }
}
