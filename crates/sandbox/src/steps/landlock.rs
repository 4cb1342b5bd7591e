//! Landlock: the kernel's rules for files that hold for a process and all that it starts, wherever something is mounted.
//!
//! It is a second wall behind the root. Alone it is no wall for the network, so nothing here speaks of ports.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::Remark;
use super::system::PROGRAMS;
use crate::plan::{Access, Landlock};

/// The rights that are asked for. A kernel that knows fewer enforces those, and that is reported as a part.
const WANTED: ABI = ABI::V6;

/// What may be read beside the system's programs. The place of the resolver's settings is where `/etc/resolv.conf` often leads.
const READABLE: [&str; 4] = ["/etc", "/dev", "/proc", "/run/systemd/resolve"];

/// Where every program writes: its temporary files, and what the kernel shows of itself.
const WRITABLE: [&str; 2] = ["/tmp", "/dev/shm"];

/// Puts the rules in force for this process and all that it starts.
pub(super) fn restrict(rules: &Landlock) -> io::Result<Remark> {
    let status = build(rules).map_err(io::Error::other)?;
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        LandlockStatus::NotEnabled => return Err(refused("the kernel was booted without it")),
        LandlockStatus::NotImplemented => return Err(refused("the kernel does not have it")),
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => {
            Ok(Remark::whole(format!("the kernel enforces all rules (version {version} of Landlock)")))
        }
        RulesetStatus::PartiallyEnforced => Ok(Remark::part(format!(
            "the kernel enforces a part of the rules only (it has version {version} of Landlock, {} is needed)",
            WANTED as i32
        ))),
        RulesetStatus::NotEnforced => Err(refused("the kernel enforces none of the rules")),
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

fn build(rules: &Landlock) -> Result<landlock::RestrictionStatus, landlock::RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let all = AccessFs::from_all(WANTED);
    let paths = |access: Access| -> Vec<&Path> {
        rules.mounts.iter().filter(|m| m.access == access).map(|m| m.path.as_path()).collect()
    };
    let data = paths(Access::Data);
    Ruleset::default()
        .handle_access(all)?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(PROGRAMS, read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(paths(Access::Program), read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(READABLE, read))?
        // The names of threads are written there; what belongs to the machine is the kernel's to protect.
        .add_rules(path_beneath_rules(["/proc"], read | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(["/dev"], read | AccessFs::WriteFile | AccessFs::IoctlDev))?
        .add_rules(path_beneath_rules(WRITABLE, all & !AccessFs::Execute))?
        .add_rules(path_beneath_rules(data, all & !AccessFs::Execute))?
        .restrict_self()
}
