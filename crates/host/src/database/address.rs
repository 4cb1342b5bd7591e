//! The URLs under which a plugin finds its database, in the form that most drivers take. Pure.

use std::fmt::Write;
use std::path::Path;

/// The variable that tells a plugin where its database is.
pub const DATABASE_URL: &str = "TEMPS_DATABASE_URL";

/// The SQLite file in a plugin's data directory.
pub const SQLITE_FILE: &str = "plugin.db";

/// What PostgreSQL's clients look for in a directory that they are given as host.
pub(crate) const RELAY_SOCKET: &str = ".s.PGSQL.5432";

/// Four slashes: some drivers take three for a relative path, and whoever takes only `sqlite://` away reads `//` as `/`.
pub(super) fn sqlite_url(file: &Path) -> String {
    format!("sqlite:///{}", escaped(&file.to_string_lossy()))
}

/// The user stands behind the question mark, because `user@/` is no URL to some readers.
pub(super) fn relay_url(plugin: &str, directory: &Path) -> String {
    let (plugin, directory) = (escaped(plugin), escaped(&directory.to_string_lossy()));
    format!("postgresql:///{plugin}?user={plugin}&host={directory}")
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_absolute_and_escaped() {
        assert_eq!(sqlite_url(Path::new("/var/a b/plugin.db")), "sqlite:////var/a%20b/plugin.db");
        assert_eq!(
            relay_url("hello", Path::new("/run/temps/he?llo")),
            "postgresql:///hello?user=hello&host=/run/temps/he%3Fllo"
        );
    }
}
