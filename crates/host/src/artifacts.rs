//! The content-addressed store of the programs that the host runs.
//!
//! A plugin never runs from the directory that it was dropped into: it is hashed while it is copied, from one open
//! descriptor per file, and kept under that hash. So what was inspected is what runs, whatever happens to the original. All of this blocks.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::discovery::{DIRECTORY_PROGRAM, Fingerprint, MAX_TREE_ENTRIES, look};
use crate::places::{hex, make_private, remove_tree};

/// Most bytes of one plugin, over all its files: beyond every known runtime with its dependencies.
pub const MAX_ARTIFACT_BYTES: u64 = 4 << 30;

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// Begins the name of what is not complete yet.
const INCOMPLETE: &str = ".incomplete-";

/// A program in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// SHA-256 in hexadecimal, of the file, or of the tree with its paths, kinds and modes.
    pub hash: String,
    /// The executable.
    pub program: PathBuf,
}

/// Why a plugin could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The disk is full; trying again later can help.
    #[error("there is no space left for a copy; free some space, it is tried again by itself")]
    Full,
    /// The original changed meanwhile; the change brings it back.
    #[error("it changed while it was being copied; it is taken up again once it is still")]
    Changed,
    /// It is too large.
    #[error("it has more than {} GiB", MAX_ARTIFACT_BYTES >> 30)]
    TooLarge,
    /// It could not be read or written.
    #[error("{path} could not be copied: {source}", path = path.display())]
    Io {
        /// Where it failed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ArtifactError {
    /// Whether trying again without a change of the file can help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, ArtifactError::Full | ArtifactError::Changed)
    }
}

/// The store, one directory per hash.
#[derive(Debug)]
pub struct ArtifactStore {
    root: PathBuf,
    counter: AtomicU64,
}

impl ArtifactStore {
    /// Opens the store and removes what a killed host left half-written.
    #[must_use]
    pub fn open(root: PathBuf) -> Self {
        let store = Self { root, counter: AtomicU64::new(0) };
        store.remove_where(|name| name.starts_with(INCOMPLETE));
        store
    }

    /// Copies a plugin that looked like `expected` into the store, unless its content is there already.
    ///
    /// # Errors
    /// [`ArtifactError`]; nothing half-written stays.
    pub fn take_up(&self, path: &Path, expected: Fingerprint) -> Result<Artifact, ArtifactError> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let incomplete = self.root.join(format!("{INCOMPLETE}{number}"));
        let taken = self.copy_and_keep(path, expected, &incomplete);
        if let Err(error) = remove_tree(&incomplete) {
            tracing::warn!(path = %incomplete.display(), %error, "an incomplete copy stays until the next start");
        }
        taken
    }

    /// Removes every artifact whose hash `in_use` does not know.
    pub fn sweep(&self, in_use: impl Fn(&str) -> bool) {
        self.remove_where(|name| !name.starts_with('.') && !in_use(name));
    }

    fn copy_and_keep(
        &self,
        path: &Path,
        expected: Fingerprint,
        incomplete: &Path,
    ) -> Result<Artifact, ArtifactError> {
        // Mostly the program is there from an earlier start of the host. Reading is cheap, writing it again is not.
        let mut hash = walk(path, None)?;
        let is_there = self.is_intact(&hash, path)?;
        if !is_there {
            make_private(incomplete).map_err(at(incomplete))?;
            // What counts is what was copied.
            hash = walk(path, Some(incomplete))?;
        }
        if look(path).is_none_or(|found| found.fingerprint != expected || found.refusal.is_some()) {
            return Err(ArtifactError::Changed);
        }
        let kept = self.root.join(&hash);
        if !is_there {
            self.keep(incomplete, &kept)?;
        }
        // A plugin reads its program as a user of its own; who else may come here the directory above decides.
        set_mode(&kept, 0o755)?;
        Ok(Artifact { program: kept.join(DIRECTORY_PROGRAM), hash })
    }

    /// Whether a kept program still has the content that its name says. A hash in a name proves nothing by itself.
    fn is_intact(&self, hash: &str, original: &Path) -> Result<bool, ArtifactError> {
        let kept = self.root.join(hash);
        let is_tree = std::fs::metadata(original).map_err(at(original))?.is_dir();
        let content = if is_tree { kept } else { kept.join(DIRECTORY_PROGRAM) };
        // What is not there, or cannot be read, is as good as changed.
        Ok(walk(&content, None).is_ok_and(|found| found == hash))
    }

    /// Gives a complete copy its final name, in the place of one that somebody changed.
    fn keep(&self, incomplete: &Path, kept: &Path) -> Result<(), ArtifactError> {
        if kept.exists() {
            tracing::warn!(path = %kept.display(), "a stored program was changed; it is replaced");
            remove_tree(kept).map_err(at(kept))?;
        }
        sync_directory(incomplete)?;
        std::fs::rename(incomplete, kept).map_err(at(kept))?;
        sync_directory(&self.root)
    }

    fn remove_where(&self, unwanted: impl Fn(&str) -> bool) {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_str().is_none_or(&unwanted)
                && let Err(error) = remove_tree(&entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "an unused artifact stays");
            }
        }
    }
}

