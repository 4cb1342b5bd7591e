//! Discovery: what lies in the plugins directories, and what changed since the last look.
//!
//! `scan` looks, `diff` decides purely, `Watch` says when it is worth looking again. Nothing here runs or copies a file.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How long a file must be still before it is taken up, and missing before it counts as removed.
pub const STILL_FOR: Duration = Duration::from_secs(1);

/// Time between two looks when nothing says that something changed; a watch can be lost, and some file systems have none.
pub const RESCAN_EVERY: Duration = Duration::from_secs(30);

/// Most files and directories in one plugin directory: a large dependency tree, and no more.
pub const MAX_TREE_ENTRIES: usize = 50_000;

/// The executable that makes a directory a plugin.
pub const DIRECTORY_PROGRAM: &str = "plugin";

/// What a file or a tree looked like, without its contents. Two that differ are looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

/// One plugin file, or directory, as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it looked like.
    pub fingerprint: Fingerprint,
    /// When its content, its mode or its owner changed last.
    pub changed_at: SystemTime,
    /// Why it must not be taken up.
    pub refusal: Option<String>,
}

/// All that a scan found. A directory that could not be read is listed, so that its plugins are not taken for removed.
#[derive(Debug, Default)]
pub struct Scan {
    /// Plugins by path.
    pub found: BTreeMap<PathBuf, Found>,
    /// Directories that could not be read.
    pub unreadable: BTreeSet<PathBuf>,
}

/// What is remembered of a path between two looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    fingerprint: Fingerprint,
    since: Instant,
    told: Option<Fingerprint>,
    missing_since: Option<Instant>,
}

/// Something that the host should act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A path is new; it may not be still yet.
    Appeared(PathBuf),
    /// It is still, new or changed: take it up.
    Take(PathBuf, Fingerprint),
    /// It must not be taken up, and why.
    Refuse(PathBuf, String),
    /// It was removed.
    Gone(PathBuf),
}

/// The clocks at the time of a look.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The clock that never jumps.
    pub instant: Instant,
    /// The clock that files are dated with.
    pub wall: SystemTime,
}

/// What changed from `seen` to `scan`, and what to remember.
#[must_use]
pub fn diff(seen: &BTreeMap<PathBuf, Seen>, scan: &Scan, now: Now) -> (BTreeMap<PathBuf, Seen>, Vec<Change>) {
    let mut next = BTreeMap::new();
    let mut changes = Vec::new();
    for (path, found) in &scan.found {
        let before = seen.get(path);
        if before.is_none() {
            changes.push(Change::Appeared(path.clone()));
        }
        let unchanged = before.filter(|before| before.fingerprint == found.fingerprint);
        let since = unchanged.map_or(now.instant, |before| before.since);
        let mut told = before.and_then(|before| before.told);
        if told != Some(found.fingerprint) && is_still(found, since, now) {
            told = Some(found.fingerprint);
            changes.push(match &found.refusal {
                Some(why) => Change::Refuse(path.clone(), why.clone()),
                None => Change::Take(path.clone(), found.fingerprint),
            });
        }
        let fingerprint = found.fingerprint;
        next.insert(path.clone(), Seen { fingerprint, since, told, missing_since: None });
    }
    for (path, before) in seen.iter().filter(|(path, _)| !scan.found.contains_key(*path)) {
        let unreadable = path.parent().is_some_and(|parent| scan.unreadable.contains(parent));
        let missing_since = before.missing_since.unwrap_or(now.instant);
        if !unreadable && now.instant.duration_since(missing_since) >= STILL_FOR {
            changes.push(Change::Gone(path.clone()));
            continue;
        }
        let missing_since = (!unreadable).then_some(missing_since);
        next.insert(path.clone(), Seen { missing_since, ..before.clone() });
    }
    (next, changes)
}

/// Still is what was not touched for a while, by the file's own date or by our watching.
fn is_still(found: &Found, since: Instant, now: Now) -> bool {
    let by_date = now.wall.duration_since(found.changed_at).is_ok_and(|age| age >= STILL_FOR);
    by_date || now.instant.duration_since(since) >= STILL_FOR
}

/// Whether a look soon would show more: something is not still yet, or just went missing.
#[must_use]
pub fn is_unsettled(seen: &BTreeMap<PathBuf, Seen>) -> bool {
    seen.values().any(|seen| seen.missing_since.is_some() || seen.told != Some(seen.fingerprint))
}

