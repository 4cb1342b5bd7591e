//! Which files of a project changed, told once for everything that an editor or a tool does at a time.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::world;
use crate::exit::Failure;

/// How long nothing more may change before a change is told; editors write, rename and touch.
const SETTLED: Duration = Duration::from_millis(80);

/// Changes that wait; one is enough to know that there was one.
const WAITING: usize = 64;

/// Directories of tools, whose files are results and no sources.
const RESULTS: &[&str] = &["target", "dist", "node_modules", "__pycache__", "venv"];

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A source of the plugin.
    Code,
    /// What the simulated platform has.
    World,
}

/// Changes of a project's files.
pub(super) struct Changes {
    root: PathBuf,
    told: mpsc::Receiver<PathBuf>,
    /// A change that is told once all is still.
    pending: Option<Change>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// Watches a directory and everything below it, but for the file of a recording and what this program's output goes to:
    /// each line there would lead to another one.
    pub(super) fn of(root: &Path, recording: Option<&Path>) -> Result<Self, Failure> {
        let (tell, told) = mpsc::channel(WAITING);
        let own = own_files(recording);
        let failed = |error: notify::Error| {
            Failure::other("not_watched", format!("{} cannot be watched: {error}", root.display()))
        };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            for path in event.paths {
                if own.contains(&identity(std::fs::symlink_metadata(&path).ok())) {
                    continue;
                }
                // A full queue means that a change is known already; only what it was could be missed.
                let _ = tell.blocking_send(path);
            }
        })
        .map_err(failed)?;
        watcher.watch(root, RecursiveMode::Recursive).map_err(failed)?;
        Ok(Self { root: root.to_owned(), told, pending: None, _watcher: watcher })
    }

    /// The next change; waits until there is one and all is still. May be dropped while it waits: what is known of a change
    /// is kept.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            let told = match self.pending {
                None => self.told.recv().await,
                Some(change) => match tokio::time::timeout(SETTLED, self.told.recv()).await {
                    Ok(told) => told,
                    Err(_) => {
                        self.pending = None;
                        return change;
                    }
                },
            };
            // A watcher that ended tells nothing more.
            let Some(path) = told else { return std::future::pending().await };
            // Code counts more than the world, which is read again with it.
            match meaning(&self.root, &path) {
                Some(Change::Code) => self.pending = Some(Change::Code),
                Some(Change::World) => self.pending = self.pending.or(Some(Change::World)),
                None => {}
            }
        }
    }
}

/// Device and number of a file.
type Identity = Option<(u64, u64)>;

fn identity(metadata: Option<std::fs::Metadata>) -> Identity {
    metadata.map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The files that this program writes to.
fn own_files(recording: Option<&Path>) -> Vec<Identity> {
    let outputs = ["/dev/stdout", "/dev/stderr"].map(Path::new);
    let files = outputs.into_iter().chain(recording).map(|path| identity(std::fs::metadata(path).ok()));
    files.filter(Option::is_some).collect()
}

/// What a change of a path means; `None` for results of tools, and for what editors leave beside a file.
fn meaning(root: &Path, path: &Path) -> Option<Change> {
    let below = path.strip_prefix(root).ok()?;
    let mut names = below.iter().map(|name| name.to_string_lossy());
    if names.clone().next().is_none()
        || names.any(|name| name.starts_with('.') || name.ends_with('~') || RESULTS.contains(&&*name))
    {
        return None;
    }
    // Cargo writes its lock itself, while it builds.
    match below.to_str() {
        Some("Cargo.lock" | "go.sum" | "package-lock.json") => None,
        Some(name) if name == world::FILE => Some(Change::World),
        _ => Some(Change::Code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_tools_are_no_changes() {
        let of = |path: &str| meaning(Path::new("/p"), &Path::new("/p").join(path));
        for source in ["src/main.rs", "plugin.py", "ui/index.html", "Cargo.toml", "targets/a"] {
            assert_eq!(of(source), Some(Change::Code), "{source}");
        }
        assert_eq!(of("temps-dev.toml"), Some(Change::World));
        for result in [
            "target/debug/x",
            "dist/a",
            "node_modules/a/b.js",
            ".git/index",
            "Cargo.lock",
            "a.py~",
            ".x.swp",
            "",
        ] {
            assert_eq!(of(result), None, "{result}");
        }
        assert_eq!(meaning(Path::new("/p"), Path::new("/q/a")), None);
    }

    #[tokio::test]
    async fn an_edit_is_told_also_to_somebody_who_looked_away_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        let mut changes = Changes::of(root.path(), None).unwrap();
        std::fs::write(root.path().join("temps-dev.toml"), "").unwrap();
        assert_eq!(changes.next().await, Change::World);
        std::fs::write(root.path().join("plugin.py"), "").unwrap();
        while changes.pending.is_none() {
            // Polled once and dropped, as in a loop where something else happens all the time.
            let _ = tokio::time::timeout(Duration::from_millis(1), changes.next()).await;
        }
        assert_eq!(changes.next().await, Change::Code);
    }

    #[tokio::test]
    async fn a_recording_in_the_project_is_no_edit() {
        let root = tempfile::tempdir().unwrap();
        let recording = root.path().join("traffic.jsonl");
        std::fs::write(&recording, "").unwrap();
        let mut changes = Changes::of(root.path(), Some(&recording)).unwrap();
        std::fs::write(&recording, "a step").unwrap();
        // What came before it would be told before it.
        std::fs::write(root.path().join("temps-dev.toml"), "").unwrap();
        assert_eq!(changes.next().await, Change::World);
    }
}
