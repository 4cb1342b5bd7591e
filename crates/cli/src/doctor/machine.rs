//! What the operating system gives: kernel, file watches, open files.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Check, Status};

/// Open files that a daemon with a hundred plugins needs: about ten for each plugin (its socket's connections, its
/// output, its launcher, its log), and some for itself.
const COMFORTABLE_FILES: u64 = 2048;

/// Watches that the daemon needs: one for each plugins directory and each plugin directory in it.
const COMFORTABLE_WATCHES: u64 = 256;

/// Looks at the machine.
pub(crate) fn checks() -> Vec<Check> {
    vec![kernel(), inotify(), open_files()]
}

fn kernel() -> Check {
    let system = rustix::system::uname();
    let found = format!(
        "{} {} on {}",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        system.machine().to_string_lossy()
    );
    Check::new("kernel", Status::Ok, found)
}

fn inotify() -> Check {
    let limit = |file: &str| -> Option<u64> {
        std::fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(file)).ok()?.trim().parse().ok()
    };
    let opened = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC);
    judge_inotify(opened.err().map(|error| error.to_string()), limit("max_user_watches"))
}

fn judge_inotify(refused: Option<String>, watches: Option<u64>) -> Check {
    let name = "file watching";
    let hint = "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches; until then, plugins are found by scanning";
    match (refused, watches) {
        (Some(why), _) => {
            Check::new(name, Status::Warning, format!("no watch can be opened: {why}")).hint(hint)
        }
        (None, Some(watches)) if watches < COMFORTABLE_WATCHES => {
            Check::new(name, Status::Warning, format!("a user may watch only {watches} files")).hint(hint)
        }
        (None, Some(watches)) => Check::new(name, Status::Ok, format!("works, for up to {watches} files")),
        (None, None) => Check::new(name, Status::Unknown, "works; its limit cannot be read"),
    }
}

fn open_files() -> Check {
    judge_open_files(getrlimit(Resource::Nofile).maximum)
}

fn judge_open_files(maximum: Option<u64>) -> Check {
    let name = "open files";
    match maximum {
        Some(maximum) if maximum < COMFORTABLE_FILES => Check::new(
            name,
            Status::Warning,
            format!("a process may open {maximum}, which is enough for few plugins"),
        )
        .hint(format!(
            "raise the limit of the daemon to {COMFORTABLE_FILES} or more (LimitNOFILE= of its service)"
        )),
        Some(maximum) => Check::new(name, Status::Ok, format!("a process may open {maximum}")),
        None => Check::new(name, Status::Ok, "a process may open as many as it wants"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_watches_and_files_are_said() {
        assert_eq!(judge_inotify(None, Some(8)).status, Status::Warning);
        assert_eq!(judge_inotify(None, Some(65_536)).status, Status::Ok);
        assert_eq!(judge_inotify(Some("too many".into()), Some(65_536)).status, Status::Warning);
        assert_eq!(judge_open_files(Some(256)).status, Status::Warning);
        assert_eq!(judge_open_files(Some(1 << 20)).status, Status::Ok);
    }
}
