//! Reads the specification's vectors: one message each, and what a reader makes of it. `spec/v1/vectors/README.md`
//! says what the fields mean.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// One vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector {
    /// The type whose message it is, for example `PluginManifest`.
    pub kind: String,
    /// The file's name without its ending.
    pub case: String,
    /// Whether a reader takes it.
    pub valid: bool,
    /// What the file says.
    pub says: Contents,
}

/// What stands in a vector's file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// What the case is about.
    pub description: String,
    /// The message as JSON.
    #[serde(default, deserialize_with = "present")]
    pub input: Option<Value>,
    /// The message as text, where it is not JSON or where the exact text matters.
    pub text: Option<String>,
    /// What the message means once all defaults are filled in. Absent: the input itself.
    pub normalized: Option<Value>,
    /// The schema takes an invalid message that only a reader refuses.
    #[serde(default)]
    pub schema_accepts: bool,
    /// The field that a refusal names.
    pub field: Option<String>,
    /// For a frame: `answered` or `ignored`.
    pub outcome: Option<String>,
    /// For an answered frame: the answer's `id` and `code`.
    pub answer: Option<Value>,
    /// For a pattern: event types that it takes in.
    #[serde(default)]
    pub takes_in: Vec<String>,
    /// For a pattern: event types that it leaves out.
    #[serde(default)]
    pub leaves_out: Vec<String>,
}

impl Vector {
    /// The message as it stands on the wire.
    #[must_use]
    pub fn wire(&self) -> String {
        match (&self.says.text, &self.says.input) {
            (Some(text), _) => text.clone(),
            (None, Some(input)) => input.to_string(),
            (None, None) => String::new(),
        }
    }

    /// For messages of a test: `PluginManifest/invalid/no-name`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}/{}/{}", self.kind, if self.valid { "valid" } else { "invalid" }, self.case)
    }
}

/// A field that is there with the value `null` is there.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The directory `spec/v1` of this workspace.
#[must_use]
pub fn spec_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/v1")
}

/// Reads all vectors, in the order of their paths.
///
/// # Errors
/// A file that cannot be read, or that is not a vector.
pub fn load() -> io::Result<Vec<Vector>> {
    let mut vectors = Vec::new();
    for kind in sorted_entries(&spec_dir().join("vectors"))?.into_iter().filter(|path| path.is_dir()) {
        for (verdict, valid) in [("invalid", false), ("valid", true)] {
            for path in sorted_entries(&kind.join(verdict))? {
                let broken = |e: serde_json::Error| io::Error::other(format!("{}: {e}", path.display()));
                let says = serde_json::from_str(&std::fs::read_to_string(&path)?).map_err(broken)?;
                vectors.push(Vector { kind: stem(&kind), case: stem(&path), valid, says });
            }
        }
    }
    Ok(vectors)
}

fn sorted_entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut paths =
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}
