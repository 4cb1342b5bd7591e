//! A database of its own for each plugin that needs one: a SQLite file, or a database on the operator's PostgreSQL server.
//!
//! A SQLite file lies in the plugin's data directory. A database on a server is reached through a [`Relay`], so that neither
//! a credential nor a way to the server is given to the plugin. The role's password is made anew at each start of the host
//! and kept in memory only; what the server needs to check it is not the password. A build without feature `postgres` has files
//! only, and says so to whoever wants more. SQL is not spoken here.

mod address;
#[cfg(feature = "postgres")]
mod login;
#[cfg(feature = "postgres")]
mod on_server;
#[cfg(feature = "postgres")]
mod relay;
#[cfg(feature = "postgres")]
mod session;
mod settings;
#[cfg(feature = "postgres")]
mod startup;
#[cfg(feature = "postgres")]
mod traffic;
#[cfg(not(feature = "postgres"))]
mod without_server;

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(crate) use self::address::RELAY_SOCKET;
pub use self::address::{DATABASE_URL, SQLITE_FILE};
#[cfg(feature = "postgres")]
pub use self::on_server::server_version;
pub use self::settings::DatabaseSettings;
#[cfg(not(feature = "postgres"))]
pub use self::without_server::server_version;
#[cfg(not(feature = "postgres"))]
pub(crate) use self::without_server::{Databases, Relay};
#[cfg(feature = "postgres")]
pub(crate) use self::{on_server::Databases, relay::Relay};

/// Which database a plugin has, as it was last seen. Never a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseView {
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// The file, or the database's name and the server's place.
    pub place: String,
    /// Whether it can be reached; `None` while that was not tried.
    pub reachable: Option<bool>,
    /// Why not.
    pub reason: Option<String>,
}

impl DatabaseView {
    /// A plugin's own file, which its first start makes.
    fn of_file(data: &Path) -> Self {
        let file = data.join(SQLITE_FILE);
        let reachable = file.is_file().then_some(true);
        Self { engine: "sqlite", place: file.display().to_string(), reachable, reason: None }
    }
}

/// Makes a plugin's SQLite file, readable by nobody else, and returns its URL. One that is there stays as it is.
///
/// # Errors
/// What the system says.
pub(crate) fn sqlite(data: &Path) -> std::io::Result<String> {
    let file: PathBuf = data.join(SQLITE_FILE);
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(address::sqlite_url(&file)),
    }
}

/// The URL of the relay whose socket lies in `directory`.
pub(crate) fn relay_url(plugin: &str, directory: &Path) -> String {
    address::relay_url(plugin, directory)
}
