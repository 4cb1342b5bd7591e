//! The user of the operating system that each plugin runs as.
//!
//! The owner of a plugin's data directory is the record of it: it lasts as long as the data does, and nothing can disagree with it.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Gid, Uid};
use sha2::{Digest, Sha256};

/// Users of one host: more than any host has plugins.
pub(super) const OF_ONE_HOST: u32 = 1000;

/// The last of a host's users are for inspections, of which a few run at the same time.
const FOR_INSPECTIONS: u32 = 16;

/// Hosts on one machine whose users are apart, as long as their places in this number differ.
const HOSTS: u32 = 60_000;

/// The users of one host.
#[derive(Debug)]
pub(crate) struct Users {
    data_root: PathBuf,
    /// All that hosts with this setting may give, and how many these are.
    first: u32,
    many: u32,
    /// The first of this host's own.
    own: u32,
    /// One at a time looks for a free one and takes it.
    giving: Mutex<()>,
}

impl Users {
    /// The users of the host whose plugins' data lies in `data_root`. Another place gives other users, so that two hosts on one
    /// machine hardly share any. Where an operator says which user is the first, there may be few, and they are those from
    /// there on.
    pub(crate) fn of(data_root: PathBuf, first: u32) -> Self {
        let digest = Sha256::digest(data_root.as_os_str().as_encoded_bytes());
        let place = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) % HOSTS;
        let (own, many) = match first {
            super::FIRST_USER => (first + place * OF_ONE_HOST, HOSTS * OF_ONE_HOST),
            chosen => (chosen, OF_ONE_HOST),
        };
        Self { data_root, first, many, own, giving: Mutex::new(()) }
    }

    /// A user that nothing belongs to, for a trial and for inspection number `label`.
    pub(crate) fn of_inspection(&self, label: u64) -> (u32, u32) {
        let number = u32::try_from(label % u64::from(FOR_INSPECTIONS)).unwrap_or_default();
        let user = self.own + OF_ONE_HOST - FOR_INSPECTIONS + number;
        (user, user)
    }

    /// The user of a plugin, whose data directory exists. It gets one when it has none, and everything in the directory with it.
    ///
    /// # Errors
    /// What the system says; also when all are taken.
    pub(crate) fn give(&self, data: &Path) -> io::Result<(u32, u32)> {
        let _one = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = std::fs::symlink_metadata(data)?.uid();
        if self.is_given(owner) {
            return Ok((owner, owner));
        }
        let taken: BTreeSet<u32> = std::fs::read_dir(&self.data_root)?
            .flatten()
            .filter_map(|e| Some(e.metadata().ok()?.uid()))
            .collect();
        let mut free =
            (self.own..self.own + OF_ONE_HOST - FOR_INSPECTIONS).filter(|user| !taken.contains(user));
        let user = free.next().ok_or_else(|| {
            io::Error::other("all users of this host are taken; remove data of plugins that are gone")
        })?;
        // The directory itself comes last: until then everything is done again.
        own_all(data, (user, user))?;
        Ok((user, user))
    }

    /// Gives a plugin's directory back to the host's own user, where plugins do not run as users of their own any more.
    pub(crate) fn take_back(&self, data: &Path) -> io::Result<()> {
        let own = rustix::process::geteuid().as_raw();
        if own != 0 || std::fs::symlink_metadata(data)?.uid() == own {
            return Ok(());
        }
        own_all(data, (own, rustix::process::getegid().as_raw()))
    }

    fn is_given(&self, user: u32) -> bool {
        user.checked_sub(self.first).is_some_and(|place| place < self.many)
    }
}

/// Makes a user the owner of one thing, a link itself and not what it leads to.
pub(crate) fn own(path: &Path, (user, group): (u32, u32)) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    Ok(rustix::fs::chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Makes a user the owner of a directory and everything in it, the directory last. It is done while no process of the plugin runs.
fn own_all(directory: &Path, user: (u32, u32)) -> io::Result<()> {
    let mut open = vec![directory.to_owned()];
    let mut directories = Vec::new();
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { open.push(entry.path()) } else { own(&entry.path(), user)? }
        }
        directories.push(at);
    }
    directories.iter().rev().try_for_each(|at| own(at, user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_keeps_its_user_and_no_other_plugin_has_the_same() {
        if !rustix::process::geteuid().is_root() {
            return temps_testkit::skip(
                "a_plugin_keeps_its_user_and_no_other_plugin_has_the_same",
                "only root can give files to other users",
            );
        }
        let root = tempfile::tempdir().unwrap();
        let data = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.join("below")).unwrap();
            std::fs::write(path.join("below/file"), "").unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path.join("link")).unwrap_or_default();
            path
        };
        let before = std::fs::metadata("/etc/passwd").unwrap().uid();
        let users = Users::of(root.path().to_owned(), super::super::FIRST_USER);
        let (a, b) = (users.give(&data("a")).unwrap(), users.give(&data("b")).unwrap());
        assert_ne!(a, b);
        assert_eq!(std::fs::metadata("/etc/passwd").unwrap().uid(), before, "a link was followed");
        assert_eq!(std::fs::metadata(root.path().join("a/below/file")).unwrap().uid(), a.0);
        // Another host on the same data, for example after an update.
        let again = Users::of(root.path().to_owned(), super::super::FIRST_USER);
        assert_eq!((again.give(&data("a")).unwrap(), again.give(&data("b")).unwrap()), (a, b));
        assert!(![a, b].contains(&users.of_inspection(3)));
        // An operator who names the first user knows that those from there on are there, and of no others.
        let chosen = Users::of(root.path().to_owned(), 70_000);
        let all =
            [chosen.give(&data("a")).unwrap(), chosen.give(&data("b")).unwrap(), chosen.of_inspection(3)];
        assert!(all.iter().all(|(user, _)| (70_000..71_000).contains(user)), "{all:?}");
    }
}
