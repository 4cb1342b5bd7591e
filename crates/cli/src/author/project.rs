//! What lies in a directory: which language a plugin is written in, and what it is called there.
//!
//! Reads the files of package managers, and starts nothing.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::exit::{Exit, Failure};

/// Largest file of a package manager that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Languages that there is an SDK for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Rust
    Rust,
    /// Python
    Python,
    /// TypeScript or JavaScript on Node
    Node,
    /// Go
    Go,
}

impl Language {
    /// The word for it on the command line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
        }
    }
}

/// A plugin's project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    /// Its directory, absolute.
    pub(super) directory: PathBuf,
    pub(super) language: Language,
    /// What its package is called; the built plugin gets this name.
    pub(super) name: String,
}

impl Project {
    /// Looks into a directory.
    pub(super) fn find(directory: &Path) -> Result<Self, Failure> {
        let directory = directory.canonicalize().map_err(|error| {
            Failure::new(
                Exit::NotFound,
                "no_directory",
                format!("cannot look into {}: {error}", directory.display()),
            )
        })?;
        let (language, named) = language(&directory)?;
        let name = named
            .or_else(|| directory.file_name().map(|name| name.to_string_lossy().into_owned()))
            .map(|name| name.replace('_', "-").to_lowercase())
            .filter(|name| !name.is_empty() && !name.contains(['/', '\0']) && !name.starts_with('.'))
            .ok_or_else(|| Failure::usage(format!("{} has no name to build under", directory.display())))?;
        Ok(Self { directory, language, name })
    }

    /// Where the built plugin is put.
    pub(super) fn dist(&self) -> PathBuf {
        self.directory.join("dist")
    }
}

/// The language and, where a file says it, the package's name.
fn language(directory: &Path) -> Result<(Language, Option<String>), Failure> {
    let has = |name: &str| directory.join(name).is_file();
    if has("Cargo.toml") {
        let manifest = toml_file(&directory.join("Cargo.toml"))?;
        return Ok((Language::Rust, text(&manifest, "package")));
    }
    if has("go.mod") {
        let module = read(&directory.join("go.mod"))?;
        let path = module.lines().find_map(|line| line.trim().strip_prefix("module "));
        let last = path.and_then(|path| path.trim().trim_matches('"').rsplit('/').next());
        return Ok((Language::Go, last.map(str::to_owned)));
    }
    if has("package.json") {
        let package = json_file(&directory.join("package.json"))?;
        let last = package["name"].as_str().and_then(|name| name.rsplit('/').next());
        return Ok((Language::Node, last.map(str::to_owned)));
    }
    if has("pyproject.toml") {
        let manifest = toml_file(&directory.join("pyproject.toml"))?;
        return Ok((Language::Python, text(&manifest, "project")));
    }
    if has("plugin.py") {
        return Ok((Language::Python, None));
    }
    let message = format!("{} is not a plugin's project", directory.display());
    Err(Failure::new(Exit::NotFound, "no_project", message).hint(
        "a project has a Cargo.toml, go.mod, package.json, pyproject.toml or plugin.py; `temps plugin new NAME --lang LANGUAGE` makes one",
    ))
}

fn text(manifest: &toml::Table, table: &str) -> Option<String> {
    manifest.get(table)?.get("name")?.as_str().map(str::to_owned)
}

/// Reads a TOML file of a project.
pub(super) fn toml_file(path: &Path) -> Result<toml::Table, Failure> {
    toml::from_str(&read(path)?)
        .map_err(|error| Failure::usage(format!("{} is not TOML: {error}", path.display())))
}

/// Reads a JSON file of a project.
pub(super) fn json_file(path: &Path) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(&read(path)?)
        .map_err(|error| Failure::usage(format!("{} is not JSON: {error}", path.display())))
}

/// Reads a text file of a project that has an ordinary size.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::usage(format!("cannot read {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_FILE {
        return Err(failed(format!("it has {size} bytes, more than {MAX_FILE}")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Result<(Language, String), Exit> {
        let directory = tempfile::Builder::new()
            .prefix("Some_Plugin")
            .rand_bytes(0)
            .tempdir_in(tempfile::tempdir().unwrap().keep());
        let directory = directory.unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Project::find(directory.path())
            .map(|project| (project.language, project.name))
            .map_err(|failure| failure.exit)
    }

    #[test]
    fn a_project_is_known_by_its_files() {
        let cases: [(&str, &str, Language, &str); 6] = [
            ("Cargo.toml", "[package]\nname = \"a\"\n", Language::Rust, "a"),
            ("go.mod", "module example.com/x/b\n\ngo 1.26\n", Language::Go, "b"),
            ("package.json", "{\"name\": \"@me/c\"}", Language::Node, "c"),
            ("pyproject.toml", "[project]\nname = \"d_e\"\n", Language::Python, "d-e"),
            ("pyproject.toml", "", Language::Python, "some-plugin"),
            ("plugin.py", "", Language::Python, "some-plugin"),
        ];
        for (file, text, language, name) in cases {
            assert_eq!(found(&[(file, text)]), Ok((language, name.to_owned())), "{file}");
        }
        assert_eq!(found(&[("README", "")]), Err(Exit::NotFound));
        assert_eq!(found(&[("Cargo.toml", "[")]), Err(Exit::Usage));
    }
}
