//! The URLs under which a plugin finds its database, in the form that most drivers take. Pure.

use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::places::hex;

/// The variable that tells a plugin where its database is.
pub const DATABASE_URL: &str = "TEMPS_DATABASE_URL";

/// The SQLite file in a plugin's data directory.
pub const SQLITE_FILE: &str = "plugin.db";

/// What PostgreSQL's clients look for in a directory that they are given as host.
pub(crate) const RELAY_SOCKET: &str = ".s.PGSQL.5432";

/// Longest name on the server, in bytes; it cuts longer ones off without a word.
const MAX_NAME: usize = 63;

/// Hexadecimal digits that tell long names apart.
const DIGEST: usize = 16;

/// Four slashes: some drivers take three for a relative path, and whoever takes only `sqlite://` away reads `//` as `/`.
pub(super) fn sqlite_url(file: &Path) -> String {
    format!("sqlite:///{}", escaped(&file.to_string_lossy()))
}

/// The user stands behind the question mark, because `user@/` is no URL to some readers.
pub(super) fn relay_url(plugin: &str, directory: &Path) -> String {
    let (plugin, directory) = (escaped(plugin), escaped(&directory.to_string_lossy()));
    format!("postgresql:///{plugin}?user={plugin}&host={directory}")
}

/// The name of a plugin's database and role on the server.
pub(super) fn server_name(prefix: &str, plugin: &str) -> String {
    let name = format!("{prefix}{plugin}");
    if name.len() <= MAX_NAME {
        return name;
    }
    let mut digest = hex(&Sha256::digest(plugin.as_bytes()));
    digest.truncate(DIGEST);
    // A prefix is ASCII and short; see `DatabaseSettings::check`.
    let kept: String = name.chars().take(MAX_NAME - DIGEST - 1).collect();
    format!("{kept}_{digest}")
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
    use proptest::prelude::*;

    #[test]
    fn urls_are_absolute_and_escaped() {
        assert_eq!(sqlite_url(Path::new("/var/a b/plugin.db")), "sqlite:////var/a%20b/plugin.db");
        assert_eq!(
            relay_url("hello", Path::new("/run/temps/he?llo")),
            "postgresql:///hello?user=hello&host=/run/temps/he%3Fllo"
        );
    }

    proptest! {
        #[test]
        fn different_plugins_have_different_names_that_fit(
            a in "[a-z][a-z0-9-]{0,62}", b in "[a-z][a-z0-9-]{0,62}", prefix in "[a-z_]{1,20}",
        ) {
            let (left, right) = (server_name(&prefix, &a), server_name(&prefix, &b));
            prop_assert!(left.len() <= MAX_NAME);
            prop_assert_eq!(left == right, a == b);
        }
    }
}
