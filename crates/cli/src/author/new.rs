//! `temps plugin new`: a project for a new plugin.
//!
//! The project is made beside its place and moved there in one step, so that a failure leaves nothing half made, and
//! nothing that was there is ever overwritten.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use temps_host::protocol::PluginName;

use super::project::Language;
use super::templates::{self, Values};
use super::{build, sdk};
use crate::exit::{Exit, Failure};
use crate::output::{Output, plain_lines};

/// A new project.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Name of the plugin: lower-case letters, digits and hyphens
    #[arg(value_name = "NAME")]
    name: String,
    /// Language to write it in
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    lang: Language,
    /// Give it a page
    #[arg(long)]
    ui: bool,
    /// Directory to make; it must not exist, or be empty [default: the name, in the working directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the SDK is, or a checkout of temps that has it [default: the checkout that this program is in]
    #[arg(long, value_name = "PATH")]
    sdk_path: Option<PathBuf>,
}

/// What was made.
#[derive(Serialize)]
struct Made {
    directory: PathBuf,
    language: &'static str,
    files: Vec<PathBuf>,
    sdk: PathBuf,
}

/// Makes the project.
pub(super) fn run(arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let name = PluginName::new(&arguments.name).map_err(|error| Failure::usage(error.to_string()))?;
    let place = arguments.dir.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    let place = std::path::absolute(&place).map_err(|error| cannot(&place, &error))?;
    refuse_what_is_there(&place)?;
    let sdk = sdk::find(arguments.lang, arguments.sdk_path.as_deref())?;
    let shown = sdk.to_str().filter(|path| !path.contains(['"', '\\', '\n'])).ok_or_else(|| {
        Failure::usage(format!("the path of the SDK, {}, cannot stand in a project's files", sdk.display()))
    })?;
    let values = Values { name: name.as_str(), sdk: shown, ui: arguments.ui };
    let files = templates::files(arguments.lang, &values);
    make(&place, &files, arguments.lang, &sdk)?;
    let made = Made {
        directory: place,
        language: arguments.lang.word(),
        files: files.into_iter().map(|(path, _)| path).collect(),
        sdk,
    };
    output.data(&made, |made| plain_lines(&told(made, arguments.lang)))
}

fn told(made: &Made, language: Language) -> String {
    let files: Vec<_> = made.files.iter().map(|file| format!("  {}", file.display())).collect();
    format!(
        "made {}\n{}\n\nnext:\n  cd {}\n  {}\n  temps plugin dev",
        made.directory.display(),
        files.join("\n"),
        made.directory.display(),
        match language {
            Language::Rust => "cargo test",
            Language::Python => "python3 -m unittest",
            Language::Node => "npm install && npm test",
            Language::Go => "go test ./...",
        }
    )
}

fn refuse_what_is_there(place: &Path) -> Result<(), Failure> {
    let taken = match fs::read_dir(place) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(_) => true,
    };
    if taken {
        let message = format!("{} is there already; nothing was changed", place.display());
        return Err(Failure::new(Exit::Conflict, "exists", message).hint("choose another place with --dir"));
    }
    Ok(())
}

fn make(place: &Path, files: &[(PathBuf, String)], language: Language, sdk: &Path) -> Result<(), Failure> {
    let parent = place.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|error| cannot(parent, &error))?;
    let draft = tempfile::Builder::new().prefix(".temps-new-").tempdir_in(parent);
    let draft = draft.map_err(|error| cannot(parent, &error))?;
    for (path, text) in files {
        let path = draft.path().join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|error| cannot(&path, &error))?;
    }
    match language {
        Language::Python => {
            let package = "temps_plugin";
            build::copy_tree(&sdk.join("src").join(package), &draft.path().join(package))?;
        }
        // The versions that the SDK was tried with; cargo takes out of it what the plugin does not need.
        Language::Rust => {
            let lock = sdk.ancestors().map(|folder| folder.join("Cargo.lock")).find(|file| file.is_file());
            if let Some(lock) = lock {
                let to = draft.path().join("Cargo.lock");
                fs::copy(&lock, &to).map_err(|error| cannot(&to, &error))?;
            }
        }
        // The checksums of what the SDK needs, so that nothing has to be looked up.
        Language::Go => {
            let to = draft.path().join("go.sum");
            fs::copy(sdk.join("go.sum"), &to).map_err(|error| cannot(&to, &error))?;
        }
        Language::Node => {}
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(draft.path(), mode).map_err(|error| cannot(draft.path(), &error))?;
    // Replaces an empty directory, and fails for one that was filled meanwhile.
    fs::rename(draft.path(), place).map_err(|error| cannot(place, &error))
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::other("not_made", format!("cannot make {}: {error}", path.display()))
}
