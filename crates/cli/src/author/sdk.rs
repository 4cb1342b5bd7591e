//! Where the SDKs are, while no registry has them: in a checkout of temps.

use std::path::{Path, PathBuf};

use super::project::Language;
use crate::exit::{Exit, Failure};

/// Where a language's SDK is below a checkout, and a file by which it is known.
fn place(language: Language) -> (&'static str, &'static str) {
    match language {
        // The workspace has a Cargo.toml as well.
        Language::Rust => ("crates/sdk", "src/lib.rs"),
        Language::Python => ("sdks/python", "src/temps_plugin/__init__.py"),
        Language::Node => ("sdks/node", "package.json"),
        Language::Go => ("sdks/go", "go.mod"),
    }
}

/// The SDK at `given`, or the one of the checkout that this program, or the working directory, is in.
pub(super) fn find(language: Language, given: Option<&Path>) -> Result<PathBuf, Failure> {
    let (below, known_by) = place(language);
    if let Some(given) = given {
        let candidates = [given.to_owned(), given.join(below)];
        let found = candidates.iter().find(|path| path.join(known_by).is_file());
        let found = found.and_then(|path| path.canonicalize().ok());
        return found.ok_or_else(|| {
            let message = format!("there is no SDK for {} in {}", language.word(), given.display());
            Failure::new(Exit::NotFound, "no_sdk", message)
                .hint(format!("--sdk-path names the folder {below} of a checkout of temps, or the checkout"))
        });
    }
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    let found = starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .find_map(|folder| folder.join(below).join(known_by).is_file().then(|| folder.join(below)));
    found.and_then(|path| path.canonicalize().ok()).ok_or_else(|| {
        let message = format!("the SDK for {} was not found; no registry has it yet", language.word());
        Failure::new(Exit::NotFound, "no_sdk", message).hint("name a checkout of temps with --sdk-path PATH")
    })
}
