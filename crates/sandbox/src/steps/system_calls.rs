//! A filter of system calls: a list of what programs do not need and attackers do.
//!
//! A list of what is forbidden, because what Python, Node, Go and Rust do need changes with every release of theirs. Most of
//! it is refused like a missing permission, so that programs take their other way. Calls of another table (32-bit, x32) kill.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls with the names that they have in documentation.
macro_rules! calls {
    ($($name:ident,)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Calls that are refused whatever their arguments are.
const REFUSED: &[(&str, c_long)] = calls![
    // mounts and roots
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    // namespaces
    SYS_unshare,
    SYS_setns,
    // other processes
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_kcmp,
    // rarely used parts of the kernel with a history
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_fanotify_init,
    SYS_lookup_dcookie,
    // the machine
    SYS_kexec_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_acct,
    SYS_syslog,
    SYS_vhangup,
    SYS_quotactl,
    SYS_sethostname,
    SYS_setdomainname,
    // files by number instead of by path
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[(&str, c_long)] = calls![
    SYS_kexec_file_load,
    SYS_iopl,
    SYS_ioperm,
    SYS_uselib,
    SYS_ustat,
    SYS_sysfs,
    SYS__sysctl,
    SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[(&str, c_long)] = &[];

/// Families of sockets that programs use: files, IPv4, IPv6, and the kernel's own answers about addresses.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Multipath TCP, which rules for TCP do not see.
const IPPROTO_MPTCP: u64 = 262;

/// The kind of a socket without the flags that stand beside it.
const SOCKET_KIND: u64 = 0xf;

/// Flags with which a call makes namespaces.
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Orders to a terminal that put words into its input.
const TERMINAL_INPUT: [u64; 2] = [0x5412, 0x541c];

/// Question of `personality` for the present one.
const PERSONALITY_ASK: u64 = 0xffff_ffff;

/// Bits of a mode that make a file run as its owner.
const SET_ID: [u64; 2] = [0o4000, 0o2000];

/// Puts the filters in force, for this process and all that it starts. They cannot be taken off.
pub(super) fn filter(internet: bool) -> io::Result<()> {
    let programs = compile(internet).map_err(io::Error::other)?;
    for program in &programs {
        seccompiler::apply_filter(program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// What the filters refuse, in words.
pub(crate) fn rules(internet: bool) -> Vec<String> {
    let refused = REFUSED.iter().chain(REFUSED_HERE).filter_map(|(name, _)| name.strip_prefix("SYS_"));
    let mut rules = vec![
        format!("system calls that are refused: {}", refused.collect::<Vec<_>>().join(", ")),
        "system calls that seem not to exist, so that libraries take the older ones: clone3, openat2"
            .to_owned(),
        "clone: no new namespaces; personality: only the present one; ioctl: nothing into a terminal's input"
            .to_owned(),
        "socket: unix, IPv4, IPv6 and netlink only; no raw ones, no multipath TCP".to_owned(),
        "chmod, open, mknod and their likes: no set-user-ID or set-group-ID bit, no devices".to_owned(),
        "calls of another table (32-bit, x32) end the program".to_owned(),
    ];
    if !internet {
        rules.push("socket: no IPv4 and no IPv6, because there is no network namespace here".to_owned());
    }
    rules
}

/// One program for each answer.
fn compile(internet: bool) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let refused = SeccompAction::Errno(errno(libc::EPERM));
    let missing = SeccompAction::Errno(errno(libc::ENOSYS));
    // Their arguments stand in a structure, which cannot be read here. Libraries then use the older calls.
    let unknown: Rules = [libc::SYS_clone3, libc::SYS_openat2].map(|call| (call, Vec::new())).into();
    let mut programs = vec![program(unknown, missing)?, program(forbidden(internet)?, refused)?];
    if cfg!(target_arch = "x86_64") {
        programs.push(without_x32());
    }
    Ok(programs)
}

fn program(rules: Rules, answer: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, answer, arch)?.try_into()
}

fn errno(number: libc::c_int) -> u32 {
    number.unsigned_abs()
}

fn forbidden(internet: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().chain(REFUSED_HERE).map(|(_, call)| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, any(NEW_NAMESPACES.map(|flag| bit(0, u64::from(flag.unsigned_abs()))))?);
    rules.insert(libc::SYS_socket, sockets(internet)?);
    rules.insert(libc::SYS_ioctl, any(TERMINAL_INPUT.map(|order| is(1, order)))?);
    rules.insert(libc::SYS_personality, vec![all(vec![isnt(0, 0)?, isnt(0, PERSONALITY_ASK)?])?]);
    rules.insert(libc::SYS_fchmod, any(SET_ID.map(|mode| bit(1, mode)))?);
    rules.insert(libc::SYS_fchmodat, any(SET_ID.map(|mode| bit(2, mode)))?);
    rules.insert(SYS_FCHMODAT2, any(SET_ID.map(|mode| bit(2, mode)))?);
    rules.insert(libc::SYS_openat, created(2, 3)?);
    rules.insert(libc::SYS_mknodat, devices(2)?);
    #[cfg(target_arch = "x86_64")]
    {
        rules.insert(libc::SYS_chmod, any(SET_ID.map(|mode| bit(1, mode)))?);
        rules.insert(libc::SYS_creat, any(SET_ID.map(|mode| bit(1, mode)))?);
        rules.insert(libc::SYS_open, created(1, 2)?);
        rules.insert(libc::SYS_mknod, devices(1)?);
    }
    Ok(rules)
}

/// Its number is the same on every architecture that has it.
const SYS_FCHMODAT2: i64 = 452;

fn sockets(internet: bool) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let unknown = FAMILIES.iter().map(|family| isnt(0, u64::from(family.unsigned_abs())));
    let mut refused = vec![
        all(unknown.collect::<Result<_, _>>()?)?,
        all(vec![masked(1, SOCKET_KIND, u64::from(libc::SOCK_RAW.unsigned_abs()))?, internet_family()?])?,
        all(vec![is(2, IPPROTO_MPTCP)?])?,
    ];
    if !internet {
        refused.extend(any([libc::AF_INET, libc::AF_INET6].map(|f| is(0, u64::from(f.unsigned_abs()))))?);
    }
    Ok(refused)
}

/// Netlink sockets are raw ones by name, and the C library uses them to learn addresses.
fn internet_family() -> Result<SeccompCondition, seccompiler::BackendError> {
    isnt(0, u64::from(libc::AF_NETLINK.unsigned_abs()))
}

/// A file that is made as one that runs as its owner. The mode counts only where the flags say that a file is made.
fn created(flags: u8, mode: u8) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let create = u64::from(libc::O_CREAT.unsigned_abs());
    SET_ID.iter().map(|set| all(vec![bit(flags, create)?, bit(mode, *set)?])).collect()
}

fn devices(mode: u8) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let kinds =
        [libc::S_IFCHR, libc::S_IFBLK].map(|kind| masked(mode, u64::from(libc::S_IFMT), u64::from(kind)));
    any(kinds)
}

fn any<const N: usize>(
    conditions: [Result<SeccompCondition, seccompiler::BackendError>; N],
) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    conditions.into_iter().map(|condition| all(vec![condition?])).collect()
}

fn all(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions)
}

