//! The unix socket that the plugin serves: how it comes to be, and how it goes.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// Connections that may wait to be accepted. A host opens a few dozen at once at most.
const BACKLOG: i32 = 128;

/// Mode of the socket file: only the user that the plugin runs as may connect.
const SOCKET_MODE: u32 = 0o600;

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("the socket path {path:?} cannot be used ({source}); it must be shorter than 108 bytes")]
    BadPath { path: PathBuf, source: io::Error },
    #[error(
        "{0:?} exists and is not a socket; nothing was removed. Choose another --socket-path or remove the file"
    )]
    NotASocket(PathBuf),
    #[error("another process serves {0:?}; stop it first or choose another --socket-path")]
    InUse(PathBuf),
    #[error(
        "the socket {path:?} cannot be made ({source}); does its directory exist, and may this user write there?"
    )]
    Io { path: PathBuf, source: io::Error },
}

/// The file of a socket that this process made. It is removed when this is dropped, unless another process has
/// put its own socket there since.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

/// Makes the socket and begins to listen. A file that a dead process left there is removed first.
///
/// # Errors
/// [`SocketError`] says what stands in the way.
pub(crate) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let address = SocketAddrUnix::new(path)
        .map_err(|e| SocketError::BadPath { path: path.to_owned(), source: e.into() })?;
    remove_stale(path)?;
    let failed = |source: io::Error| SocketError::Io { path: path.to_owned(), source };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|e| failed(e.into()))?;
    rustix::net::bind(&socket, &address).map_err(|e| failed(e.into()))?;
    let file = SocketFile { path: path.to_owned(), identity: identity_of(path) };
    // Nobody can connect before listen(), so there is no moment in which the socket is open to others.
    rustix::fs::chmod(path, Mode::from_raw_mode(SOCKET_MODE)).map_err(|e| failed(e.into()))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|e| failed(e.into()))?;
    let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
    Ok((listener, file))
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse(path.to_owned()));
    }
    std::fs::remove_file(path).map_err(|source| SocketError::Io { path: path.to_owned(), source })
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity_of(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn the_socket_is_private_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.sock");
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        drop((listener, file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_anything_else_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_listener, file) = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));

        let notes = directory.path().join("notes.txt");
        std::fs::write(&notes, "keep me").unwrap();
        assert!(matches!(bind(&notes), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&notes).unwrap(), "keep me");

        // Somebody else's socket at the same path stays when this one goes.
        std::fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_named() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        assert!(bind(&path).unwrap_err().to_string().contains("108"));
    }
}
