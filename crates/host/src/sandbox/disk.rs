//! How much disk a directory takes. The kernel keeps no account of it, so it is added up.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files and directories that are looked at; a plugin that has more is counted by those alone, which is said as unknown.
const MOST_ENTRIES: usize = 200_000;

/// Bytes of a block as the kernel counts them for files.
const BLOCK: u64 = 512;

/// Bytes that a directory takes with everything in it; `None` when it cannot be added up. Links are not followed. Blocks.
pub(crate) fn used_by(directory: &Path) -> Option<u64> {
    let mut open: Vec<PathBuf> = vec![directory.to_owned()];
    let (mut bytes, mut entries) = (0_u64, 0);
    while let Some(at) = open.pop() {
        // What goes away meanwhile takes nothing.
        let Ok(listing) = std::fs::read_dir(&at) else { continue };
        for entry in listing.flatten() {
            entries += 1;
            if entries > MOST_ENTRIES {
                return None;
            }
            let Ok(meta) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(meta.blocks() * BLOCK);
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    directory.is_dir().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_added_up_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("below")).unwrap();
        std::fs::write(root.path().join("below/file"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/usr", root.path().join("link")).unwrap();
        let used = used_by(root.path()).unwrap();
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
        assert_eq!(used_by(&root.path().join("none")), None);
    }
}
