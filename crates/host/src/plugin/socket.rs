//! Connecting to a plugin's socket: to a socket and nothing else, and only to a process of this plugin.
//!
//! A plugin owns the directory that its socket lies in, so it can put anything there: a link to another plugin's socket, to a
//! database's, a file. Whoever sends a secret over the connection must know that it goes to the plugin it belongs to.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

/// Time between two tries while the plugin's queue of connections is full. The kernel has no way to be told when it is not.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Why there is no connection to a plugin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is nothing at the socket's path.
    #[error("{0} does not exist; the plugin has not bound its socket, or has removed it")]
    Missing(PathBuf),
    /// Something else than a socket lies at the socket's path.
    #[error("{path} is {found} and not a socket; it is not followed")]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What lies there.
        found: &'static str,
    },
    /// Nobody listens.
    #[error("nobody listens on {0}")]
    Refused(PathBuf),
    /// The plugin does not accept connections fast enough.
    #[error("the plugin took no connection on {path} within {} ms", within.as_millis())]
    Full {
        /// The path.
        path: PathBuf,
        /// How long was tried.
        within: Duration,
    },
    /// The socket belongs to a process that is no process of the plugin.
    #[error(
        "{path} was opened by process {pid}, which is not a process of this plugin (any more); nothing was sent"
    )]
    Stranger {
        /// The path.
        path: PathBuf,
        /// The process; 0 when the system does not tell.
        pid: i32,
    },
    /// The system failed.
    #[error("connecting to {path} failed: {source}")]
    System {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::Missing(_) => io::ErrorKind::NotFound,
            ConnectError::NotASocket { .. } | ConnectError::Stranger { .. } => {
                io::ErrorKind::PermissionDenied
            }
            ConnectError::Refused(_) => io::ErrorKind::ConnectionRefused,
            ConnectError::Full { .. } => io::ErrorKind::TimedOut,
            ConnectError::System { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// Connects to the socket at `path`, following no link, and makes sure that a process below `launcher` listens there.
///
/// The check is made for every connection: a plugin may put another socket in the place at any time. It costs a few
/// system calls (some 25 µs, unoptimised), and connections are kept for many requests.
///
/// # Errors
/// [`ConnectError`]. [`ConnectError::Full`] once `within` has passed.
pub async fn connect(path: &Path, launcher: u32, within: Duration) -> Result<UnixStream, ConnectError> {
    let failed = |source: io::Error| ConnectError::System { path: path.to_owned(), source };
    let held = hold(path)?;
    // The kernel's link leads to exactly what was looked at, whatever lies at the path by now.
    let checked = format!("/proc/self/fd/{}", held.as_raw_fd());
    let deadline = Instant::now() + within;
    let full = || ConnectError::Full { path: path.to_owned(), within };
    let stream = loop {
        match timeout_at(deadline, UnixStream::connect(&checked)).await {
            Ok(Ok(stream)) => break stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() + FULL_PAUSE > deadline {
                    return Err(full());
                }
                sleep(FULL_PAUSE).await;
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(ConnectError::Refused(path.to_owned()));
            }
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => return Err(full()),
        }
    };
    let listener = stream.peer_cred().map_err(failed)?.pid().unwrap_or_default();
    let known = u32::try_from(listener).is_ok_and(|pid| pid != 0 && temps_sandbox::contains(launcher, pid));
    if known { Ok(stream) } else { Err(ConnectError::Stranger { path: path.to_owned(), pid: listener }) }
}

/// Takes hold of what lies at the path, without following a link at its end or at its directory.
fn hold(path: &Path) -> Result<std::os::fd::OwnedFd, ConnectError> {
    let failed = |errno: rustix::io::Errno| match errno {
        rustix::io::Errno::NOENT => ConnectError::Missing(path.to_owned()),
        errno => ConnectError::System { path: path.to_owned(), source: errno.into() },
    };
    let invalid = || failed(rustix::io::Errno::INVAL);
    let directory = path.parent().ok_or_else(invalid)?;
    let name = path.file_name().ok_or_else(invalid)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory =
        rustix::fs::openat(CWD, directory, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    let held = rustix::fs::openat(&directory, name, flags, Mode::empty()).map_err(failed)?;
    let found = match FileType::from_raw_mode(rustix::fs::fstat(&held).map_err(failed)?.st_mode) {
        FileType::Socket => return Ok(held),
        FileType::Symlink => "a link",
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Fifo => "a pipe",
        _ => "something else",
    };
    Err(ConnectError::NotASocket { path: path.to_owned(), found })
}
