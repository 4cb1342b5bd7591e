//! Puts an unruly plugin into a directory, as an author would: one executable file.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::behaviour::Behaviour;

/// Copies `program` (the compiled `unruly`) to `dir/file_name` with its order behind it, mode 0755.
///
/// The file appears whole: it is written under a hidden name first. `file_name` is what the host sees in the
/// directory; the plugin's own name is in `order`.
///
/// # Errors
/// What the file system says.
pub fn install(program: &Path, dir: &Path, file_name: &str, order: &Behaviour) -> std::io::Result<PathBuf> {
    let hidden = dir.join(format!(".{file_name}.part"));
    let mut bytes = std::fs::read(program)?;
    bytes.extend(order.trailer());
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&hidden)?;
    file.write_all(&bytes)?;
    drop(file);
    let path = dir.join(file_name);
    std::fs::rename(&hidden, &path)?;
    Ok(path)
}
