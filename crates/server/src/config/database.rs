//! Where the database is, and this host's name on one that several hosts share.
//!
//! The address may hold a password. It comes from the settings' file, from the environment, or from a file of its own
//! that nobody else may read; never from the command line, which others on the machine can read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use temps_store::DatabaseAddress;

/// Longest file with an address in bytes.
const MAX_FILE_BYTES: u64 = 4096;

/// Longest name of a node in bytes.
const MAX_NODE_LEN: usize = 63;

/// Where the system keeps this machine's name.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Reads an address. The message does not repeat it, because it may hold a password.
pub(super) fn parse_address(text: &str) -> Result<DatabaseAddress, String> {
    text.trim().parse().map_err(|error: temps_store::AddressError| error.to_string())
}

/// Reads an address from a file of its own, which only its owner may read.
pub(super) fn read_address(file: &Path) -> Result<DatabaseAddress, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", file.display());
    let found = std::fs::metadata(file).map_err(unreadable)?;
    if found.len() > MAX_FILE_BYTES {
        return Err(format!("{} is longer than 4 KiB; it holds one URL", file.display()));
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err(format!("others may read {0}; run chmod 600 {0}", file.display()));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    parse_address(&text).map_err(|message| format!("the address in {}: {message}", file.display()))
}

/// Checks a node's name.
pub(super) fn parse_node(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.is_empty() || text.len() > MAX_NODE_LEN || !text.bytes().all(fits) {
        return Err(format!(
            "{text:?} is not a name of 1 to {MAX_NODE_LEN} letters, digits, dots, dashes or underscores"
        ));
    }
    Ok(text.to_owned())
}

/// This machine's name, as far as it can be a node's.
pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string(HOST_NAME_FILE).unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .take(MAX_NODE_LEN)
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' })
        .collect();
    if name.is_empty() { "temps".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_password_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("database-url");
        std::fs::write(&file, "postgres://temps:hunter2@db/temps\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = read_address(&file).unwrap_err();
        assert!(refused.contains("chmod 600") && !refused.contains("hunter2"), "{refused}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_address(&file).unwrap().to_string(), "postgres://temps:***@db/temps");
        std::fs::write(&file, "mysql://temps:hunter2@db/temps\n").unwrap();
        let refused = read_address(&file).unwrap_err();
        assert!(refused.contains("postgres://") && !refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn this_machines_name_can_be_a_nodes() {
        assert!(parse_node(&host_name()).is_ok());
        assert!(parse_node("eu-1.example_a").is_ok());
        assert!(
            parse_node("").is_err() && parse_node("a b").is_err() && parse_node(&"a".repeat(64)).is_err()
        );
    }
}
