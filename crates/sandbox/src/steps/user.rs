//! A user that nothing else on the machine runs as.

use std::io;

use rustix::process::{Gid, Uid};

/// Becomes this user for good, in this group alone.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::other("a program never runs as user 0 or group 0"));
    }
    // Capabilities outlive the change until they are dropped by a step of their own: emptying the bounding set needs one.
    rustix::thread::set_keep_capabilities(true)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}