/// Forgets that a path was told, so that the next look tells it again.
pub fn tell_again(seen: &mut BTreeMap<PathBuf, Seen>, path: &Path) {
    if let Some(seen) = seen.get_mut(path) {
        seen.told = None;
    }
}

/// Looks at the plugins directories. Blocks.
#[must_use]
pub fn scan(directories: &[PathBuf]) -> Scan {
    let mut scan = Scan::default();
    for directory in directories {
        let whole = match std::fs::metadata(directory) {
            Ok(meta) if meta.is_dir() => foreign(&meta, directory),
            Ok(_) => Some(format!("{} is not a directory", directory.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => {
                scan.unreadable.insert(directory.clone());
                continue;
            }
        };
        let Ok(entries) = std::fs::read_dir(directory) else {
            scan.unreadable.insert(directory.clone());
            continue;
        };
        for entry in entries {
            // Half a listing would make plugins look removed.
            let Ok(entry) = entry else {
                scan.unreadable.insert(directory.clone());
                break;
            };
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if let Some(mut found) = look(&entry.path()) {
                found.refusal = whole.clone().or_else(|| unnameable(&entry.path())).or(found.refusal);
                scan.found.insert(entry.path(), found);
            }
        }
    }
    scan
}

/// Looks at one path again, for example after it was copied. `None` when it is no plugin (any more). Blocks.
#[must_use]
pub fn look(path: &Path) -> Option<Found> {
    let own = std::fs::symlink_metadata(path).ok()?;
    let meta = std::fs::metadata(path).ok()?;
    let mut print = Print::new();
    let mut refusal = None;
    if own.is_symlink() {
        print.add(&own);
        refusal = foreign_target(path);
    }
    if meta.is_file() {
        if meta.mode() & 0o111 == 0 {
            return None;
        }
        print.add(&meta);
        refusal = refusal.or_else(|| foreign(&meta, path));
    } else if meta.is_dir() {
        let program = std::fs::metadata(path.join(DIRECTORY_PROGRAM)).ok()?;
        if !program.is_file() || program.mode() & 0o111 == 0 {
            return None;
        }
        refusal = refusal.or_else(|| foreign_program(path)).or(look_at_tree(path, &mut print));
    } else {
        return None;
    }
    Some(Found { fingerprint: Fingerprint(print.hasher.finish()), changed_at: print.newest, refusal })
}

/// Takes the whole tree into the fingerprint; the answer is the first reason to refuse it.
fn look_at_tree(root: &Path, print: &mut Print) -> Option<String> {
    let mut refusal = None;
    let mut open = vec![root.to_owned()];
    let mut count = 0;
    while let Some(directory) = open.pop() {
        let Ok(listing) = std::fs::read_dir(&directory) else {
            return Some(format!("{} cannot be read", directory.display()));
        };
        if let Ok(meta) = std::fs::symlink_metadata(&directory) {
            print.add(&meta);
            refusal = refusal.or_else(|| foreign(&meta, &directory));
        }
        let mut paths: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            count += 1;
            if count > MAX_TREE_ENTRIES {
                return Some(format!("it holds more than {MAX_TREE_ENTRIES} files"));
            }
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            path.hash(&mut print.hasher);
            print.add(&meta);
            if meta.is_dir() {
                open.push(path);
            } else if meta.is_symlink() {
                refusal = refusal.or_else(|| foreign_link_in_tree(root, &path));
            } else if meta.is_file() {
                refusal = refusal.or_else(|| foreign(&meta, &path));
            } else {
                refusal =
                    refusal.or_else(|| Some(format!("{} is neither a file nor a directory", path.display())));
            }
        }
    }
    refusal
}

/// Why a path cannot stand in records, which are text.
fn unnameable(path: &Path) -> Option<String> {
    path.to_str().is_none().then(|| format!("the path {} is not UTF-8; rename it", path.display()))
}

/// Why somebody else could change what stands there; `None` when only root and we can.
fn foreign(meta: &Metadata, path: &Path) -> Option<String> {
    let ours = rustix::process::geteuid().as_raw();
    let path = path.display();
    if meta.uid() != 0 && meta.uid() != ours {
        return Some(format!(
            "{path} belongs to user {}, who could change it; run `chown {ours} {path}`",
            meta.uid()
        ));
    }
    if meta.mode() & 0o022 != 0 {
        return Some(format!(
            "others may write {path} (mode {:04o}); run `chmod go-w {path}`",
            meta.mode() & 0o7777
        ));
    }
    None
}

/// The program itself must be in the tree: what a link leads to is neither hashed nor kept.
fn foreign_program(tree: &Path) -> Option<String> {
    let program = tree.join(DIRECTORY_PROGRAM);
    let leads_out = std::fs::read_link(&program).is_ok_and(|text| text.is_absolute());
    leads_out.then(|| format!("{} is a link; put the program itself there", program.display()))
}

/// A link is followed only when nobody else can put something else at its end.
fn foreign_target(link: &Path) -> Option<String> {
    let Ok(target) = std::fs::canonicalize(link) else {
        return Some(format!("{} leads nowhere", link.display()));
    };
    let parent = target.parent().unwrap_or(&target);
    let Ok(meta) = std::fs::metadata(parent) else {
        return Some(format!("{} cannot be looked at", parent.display()));
    };
    foreign(&meta, parent).map(|why| format!("{} leads to {}: {why}", link.display(), target.display()))
}

/// Inside a tree a link may stay inside, or lead to what only root can change (an interpreter, for example).
fn foreign_link_in_tree(root: &Path, link: &Path) -> Option<String> {
    let inside = std::fs::canonicalize(root).ok()?;
    let Ok(target) = std::fs::canonicalize(link) else {
        return Some(format!("{} leads nowhere", link.display()));
    };
    let absolute = std::fs::read_link(link).is_ok_and(|text| text.is_absolute());
    if target.starts_with(&inside) {
        // An absolute link would lead out of the copy, back into the original.
        return absolute
            .then(|| format!("{} is an absolute link into its own tree; make it relative", link.display()));
    }
    let meta = std::fs::metadata(&target).ok()?;
    if absolute && meta.uid() == 0 && meta.mode() & 0o022 == 0 {
        return None;
    }
    Some(format!(
        "{} leads out of the plugin to {}, which is not the system's",
        link.display(),
        target.display()
    ))
}

/// Collects a fingerprint.
struct Print {
    hasher: DefaultHasher,
    newest: SystemTime,
}

impl Print {
    fn new() -> Self {
        Self { hasher: DefaultHasher::new(), newest: SystemTime::UNIX_EPOCH }
    }

    fn add(&mut self, meta: &Metadata) {
        (meta.dev(), meta.ino(), meta.size(), meta.mode(), meta.uid()).hash(&mut self.hasher);
        (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()).hash(&mut self.hasher);
        // The change time cannot be set by hand as the modification time can.
        let seconds = u64::try_from(meta.ctime()).unwrap_or(0);
        let nanos = u32::try_from(meta.ctime_nsec()).unwrap_or(0);
        self.newest = self.newest.max(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos));
    }
}

