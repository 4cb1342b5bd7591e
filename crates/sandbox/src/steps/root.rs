//! A root directory of its own: empty but for what is listed.
//!
//! Everything is opened as a detached tree first, so that nothing depends on what a later mount hides. Then an empty file
//! system becomes the root, and the old root goes away altogether.
#![expect(unsafe_code, reason = "changing the attributes of a whole tree of mounts has no safe wrapper")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::hostname_namespace::HOSTNAME;
use super::system::{DEVICES, NETWORK_SETTINGS, PROGRAMS, SETTINGS};
use crate::plan::{Access, Root};

/// Where the new root is built. What is there already is hidden in this namespace only, and was opened before.
const STAGES: [&str; 4] = ["/tmp", "/run", "/mnt", "/var"];

/// Room for directories, links and the few files that are made up; in bytes.
const ROOT_MAX: u64 = 1 << 20;

/// Files and directories that may be made in each temporary file system.
const TMP_INODES: u64 = 16 * 1024;

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NO_EXECUTION: u64 = libc::MOUNT_ATTR_NOEXEC;
const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;
const NO_SET_USER_ID: u64 = libc::MOUNT_ATTR_NOSUID;

/// Something of the old root, held until it has a place in the new one.
struct Tree {
    fd: OwnedFd,
    target: PathBuf,
    is_directory: bool,
}

/// Changes the root for this process and all below it.
pub(super) fn change(root: &Root) -> io::Result<()> {
    let trees = open_all(root)?;
    let stage = STAGES.iter().find(|dir| Path::new(dir).is_dir()).ok_or(Errno::NOENT)?;
    let stage = Path::new(stage);
    mount_tmpfs(stage, ROOT_MAX, 0o755)?;
    for (directory, mode) in [("dev", 0o755), ("etc", 0o755), ("tmp", 0o755), ("dev/shm", 0o755)] {
        make_directory(&stage.join(directory), mode)?;
    }
    for directory in ["tmp", "dev/shm"] {
        mount_tmpfs(&stage.join(directory), root.tmp_max, 0o1777)?;
    }
    make_links(stage)?;
    for tree in &trees {
        attach(tree, stage)?;
    }
    write_settings(stage, root)?;
    pivot(stage)?;
    let slash = rustix::fs::open("/", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, 0.into())?;
    set_attributes(slash.as_fd(), READ_ONLY | NO_EXECUTION | NO_DEVICES | NO_SET_USER_ID, false)
}

/// Opens what the new root is made of, parents before children.
fn open_all(root: &Root) -> io::Result<Vec<Tree>> {
    let mut trees = Vec::new();
    for path in PROGRAMS.iter().filter(|path| Path::new(path).is_dir() && !Path::new(path).is_symlink()) {
        trees.push(open(Path::new(path), READ_ONLY | NO_DEVICES | NO_SET_USER_ID)?);
    }
    let network = if root.network_files { &NETWORK_SETTINGS[..] } else { &[] };
    for path in SETTINGS.iter().chain(network).filter(|path| Path::new(path).exists()) {
        trees.push(open(Path::new(path), READ_ONLY | NO_EXECUTION | NO_DEVICES | NO_SET_USER_ID)?);
    }
    for name in DEVICES {
        trees.push(open(&Path::new("/dev").join(name), NO_EXECUTION | NO_SET_USER_ID)?);
    }
    // Its own one where a step before this one could mount it, and the machine's otherwise.
    trees.push(open(Path::new("/proc"), NO_EXECUTION | NO_DEVICES | NO_SET_USER_ID)?);
    let mut mounts: Vec<_> = root.mounts.iter().collect();
    mounts.sort_by_key(|mount| mount.path.components().count());
    for mount in mounts {
        let attributes = match mount.access {
            Access::Program => READ_ONLY,
            Access::Data => NO_EXECUTION,
        };
        trees.push(open(&mount.path, attributes | NO_DEVICES | NO_SET_USER_ID)?);
    }
    Ok(trees)
}

fn open(path: &Path, attributes: u64) -> io::Result<Tree> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let fd = rustix::mount::open_tree(CWD, path, flags).map_err(|error| named(error.into()))?;
    set_attributes(fd.as_fd(), attributes, true).map_err(named)?;
    let is_directory = fs::metadata(path).map_err(named)?.is_dir();
    Ok(Tree { fd, target: path.to_owned(), is_directory })
}

fn attach(tree: &Tree, stage: &Path) -> io::Result<()> {
    let target = below(stage, &tree.target);
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", tree.target.display()));
    if !target.exists() {
        let directory = if tree.is_directory { Some(target.as_path()) } else { target.parent() };
        if let Some(directory) = directory {
            make_directory(directory, 0o755).map_err(named)?;
        }
        if !tree.is_directory {
            fs::File::create(&target).map_err(named)?;
        }
    }
    rustix::mount::move_mount(&tree.fd, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| named(error.into()))
}

/// Links of the system's directories, and those that programs expect in `/dev`.
fn make_links(stage: &Path) -> io::Result<()> {
    for path in PROGRAMS {
        if let Ok(target) = fs::read_link(path) {
            symlink(target, below(stage, Path::new(path)))?;
        }
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        symlink(target, stage.join("dev").join(name))?;
    }
    Ok(())
}

/// Who there is, and how names are looked up.
fn write_settings(stage: &Path, root: &Root) -> io::Result<()> {
    let (uid, gid) = root.user;
    let etc = stage.join("etc");
    let mut users = String::from("root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n");
    let mut groups = String::from("root:x:0:\n");
    if uid != 0 {
        users += &format!("plugin:x:{uid}:{gid}:plugin:/nonexistent:/usr/sbin/nologin\n");
        groups += &format!("plugin:x:{gid}:\n");
    }
    write_new(&etc.join("passwd"), &users)?;
    write_new(&etc.join("group"), &groups)?;
    write_new(&etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n")?;
    if !root.network_files {
        let server = crate::egress::NAME_SERVER.ip();
        write_new(&etc.join("resolv.conf"), &format!("nameserver {server}\n"))?;
    }
    if !etc.join("hosts").exists() {
        write_new(&etc.join("hosts"), &format!("127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n"))?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o444))
}

/// The umask of the host is no matter of the new root.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(parent, mode)?;
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn mount_tmpfs(target: &Path, size: u64, mode: u32) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let data = CString::new(format!("size={size},nr_inodes={TMP_INODES},mode={mode:o}"))?;
    Ok(rustix::mount::mount("tmpfs", target, "tmpfs", flags, Some(data.as_c_str()))?)
}

/// Puts the new root in the place of the old one, which ends up on top of it and is taken off.
fn pivot(stage: &Path) -> io::Result<()> {
    rustix::process::chdir(stage)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

fn set_attributes(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    // SAFETY: a structure of plain numbers, for which zeros are valid.
    let mut wanted: libc::mount_attr = unsafe { std::mem::zeroed() };
    wanted.attr_set = attributes;
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty text with its zero, and the structure lives through the call, whose size is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn below(stage: &Path, path: &Path) -> PathBuf {
    stage.join(path.strip_prefix("/").unwrap_or(path))
}