fn condition(
    argument: u8,
    how: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    // All of these arguments are ints in the kernel, which ignores the upper half of the register.
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    condition(argument, SeccompCmpOp::Eq, value)
}

fn isnt(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    condition(argument, SeccompCmpOp::Ne, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(mask), value)
}

fn bit(argument: u8, bit: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    masked(argument, bit, bit)
}

/// Calls of the x32 table have this bit in their number and are otherwise taken for those of the 64-bit one.
const X32_BIT: u32 = 0x4000_0000;

/// Kills whoever makes a call of the x32 table.
fn without_x32() -> BpfProgram {
    // Load the number; if it is below the bit, skip the next one; kill; allow.
    let code = |code: u32| u16::try_from(code).unwrap_or_default();
    vec![
        sock_filter { code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), jt: 0, jf: 0, k: 0 },
        sock_filter { code: code(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K), jt: 0, jf: 1, k: X32_BIT },
        sock_filter {
            code: code(libc::BPF_RET | libc::BPF_K),
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_KILL_PROCESS,
        },
        sock_filter { code: code(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_fit_the_kernel() {
        for program in [true, false].into_iter().flat_map(|internet| compile(internet).unwrap()) {
            assert!(!program.is_empty() && program.len() < 4096, "{}", program.len());
        }
    }
}
