//! The files in the plugins directories: whether what they are written in is there.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Check, Status};

/// Bytes at the beginning of a file that are looked at; Linux itself reads no more of a `#!` line.
const FIRST_BYTES: u64 = 256;

/// Most files that are looked at in one directory.
const MAX_FILES: usize = 1000;

/// Where a plugin's programs are looked for; its environment has this PATH.
const PLUGIN_PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Looks at each plugin that is a script.
pub(crate) fn checks(directories: &[PathBuf]) -> Vec<Check> {
    directories
        .iter()
        .flat_map(|directory| candidates(directory))
        .filter_map(|file| interpreter(&file))
        .collect()
}

/// Executable files, and directories with an executable named `plugin`, as the host finds them.
fn candidates(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let visible = entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let files = visible.take(MAX_FILES).map(|entry| {
        let path = entry.path();
        if path.is_dir() { path.join("plugin") } else { path }
    });
    let mut files: Vec<_> = files.filter(|path| is_executable(path)).collect();
    files.sort();
    files
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn interpreter(file: &Path) -> Option<Check> {
    let mut first = Vec::new();
    std::fs::File::open(file).ok()?.take(FIRST_BYTES).read_to_end(&mut first).ok()?;
    let wanted = wanted_program(&first)?;
    let found = if wanted.is_absolute() {
        is_executable(&wanted).then(|| wanted.clone())
    } else {
        PLUGIN_PATH
            .iter()
            .map(|directory| Path::new(directory).join(&wanted))
            .find(|program| is_executable(program))
    };
    let name = format!("plugin file {}", file.file_name().unwrap_or_default().to_string_lossy());
    Some(match found {
        Some(program) => Check::new(name, Status::Ok, format!("is run by {}", program.display())),
        None => Check::new(name, Status::Problem, format!("needs {}, which is not there", wanted.display()))
            .hint(format!("install it where plugins look for programs: {}", PLUGIN_PATH.join(", "))),
    })
}

/// The program in a `#!` line: an absolute path, or the word after `env`, to be looked for.
fn wanted_program(first: &[u8]) -> Option<PathBuf> {
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let program = Path::new(words.next()?).to_path_buf();
    if program.file_name()? != "env" {
        return Some(program);
    }
    let word = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    Some(PathBuf::from(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_script_is_found() {
        for (line, expected) in [
            ("#!/usr/bin/env python3\nimport x", Some("python3")),
            ("#!/usr/bin/env -S A=1 node --harmony\n", Some("node")),
            ("#! /bin/sh\n", Some("/bin/sh")),
            ("\u{7f}ELF", None),
            ("#!\n", None),
        ] {
            assert_eq!(wanted_program(line.as_bytes()), expected.map(PathBuf::from), "{line:?}");
        }
    }

    #[test]
    fn a_missing_interpreter_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("good", "#!/bin/sh\n", 0o755);
        write("lost", "#!/usr/bin/env no-such-interpreter\n", 0o755);
        write("notes.txt", "#!/usr/bin/env no-such-interpreter\n", 0o644);
        write(".hidden", "#!/usr/bin/env no-such-interpreter\n", 0o755);
        let found = checks(&[directory.path().to_path_buf()]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].status, Status::Ok);
        assert_eq!(found[1].status, Status::Problem);
        assert!(found[1].found.contains("no-such-interpreter"), "{found:?}");
    }
}