/// The hash of a file or a tree, which is copied into the directory `to` at the same time, if there is one.
fn walk(path: &Path, to: Option<&Path>) -> Result<String, ArtifactError> {
    let mut walk = Walk { hasher: Sha256::new(), bytes: 0, entries: 0 };
    if std::fs::metadata(path).map_err(at(path))?.is_dir() {
        // A mark that no single file's content can imitate in front of its own bytes: trees and files hash apart.
        walk.hasher.update(b"temps-tree-1\0");
        walk.tree(path, to, Path::new(""))?;
    } else {
        let resolved = std::fs::canonicalize(path).map_err(at(path))?;
        walk.file(&resolved, to.map(|to| to.join(DIRECTORY_PROGRAM)).as_deref(), true)?;
    }
    Ok(hex(&walk.hasher.finalize()))
}

struct Walk {
    hasher: Sha256,
    bytes: u64,
    entries: usize,
}

impl Walk {
    fn tree(&mut self, from: &Path, to: Option<&Path>, below: &Path) -> Result<(), ArtifactError> {
        let listing = std::fs::read_dir(from).map_err(at(from))?;
        let mut names = Vec::new();
        for entry in listing {
            names.push(entry.map_err(at(from))?.file_name());
        }
        names.sort();
        for name in names {
            self.entries += 1;
            if self.entries > MAX_TREE_ENTRIES {
                return Err(ArtifactError::TooLarge);
            }
            let (source, path) = (from.join(&name), below.join(&name));
            self.entry(&source, to.map(|to| to.join(&name)).as_deref(), &path)?;
        }
        Ok(())
    }

    fn entry(&mut self, source: &Path, target: Option<&Path>, path: &Path) -> Result<(), ArtifactError> {
        let meta = std::fs::symlink_metadata(source).map_err(at(source))?;
        if meta.is_symlink() {
            let text = std::fs::read_link(source).map_err(at(source))?;
            self.head(b'l', path);
            self.text(text.as_os_str().as_encoded_bytes());
            return target.map_or(Ok(()), |target| symlink(&text, target).map_err(at(target)));
        }
        if meta.is_dir() {
            self.head(b'd', path);
            if let Some(target) = target {
                std::fs::create_dir(target).map_err(at(target))?;
                set_mode(target, 0o755)?;
            }
            self.tree(source, target, path)?;
            return target.map_or(Ok(()), sync_directory);
        }
        let executable = meta.mode() & 0o111 != 0;
        self.head(if executable { b'x' } else { b'f' }, path);
        // The length in front keeps the content apart from what follows it.
        self.text(&meta.size().to_le_bytes());
        self.file(source, target, executable)
    }

    fn head(&mut self, kind: u8, path: &Path) {
        self.hasher.update([kind]);
        self.text(path.as_os_str().as_encoded_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn file(&mut self, from: &Path, to: Option<&Path>, executable: bool) -> Result<(), ArtifactError> {
        let mut source = open_regular(from)?;
        let mut target = match to {
            Some(to) => {
                let mut create = OpenOptions::new();
                let created = create.write(true).create_new(true).mode(0o600).open(to).map_err(at(to))?;
                Some((created, to))
            }
            None => None,
        };
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = source.read(&mut chunk).map_err(at(from))?;
            if read == 0 {
                break;
            }
            self.bytes += read as u64;
            if self.bytes > MAX_ARTIFACT_BYTES {
                return Err(ArtifactError::TooLarge);
            }
            self.hasher.update(&chunk[..read]);
            if let Some((target, to)) = &mut target {
                target.write_all(&chunk[..read]).map_err(at(to))?;
            }
        }
        if let Some((target, to)) = target {
            set_mode(to, if executable { 0o555 } else { 0o444 })?;
            target.sync_all().map_err(at(to))?;
        }
        Ok(())
    }
}

/// Opens a file that is one, following no link.
fn open_regular(path: &Path) -> Result<File, ArtifactError> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(no_follow).open(path).map_err(at(path))?;
    if file.metadata().map_err(at(path))?.is_file() { Ok(file) } else { Err(ArtifactError::Changed) }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), ArtifactError> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(at(path))
}

