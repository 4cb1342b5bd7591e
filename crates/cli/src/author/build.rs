//! `temps plugin build`: from a project to what can be dropped into a plugins directory.
//!
//! One file where the language can make one, a directory with an executable named `plugin` where it cannot. The result
//! is made beside its place and moved there whole, so that a host which looks at it never sees half of one.

mod go;
mod node;
mod python;
mod rust;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::project::{Language, Project};
use crate::exit::Failure;
use crate::output::{Output, plain_lines};

/// The executable that makes a directory a plugin.
pub(super) use temps_host::discovery::DIRECTORY_PROGRAM;

/// Packages that the last quick build installed.
const KEPT: &str = ".packages";

/// What is built.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Directory of the project
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Build quickly, for trying it out
    #[arg(long)]
    debug: bool,
}

/// What was built.
#[derive(Debug, Serialize)]
pub(super) struct Built {
    /// The file or directory.
    pub(super) path: PathBuf,
    /// `file` or `directory`.
    pub(super) kind: &'static str,
    /// Its size in bytes, all files together.
    pub(super) bytes: u64,
    /// `rust`, `python`, `node` or `go`.
    pub(super) language: &'static str,
}

/// Builds the project, and says what to do with the result.
pub(super) fn run(arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let project = Project::find(&arguments.dir)?;
    let built = build(&project, &project.dist(), arguments.debug, output)?;
    output.data(&built, |built| {
        let path = built.path.display();
        let all = if built.kind == "directory" { "-r " } else { "" };
        plain_lines(&format!(
            "built {path} ({}, {} bytes)\n\nnext:\n  temps plugin check {path}\n  cp {all}{path} ~/.temps/plugins/",
            built.kind, built.bytes
        ))
    })
}

/// Builds a project into the directory `to`.
pub(super) fn build(project: &Project, to: &Path, debug: bool, output: Output) -> Result<Built, Failure> {
    fs::create_dir_all(to).map_err(|error| cannot(to, &error))?;
    let draft = tempfile::Builder::new().prefix(".draft-").tempdir_in(to);
    let draft = draft.map_err(|error| cannot(to, &error))?;
    let made = draft.path().join(&project.name);
    // Beside the result, where a host does not look.
    let kept = debug.then(|| to.join(KEPT));
    match project.language {
        Language::Rust => rust::build(project, &made, debug, output)?,
        Language::Python => python::build(project, &made, draft.path(), kept.as_deref(), output)?,
        Language::Node => node::build(project, &made, debug, kept.as_deref(), output)?,
        Language::Go => go::build(project, &made, debug, output)?,
    }
    close_to_others(&made)?;
    let is_tree = made.is_dir();
    let program = if is_tree { made.join(DIRECTORY_PROGRAM) } else { made.clone() };
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&program, executable).map_err(|error| cannot(&program, &error))?;
    let path = to.join(&project.name);
    put_in_place(&made, &path, draft.path()).map_err(|error| cannot(&path, &error))?;
    let bytes = size(&path).map_err(|error| cannot(&path, &error))?;
    let kind = if is_tree { "directory" } else { "file" };
    Ok(Built { path, kind, bytes, language: project.language.word() })
}

/// Puts what was made in the place of what an earlier build made.
pub(super) fn put_in_place(made: &Path, path: &Path, draft: &Path) -> io::Result<()> {
    // A file replaces a file in one step; with a directory in between, the old one has to go first.
    if path.is_dir() || (made.is_dir() && path.exists()) {
        fs::rename(path, draft.join(".replaced"))?;
    }
    fs::rename(made, path)
}

/// A host refuses what others may write, and some tools and umasks leave that.
pub(super) fn close_to_others(path: &Path) -> Result<(), Failure> {
    let metadata = fs::symlink_metadata(path).map_err(|error| cannot(path, &error))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode & !0o022))
        .map_err(|error| cannot(path, &error))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(|error| cannot(path, &error))? {
            close_to_others(&entry.map_err(|error| cannot(path, &error))?.path())?;
        }
    }
    Ok(())
}

/// Bytes of all files together.
pub(super) fn size(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.try_fold(0, |sum, entry| Ok(sum + size(&entry?.path())?))
}

/// Copies a file or a directory with everything in it, but for what Python leaves behind. Links inside stay links: what they
/// lead to may be anything, also the directory itself.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), Failure> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop).map_err(|error| cannot(to, &error));
    }
    fs::create_dir_all(to).map_err(|error| cannot(to, &error))?;
    for entry in fs::read_dir(from).map_err(|error| cannot(from, &error))? {
        let entry = entry.map_err(|error| cannot(from, &error))?;
        let (name, path) = (entry.file_name(), entry.path());
        if name == "__pycache__" {
            continue;
        }
        let copy = to.join(&name);
        if path.is_symlink() {
            let linked = fs::read_link(&path).and_then(|target| symlink(target, &copy));
            linked.map_err(|error| cannot(&copy, &error))?;
        } else {
            copy_tree(&path, &copy)?;
        }
    }
    Ok(())
}

/// Has packages installed into `to`. A quick build takes those of the one before, while the same are wanted: what is fetched
/// with each edit takes longer than everything else.
fn install(
    wanted: &str,
    to: &Path,
    kept: Option<&Path>,
    install: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(kept) = kept else { return install(to) };
    let note = kept.join("wanted");
    let packages = kept.join("packages");
    if fs::read_to_string(&note).is_ok_and(|known| known == wanted) {
        return copy_tree(&packages, to);
    }
    install(to)?;
    if kept.exists() {
        fs::remove_dir_all(kept).map_err(|error| cannot(kept, &error))?;
    }
    copy_tree(to, &packages)?;
    fs::write(&note, wanted).map_err(|error| cannot(&note, &error))
}

pub(super) fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::other("not_built", format!("cannot make {}: {error}", path.display()))
}
