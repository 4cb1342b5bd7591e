//! The directories of the daemon: whether they are there, safe, large enough, and short enough for sockets.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use temps_host::places::MAX_RUN_DIR;
use temps_server::config::{Config, Places};

use super::{Check, Status};

/// Free space below which the daemon's journal and logs may run into trouble, in bytes: the journal alone may take it.
const COMFORTABLE_SPACE: u64 = 1024 * 1024 * 1024;

/// Says which settings file is in force. That it could be read and makes sense was found out before.
pub(crate) fn settings_file(config: &Config) -> Check {
    let file = &config.places.config_file;
    let found = if file.exists() {
        format!("{} is valid", file.display())
    } else {
        format!("defaults; {} does not exist", file.display())
    };
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if config.secret_in_file && mode & 0o077 != 0 {
        let found = format!("{found}, and others can read it, with the password of a database server");
        return Check::new("settings", Status::Problem, found).hint(format!("chmod 600 {}", file.display()));
    }
    Check::new("settings", Status::Ok, found)
}

/// Looks at the places.
pub(crate) fn checks(places: &Places) -> Vec<Check> {
    let mut checks = vec![
        directory("state directory", &places.state_dir, Privacy::OwnerOnly),
        directory("socket directory", &places.run_dir, Privacy::OwnerOnly),
        token_file(&places.admin_token_file()),
        free_space(&places.state_dir),
        socket_room(&places.run_dir),
    ];
    for directory_of_plugins in &places.plugins_dirs {
        checks.push(directory("plugins directory", directory_of_plugins, Privacy::OthersMayLook));
    }
    checks
}

/// Who else may use a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privacy {
    /// Nobody.
    OwnerOnly,
    /// Others may read, and not write.
    OthersMayLook,
}

fn directory(name: &str, path: &Path, privacy: Privacy) -> Check {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => {
            Check::new(name, Status::Problem, format!("{} is not a directory", path.display()))
        }
        Ok(metadata) => {
            judge_mode(name, path, metadata.permissions().mode() & 0o7777, metadata.uid(), privacy)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Check::new(
            name,
            Status::Ok,
            format!("{} does not exist yet; the daemon makes it", path.display()),
        ),
        Err(error) => Check::new(name, Status::Unknown, format!("{}: {error}", path.display()))
            .hint("run as the user that runs the daemon"),
    }
}

fn judge_mode(name: &str, path: &Path, mode: u32, owner: u32, privacy: Privacy) -> Check {
    let found = format!("{} (mode {mode:04o}, owner {owner})", path.display());
    let forbidden = match privacy {
        Privacy::OwnerOnly => 0o077,
        Privacy::OthersMayLook => 0o022,
    };
    if mode & forbidden == 0 {
        return Check::new(name, Status::Ok, found);
    }
    let (status, what) = match mode & 0o022 {
        0 => (Status::Warning, "others can look into it"),
        _ => (Status::Problem, "others can write into it"),
    };
    let right = if privacy == Privacy::OwnerOnly { "700" } else { "755" };
    Check::new(name, status, format!("{found}: {what}")).hint(format!("chmod {right} {}", path.display()))
}

fn token_file(path: &Path) -> Check {
    let name = "admin token";
    match std::fs::metadata(path) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o7777;
            let found = format!("{} (mode {mode:04o}, owner {})", path.display(), metadata.uid());
            if mode & 0o077 == 0 {
                Check::new(name, Status::Ok, found)
            } else {
                Check::new(name, Status::Problem, format!("{found}: others can use it"))
                    .hint(format!("chmod 600 {}", path.display()))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::new(name, Status::Ok, "does not exist yet; the daemon makes it at its first start")
        }
        Err(error) => Check::new(name, Status::Unknown, format!("{}: {error}", path.display())),
    }
}

fn free_space(state_dir: &Path) -> Check {
    let name = "disk space";
    let existing = nearest_existing(state_dir);
    match rustix::fs::statvfs(&existing) {
        Ok(disk) => judge_space(&existing, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => Check::new(name, Status::Unknown, format!("{}: {error}", existing.display())),
    }
}

fn judge_space(path: &Path, free: u64) -> Check {
    let found = format!("{} MiB free at {}", free / (1024 * 1024), path.display());
    if free < COMFORTABLE_SPACE {
        return Check::new("disk space", Status::Warning, found)
            .hint("free some space: the event journal alone may take 1 GiB");
    }
    Check::new("disk space", Status::Ok, found)
}

fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

/// A socket's path has at most 107 bytes, so the directory must leave room for what the host puts below it.
fn socket_room(run_dir: &Path) -> Check {
    let (length, most) = (run_dir.as_os_str().len(), MAX_RUN_DIR);
    let found =
        format!("{} has {length} bytes; at most {most} leave room for a socket's path", run_dir.display());
    if length > most {
        return Check::new("socket paths", Status::Problem, found)
            .hint("use a shorter directory: set TEMPS_HOME or --home");
    }
    Check::new("socket paths", Status::Ok, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_can_write_is_a_problem() {
        let judged = |mode, privacy| judge_mode("x", Path::new("/x"), mode, 0, privacy).status;
        assert_eq!(judged(0o700, Privacy::OwnerOnly), Status::Ok);
        assert_eq!(judged(0o755, Privacy::OwnerOnly), Status::Warning);
        assert_eq!(judged(0o777, Privacy::OwnerOnly), Status::Problem);
        assert_eq!(judged(0o755, Privacy::OthersMayLook), Status::Ok);
        assert_eq!(judged(0o775, Privacy::OthersMayLook), Status::Problem);
    }

    #[test]
    fn a_full_disk_and_a_long_path_are_said() {
        assert_eq!(judge_space(Path::new("/x"), 10).status, Status::Warning);
        assert_eq!(judge_space(Path::new("/x"), 1 << 40).status, Status::Ok);
        assert_eq!(socket_room(Path::new("/run/temps")).status, Status::Ok);
        assert_eq!(socket_room(Path::new(&format!("/{}", "x".repeat(100)))).status, Status::Problem);
    }
}