fn sync_directory(directory: &Path) -> Result<(), ArtifactError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(at(directory))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError + use<'_> {
    |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ArtifactError::Full,
        io::ErrorKind::NotFound => ArtifactError::Changed,
        _ => ArtifactError::Io { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, content: &str, mode: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn take(store: &ArtifactStore, path: &Path) -> Artifact {
        store.take_up(path, look(path).unwrap().fingerprint).unwrap()
    }

    fn names(root: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_kept_read_only_under_its_hash_whatever_becomes_of_the_original() {
        let root = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(root.path().join("store"));
        make_private(&store.root).unwrap();
        let file = root.path().join("hello");
        put(&file, "abc", 0o755);
        let artifact = take(&store, &file);
        assert_eq!(artifact.hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&artifact.program).unwrap(), "abc");
        assert_eq!(std::fs::metadata(&artifact.program).unwrap().mode() & 0o777, 0o555);
        assert_eq!(names(&store.root), [artifact.hash.as_str()]);
    }

    #[test]
    fn a_trees_hash_holds_paths_modes_links_and_contents() {
        let root = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(root.path().join("store"));
        make_private(&store.root).unwrap();
        let tree = root.path().join("tree");
        put(&tree.join("plugin"), "abc", 0o755);
        put(&tree.join("lib/a"), "1", 0o644);
        symlink("a", tree.join("lib/b")).unwrap();
        let first = take(&store, &tree);
        assert_eq!(std::fs::read_to_string(store.root.join(&first.hash).join("lib/b")).unwrap(), "1");
        let mut hashes = vec![first.hash.clone()];
        put(&tree.join("lib/a"), "2", 0o644);
        hashes.push(take(&store, &tree).hash);
        put(&tree.join("lib/a"), "2", 0o755);
        hashes.push(take(&store, &tree).hash);
        std::fs::rename(tree.join("lib/a"), tree.join("lib/c")).unwrap();
        std::fs::remove_file(tree.join("lib/b")).unwrap();
        symlink("c", tree.join("lib/b")).unwrap();
        hashes.push(take(&store, &tree).hash);
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), 4, "two of four different trees share a hash");
        store.sweep(|hash| hash == first.hash);
        assert_eq!(names(&store.root), [first.hash]);
    }

    #[test]
    fn a_file_that_changes_while_it_is_copied_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(root.path().join("store"));
        make_private(&store.root).unwrap();
        let file = root.path().join("hello");
        put(&file, "abc", 0o755);
        let before = look(&file).unwrap().fingerprint;
        put(&file, "abcd", 0o755);
        let error = store.take_up(&file, before).unwrap_err();
        assert!(error.is_passing(), "{error}");
        assert_eq!(names(&store.root), Vec::<String>::new());
    }

    #[test]
    fn a_stored_program_that_somebody_changed_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(root.path().join("store"));
        make_private(&store.root).unwrap();
        let file = root.path().join("hello");
        put(&file, "abc", 0o755);
        let artifact = take(&store, &file);
        std::fs::set_permissions(&artifact.program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&artifact.program, "xyz").unwrap();
        assert_eq!(take(&store, &file), artifact);
        assert_eq!(std::fs::read_to_string(&artifact.program).unwrap(), "abc");
        let before = std::fs::metadata(&artifact.program).unwrap().ino();
        assert_eq!(take(&store, &file), artifact);
        let after = std::fs::metadata(&artifact.program).unwrap().ino();
        assert_eq!(before, after, "what is there was written again");
    }

    #[test]
    fn what_a_killed_host_left_half_written_is_removed() {
        let root = tempfile::tempdir().unwrap();
        put(&root.path().join(format!("{INCOMPLETE}7/plugin")), "ab", 0o600);
        let store = ArtifactStore::open(root.path().to_owned());
        assert_eq!(names(&store.root), Vec::<String>::new());
    }
}
