//! The place in the machine's control groups that belongs to one host, and the groups of its programs in it.
//!
//! Each host has a directory of its own in each hierarchy, `temps-` and a random word, which it holds locked and which stays empty.
//! Beside it, and not in it, are those of its programs: its name, a dot, and the program's. So the kernel weighs each program against
//! the host itself and whatever else runs there, and not all programs together: one of them can be put behind the others *and* the
//! host. Directories of a name that nobody holds were left by a host that was killed; their processes are ended and they are
//! removed. No other directory is touched.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use super::background::{Background, BalanceChange, Program};
use super::group::{self, Group, Place};
use super::hierarchy::{self, Hierarchy, Mechanism};
use super::{GroupLimits, LAUNCHER_TASKS};
use crate::layers::Layer;

/// Begins the name of every directory that is ours.
const PREFIX: &str = "temps-";

/// Where this process moves to, when its own group is to have groups below it: version 2 wants processes in leaves only.
const OWN_LEAF: &str = "temps-host";

/// Tries to make the host's own directory, should another host sweep it between its making and its locking.
const MAKE_TRIES: u32 = 5;

/// Controllers that limits need.
const WANTED: [&str; 3] = ["memory", "cpu", "pids"];

/// Keeps programs in the background off some processors. Nothing else needs it, so a machine may lack it.
const CPUSET: &str = "cpuset";

/// The groups of one host. Cheap to clone; the last one removes its directories.
#[derive(Debug, Clone)]
pub struct Groups {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bases: Vec<Base>,
    /// Why there is no place in a hierarchy: its controllers (none for version 2), and the reason.
    refused: Vec<(Vec<String>, String)>,
    counter: AtomicU64,
    background: Background,
}

/// The host's directory in one hierarchy.
#[derive(Debug)]
struct Base {
    unified: bool,
    controllers: Vec<String>,
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

/// Why a group cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the control group {path} cannot be used: {source}", path = path.display())]
pub struct GroupsError {
    /// What failed.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl Groups {
    /// Makes the host's place wherever this machine allows it, and sweeps what killed hosts left there. Blocks.
    ///
    /// It never fails: what is not to be had is told by [`Groups::refused`].
    #[must_use]
    pub fn open() -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let found = hierarchy::find(&read("mountinfo"), &read("cgroup"));
        let mut refused = Vec::new();
        let useful = |hierarchy: &&Hierarchy| {
            let useful = |c: &String| is_wanted(c) || c == "cpuacct" || c == CPUSET;
            hierarchy.unified || hierarchy.controllers.iter().any(useful)
        };
        let mut bases = Vec::new();
        for hierarchy in found.iter().filter(useful) {
            match open_in(hierarchy) {
                Ok(base) => bases.push(base),
                Err(error) => refused.push((hierarchy.controllers.clone(), error.to_string())),
            }
        }
        let cpuset = bases.iter().find(|base| base.has(CPUSET));
        let background = Background::new(cpuset.and_then(Base::processors).as_deref());
        let inner = Inner { bases, refused, counter: AtomicU64::new(0), background };
        Self { inner: Arc::new(inner) }
    }

    /// What enforces the limit of this layer here; `None` where no group can.
    #[must_use]
    pub fn mechanism(&self, layer: Layer) -> Option<Mechanism> {
        let controller = controller(layer)?;
        let base = self.inner.bases.iter().find(|base| base.has(controller))?;
        Some(if base.unified { Mechanism::GroupV2 } else { Mechanism::GroupV1 })
    }

    /// Why no group keeps the limit of this layer; `None` where one does.
    #[must_use]
    pub fn refused(&self, layer: Layer) -> Option<String> {
        if self.mechanism(layer).is_some() {
            return None;
        }
        let controller = controller(layer)?;
        let refused = &self.inner.refused;
        let own = refused.iter().find(|(controllers, _)| controllers.iter().any(|c| c == controller));
        let reason = own.or_else(|| refused.iter().find(|(controllers, _)| controllers.is_empty()));
        let none = || format!("no control group here has the controller {controller}");
        Some(reason.map_or_else(none, |(_, reason)| reason.clone()))
    }

