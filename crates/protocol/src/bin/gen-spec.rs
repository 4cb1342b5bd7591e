//! Writes the schemas of `spec/v1/schema` from the wire types, or says which of them are out of date.
//!
//! `cargo run -p temps-protocol --features schema --bin gen-spec -- write|check`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit code when a file differs from its type.
const OUT_OF_DATE: u8 = 1;
/// Exit code for a wrong command line.
const USAGE: u8 = 2;

fn main() -> std::io::Result<ExitCode> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/v1/schema");
    match std::env::args().nth(1).as_deref() {
        Some("write") => write(&dir).map(|()| ExitCode::SUCCESS),
        Some("check") => check(&dir),
        _ => {
            writeln!(std::io::stderr(), "usage: gen-spec write|check")?;
            Ok(ExitCode::from(USAGE))
        }
    }
}

fn write(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for left_over in left_over(dir)? {
        std::fs::remove_file(left_over)?;
    }
    for (name, text) in temps_protocol::schema::files() {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(())
}

fn check(dir: &Path) -> std::io::Result<ExitCode> {
    let mut differing: Vec<PathBuf> = left_over(dir)?;
    for (name, text) in temps_protocol::schema::files() {
        let path = dir.join(name);
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            differing.push(path);
        }
    }
    for path in &differing {
        writeln!(std::io::stderr(), "{} is out of date; run gen-spec write", path.display())?;
    }
    Ok(if differing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(OUT_OF_DATE) })
}

/// Files of types that are no longer there.
fn left_over(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let known: Vec<String> = temps_protocol::schema::files().into_iter().map(|(name, _)| name).collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !known.iter().any(|name| entry.file_name() == name.as_str()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
