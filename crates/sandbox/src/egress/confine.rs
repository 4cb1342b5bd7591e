//! What the process of the way out gives up: its user, all capabilities but that of low ports, and all system calls but those
//! that work with sockets and memory. It can open no file.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::plan::{Plan, Step};
use crate::steps;

/// The only thing that an ordinary process may not: listening on port 443.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// Everything that it calls, whatever the arguments are. `socket` stands apart.
const ALLOWED: &[c_long] = &[
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_ppoll,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Families of its sockets: the program's side, and the host's.
const FAMILIES: [libc::c_int; 2] = [libc::AF_INET, libc::AF_UNIX];

/// Gives up what the plan gives up for the program, and more.
pub(super) fn give_up(plan: &Plan) -> io::Result<()> {
    for step in &plan.steps {
        match step {
            Step::BecomeUser { uid, gid } => steps::become_user(*uid, *gid)?,
            Step::DropCapabilities => steps::keep_capabilities(KEPT)?,
            Step::NoNewPrivileges => steps::give_up_new_privileges()?,
            _ => {}
        }
    }
    // A change of the user clears it, so it comes after that.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if plan.steps.iter().any(|step| matches!(step, Step::SystemCalls { .. })) {
        // Without new privileges given up the kernel takes filters of nobody but administrators.
        steps::give_up_new_privileges()?;
        let filter = filter().map_err(io::Error::other)?;
        seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
    }
    Ok(())
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    let families = FAMILIES.map(|family| {
        let family = u64::from(family.unsigned_abs());
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)?])
    });
    rules.insert(libc::SYS_socket, families.into_iter().collect::<Result<_, _>>()?);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_fits_the_kernel() {
        let filter = filter().unwrap();
        assert!(!filter.is_empty() && filter.len() < 4096, "{}", filter.len());
    }
}