    /// Makes a group with these limits for one program. The quota of processor time is not among them yet, because a start
    /// needs more than running does: see [`Group::apply_cpu_quota`].
    ///
    /// # Errors
    /// [`GroupsError`]; nothing is left of the group then.
    pub fn create(&self, name: &str, limits: &GroupLimits) -> Result<Group, GroupsError> {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        let leaf = format!("{}-{number}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        // The group removes itself when something fails on the way.
        let mut group = Group::new(self.clone(), number);
        for base in &self.inner.bases {
            if let Some(place) = base.make(&leaf)? {
                group.add(place);
            }
        }
        if let Some(memory) = limits.memory {
            group.set("memory", "memory.max", "memory.limit_in_bytes", memory)?;
            group.without_swap(memory)?;
        }
        if let Some(tasks) = limits.tasks {
            group.set("pids", "pids.max", "pids.max", tasks + LAUNCHER_TASKS)?;
        }
        self.inner.background.add(number, Program::of(name, &group));
        Ok(group)
    }

    /// Looks at what each program made of its processor time since the last look, and puts those that always use it up behind all
    /// others, which is taken back when they have not done so for a while. Those that use it up on processes which they may not have
    /// keep a part of it. To be called every [`super::LOOK_EVERY`]. It reads two files of the kernel per program, some microseconds each.
    ///
    /// Returns the names of those for which something changed.
    pub fn balance(&self) -> Vec<(String, BalanceChange)> {
        self.inner.background.balance()
    }

    pub(super) fn background(&self) -> &Background {
        &self.inner.background
    }
}

impl Base {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// Makes the directory of a program; `None` where it would be of no use and is not needed.
    fn make(&self, leaf: &str) -> Result<Option<Place>, GroupsError> {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{leaf}"));
        let path = PathBuf::from(path);
        std::fs::create_dir(&path).map_err(|source| GroupsError { path: path.clone(), source })?;
        // Version 1 lets nobody in before these two are said.
        if !self.unified && self.has(CPUSET) && inherit(&path, &["cpuset.cpus", "cpuset.mems"]).is_err() {
            let _ = std::fs::remove_dir(&path);
            return Ok(None);
        }
        Ok(Some(Place { unified: self.unified, controllers: self.controllers.clone(), path }))
    }

    /// The processors that programs may have, as the kernel lists them.
    fn processors(&self) -> Option<String> {
        let file = if self.unified { "cpuset.cpus.effective" } else { "cpuset.cpus" };
        std::fs::read_to_string(self.path.parent()?.join(file)).ok()
    }
}

/// Says in a group what is said in the one above it.
fn inherit(path: &Path, files: &[&str]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
    files.iter().try_for_each(|file| {
        let inherited = std::fs::read_to_string(parent.join(file))?;
        std::fs::write(path.join(file), inherited)
    })
}

impl Drop for Inner {
    fn drop(&mut self) {
        for base in &self.bases {
            // Programs are gone before their host is; what is not is swept by the next host.
            let _ = std::fs::remove_dir(&base.path);
        }
    }
}

/// The controller that keeps the limit of a layer.
pub(super) fn controller(layer: Layer) -> Option<&'static str> {
    match layer {
        Layer::Memory => Some("memory"),
        Layer::Cpu => Some("cpu"),
        Layer::Tasks => Some("pids"),
        _ => None,
    }
}

fn is_wanted(controller: &str) -> bool {
    WANTED.contains(&controller)
}

/// Makes the host's directory in one hierarchy.
fn open_in(hierarchy: &Hierarchy) -> Result<Base, GroupsError> {
    let parent = if hierarchy.unified { prepare_unified(hierarchy)? } else { hierarchy.own.clone() };
    let controllers = if hierarchy.unified {
        let failed = |source| GroupsError { path: parent.clone(), source };
        let mut controllers = enable(&parent, &WANTED).map_err(failed)?;
        controllers.extend(enable(&parent, &[CPUSET]).unwrap_or_default());
        controllers
    } else {
        hierarchy.controllers.clone()
    };
    sweep(&parent);
    let (path, lock) = make_locked(&parent)?;
    Ok(Base { unified: hierarchy.unified, controllers, path, _lock: lock })
}