/// Says when something happened below the plugins directories.
#[derive(Debug)]
pub struct Watch {
    watcher: Option<notify::RecommendedWatcher>,
    /// What is watched, or could not be, by the directory's inode.
    watched: BTreeMap<PathBuf, (u64, bool)>,
    /// Woken when something may have changed.
    pub wake: Arc<Notify>,
}

impl Watch {
    /// Begins to watch. Where that is not possible the regular looks remain.
    #[must_use]
    pub fn start() -> Self {
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let tell = move |event: notify::Result<notify::Event>| {
            // Our own looking is reported as access; reacting to it would never end.
            let is_access = event.as_ref().is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
            if !is_access {
                waker.notify_one();
            }
        };
        // What a link leads to is only looked at: watching it could mean to watch the whole machine.
        let config = notify::Config::default().with_follow_symlinks(false);
        let watcher = notify::RecommendedWatcher::new(tell, config)
            .inspect_err(
                |error| tracing::warn!(%error, "plugins directories cannot be watched, only looked at"),
            )
            .ok();
        Self { watcher, watched: BTreeMap::new(), wake }
    }

    /// Watches directories that appeared, or were replaced, since the last call.
    pub fn keep_up(&mut self, directories: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        for directory in directories {
            let Ok(meta) = std::fs::metadata(directory) else {
                self.watched.remove(directory);
                continue;
            };
            if self.watched.get(directory).is_some_and(|(inode, _)| *inode == meta.ino()) {
                continue;
            }
            let watching = watcher.watch(directory, RecursiveMode::Recursive);
            if let Err(error) = &watching {
                tracing::warn!(%error, directory = %directory.display(), "a directory is not watched, only looked at");
            }
            self.watched.insert(directory.clone(), (meta.ino(), watching.is_ok()));
        }
    }

    /// Forgets what could not be watched, so that it is tried again.
    pub fn try_again(&mut self) {
        self.watched.retain(|_, (_, works)| *works);
    }
}

#[cfg(test)]
mod tests;
