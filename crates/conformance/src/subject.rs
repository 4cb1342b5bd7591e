//! The plugin under test: a file, or a directory with an executable `plugin`, and the copy of it that runs.
//!
//! A host runs a copy from another place and under another name, so the kit does as well.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use temps_protocol::PluginManifest;
use temps_protocol::Ready;

/// Name of the executable inside of a plugin directory.
const ENTRY: &str = "plugin";

/// Why a path is no plugin.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// Nothing is there.
    #[error("there is no file {path:?}")]
    Absent {
        /// The path.
        path: PathBuf,
    },
    /// A directory without an entry.
    #[error(
        "{path:?} holds no executable named \"plugin\"; name the file to test, or build the plugin first"
    )]
    NoEntry {
        /// The path.
        path: PathBuf,
    },
    /// A file that cannot be run.
    #[error(
        "{path:?} is not executable; run chmod +x on it (and give a script a first line like #!/usr/bin/env python3)"
    )]
    NotExecutable {
        /// The path.
        path: PathBuf,
    },
    /// The copy cannot be made.
    #[error("{path:?} cannot be copied: {source}")]
    Copy {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The plugin under test.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The file that was named, or the entry in the directory that was named.
    pub(crate) original: PathBuf,
    /// The executable of the copy.
    pub(crate) program: PathBuf,
}

impl Subject {
    /// Copies the plugin at `path` into `place`, under another name.
    pub(crate) fn copied(path: &Path, place: &Path) -> Result<Self, SubjectError> {
        let path_of = || path.to_owned();
        let meta = fs::metadata(path).map_err(|_| SubjectError::Absent { path: path_of() })?;
        let original = if meta.is_dir() { path.join(ENTRY) } else { path_of() };
        let entry = fs::metadata(&original).map_err(|_| SubjectError::NoEntry { path: path_of() })?;
        if !entry.is_file() || entry.permissions().mode() & 0o111 == 0 {
            return Err(SubjectError::NotExecutable { path: original });
        }
        let failed = |source| SubjectError::Copy { path: path_of(), source };
        // The path may be relative, and the plugin's working directory is another one.
        let original = fs::canonicalize(&original).map_err(failed)?;
        let program = if meta.is_dir() {
            copy_directory(path, &place.join("artifact")).map_err(failed)?;
            place.join("artifact").join(ENTRY)
        } else {
            let program = place.join("artifact");
            fs::copy(path, &program).map_err(failed)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(failed)?;
            program
        };
        Ok(Self { original, program })
    }
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// What the plugin said of itself in its first start. The other scenes go by it.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) manifest: PluginManifest,
    pub(crate) ready: Ready,
    /// Whether it answered 101 to the channel.
    pub(crate) channel: bool,
}