/// The directory of version 2 below which groups can have controllers.
///
/// The top of the machine's hierarchy may have processes beside groups. Any other group may not, so this process moves out of
/// the way, and does so only when it is alone there: what belongs to others stays where it is.
fn prepare_unified(hierarchy: &Hierarchy) -> Result<PathBuf, GroupsError> {
    let failed = |path: &Path, source: io::Error| GroupsError { path: path.to_owned(), source };
    let is_top = |path: &Path| !path.join("cgroup.type").exists();
    if is_top(&hierarchy.own) {
        enable(&hierarchy.own, &WANTED).map_err(|e| failed(&hierarchy.own, e))?;
        return Ok(hierarchy.own.clone());
    }
    match leave_for_leaf(&hierarchy.own) {
        Ok(parent) => Ok(parent),
        // Root may also use the top, as container managers do, when its own group is shared with others.
        Err(_) if rustix::process::geteuid().is_root() && is_top(&hierarchy.mount) => {
            enable(&hierarchy.mount, &WANTED).map_err(|e| failed(&hierarchy.mount, e))?;
            Ok(hierarchy.mount.clone())
        }
        Err(error) => Err(failed(&hierarchy.own, error)),
    }
}

fn leave_for_leaf(own: &Path) -> io::Result<PathBuf> {
    // A second host of the same process, or one that was started by another, is in a leaf already.
    if own.file_name().is_some_and(|name| name == OWN_LEAF)
        && let Some(parent) = own.parent()
    {
        return Ok(parent.to_owned());
    }
    let leaf = own.join(OWN_LEAF);
    let this = std::process::id().to_string();
    let others = std::fs::read_to_string(own.join("cgroup.procs"))?;
    if others.lines().any(|pid| pid != this) {
        return Err(io::Error::other(
            "the group has other processes beside this host; run it as a service of its own, with Delegate=yes",
        ));
    }
    match std::fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::write(leaf.join("cgroup.procs"), &this)?;
    if let Err(error) = enable(own, &WANTED) {
        // Back to where it was.
        let _ = std::fs::write(own.join("cgroup.procs"), &this);
        let _ = std::fs::remove_dir(&leaf);
        return Err(error);
    }
    Ok(own.to_owned())
}

/// Gives the groups below `path` the wanted controllers that it has itself, and returns which those are.
fn enable(path: &Path, wanted: &[&str]) -> io::Result<Vec<String>> {
    let there = std::fs::read_to_string(path.join("cgroup.controllers"))?;
    let enabled: Vec<String> =
        there.split_whitespace().filter(|c| wanted.contains(c)).map(str::to_owned).collect();
    let already = std::fs::read_to_string(path.join("cgroup.subtree_control"))?;
    for controller in enabled.iter().filter(|c| !already.split_whitespace().any(|a| a == c.as_str())) {
        std::fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(enabled)
}

/// Makes a directory that no other host has, and locks it.
fn make_locked(parent: &Path) -> Result<(PathBuf, File), GroupsError> {
    let mut last = io::Error::other("another host removed it again and again");
    for attempt in 0..MAKE_TRIES {
        let path = parent.join(format!("{PREFIX}{}", random_word(attempt)));
        let made = std::fs::create_dir(&path).and_then(|()| lock(&path));
        match made {
            Ok(Some(lock)) => return Ok((path, lock)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            Err(source) => return Err(GroupsError { path: parent.to_owned(), source }),
        }
    }
    Err(GroupsError { path: parent.to_owned(), source: last })
}

/// Locks a directory; `None` when somebody else holds it, or it is not there any more.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let same =
        std::fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|then| now.ino() == then.ino()));
    Ok(same.then_some(file))
}

/// Different for each host of each start; what is not different is found out by making the directory.
fn random_word(attempt: u32) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}-{attempt}", std::process::id(), now.as_nanos())
}

/// Ends and removes what hosts left that nobody holds any more.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let ours: BTreeSet<String> = directories
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX) && name != OWN_LEAF)
        .collect();
    let host_of = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    for host in ours.iter().map(|name| host_of(name)).collect::<BTreeSet<_>>() {
        let path = parent.join(&host);
        // One that is not there any more had programs that could not be ended in time.
        let _held = match lock(&path) {
            Ok(Some(held)) => Some(held),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            _ => continue,
        };
        for name in ours.iter().filter(|name| host_of(name) == host && **name != host) {
            group::end(&parent.join(name));
        }
        group::end(&path);
    }
}
