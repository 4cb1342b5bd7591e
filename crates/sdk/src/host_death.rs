//! Notices that the host has died, so that no plugin outlives it.
//!
//! The host is this process's parent. Inside a pid namespace the parent is the namespace's first process, which
//! dies with the host and takes everything along; there this is only a second net. A parent in another pid
//! namespace cannot be named (its id reads as 0), so there is nothing to watch; the same holds for process 1 of the
//! whole machine, which ends with it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often the parent's id is compared where the kernel cannot report its end.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The process that started this one, remembered at the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent(Option<Pid>);

impl Parent {
    /// Remembers the parent. Called as early as possible: afterwards any change means that the host died.
    pub(crate) fn remember() -> Self {
        Self(getppid())
    }

    /// Returns once the parent has died; never when there is no parent that could be watched.
    pub(crate) async fn death(self) {
        let Some(parent) = self.0 else { return std::future::pending().await };
        let watched = pidfd_open(parent, PidfdFlags::empty()).ok().and_then(watch);
        // The parent may have died, and its id may name another process by now, before it could be watched.
        if getppid() != Some(parent) {
            return;
        }
        if let Some(descriptor) = watched
            && descriptor.readable().await.is_ok()
        {
            return;
        }
        while getppid() == Some(parent) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

#[expect(
    deprecated,
    reason = "the safe constructor is deprecated for types whose descriptor may change; an OwnedFd's never does, and \
              its replacement is unsafe"
)]
fn watch(descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE).ok()
}
