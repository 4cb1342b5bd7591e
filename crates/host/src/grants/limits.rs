//! Limits as grants: `memory_max=512M` in numbers, and what such a grant raises.

use temps_sandbox::Limits;

pub(super) fn limit_name(limit: &str) -> &str {
    limit.split_once('=').map_or(limit, |(name, _)| name)
}

/// The default and the asked amount of a limit `name=value`, in the limit's unit.
pub(super) fn limit_amount(limit: &str) -> Option<(u64, u64)> {
    let (name, value) = limit.split_once('=')?;
    let default = Limits::default();
    match name {
        "memory_max" => Some((default.memory_max, bytes(value)?)),
        "disk_max" => Some((default.disk_max, bytes(value)?)),
        "cpu_quota" => Some((default.cpu_quota.into(), percent(value)?.into())),
        "tasks_max" => Some((default.tasks_max, value.parse().ok()?)),
        "nofile" => Some((default.nofile, value.parse().ok()?)),
        _ => None,
    }
}

/// Raises the limit that a grant is about, if the grant is for more than everybody has.
pub(crate) fn raise(limits: &mut Limits, grant: &str) {
    let Some((default, amount)) = limit_amount(grant) else { return };
    if amount <= default {
        return;
    }
    match limit_name(grant) {
        "memory_max" => limits.memory_max = limits.memory_max.max(amount),
        "disk_max" => limits.disk_max = limits.disk_max.max(amount),
        "cpu_quota" => limits.cpu_quota = limits.cpu_quota.max(u32::try_from(amount).unwrap_or(u32::MAX)),
        "tasks_max" => limits.tasks_max = limits.tasks_max.max(amount),
        "nofile" => limits.nofile = limits.nofile.max(amount),
        _ => {}
    }
}

/// Reads `25%`, in percent of one processor.
#[must_use]
pub fn percent(text: &str) -> Option<u32> {
    text.trim().strip_suffix('%')?.trim().parse().ok()
}

/// Reads `1048576`, `256M`, `1G`, `64K`, each also with `B` or `iB` behind the unit.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let factor = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}
