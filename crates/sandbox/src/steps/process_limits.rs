//! Limits that the kernel keeps for each process on its own.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::plan::ProcessLimits;

/// Sets them, for good. A limit that the host itself has is never raised.
pub(super) fn set(limits: &ProcessLimits) -> io::Result<()> {
    lower(Resource::Core, Some(0))?;
    lower(Resource::Nofile, limits.open_files)?;
    lower(Resource::Fsize, limits.file_size)?;
    lower(Resource::Data, limits.memory)?;
    lower(Resource::Nproc, limits.tasks)
}

fn lower(resource: Resource, wanted: Option<u64>) -> io::Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let value = getrlimit(resource).maximum.map_or(wanted, |maximum| maximum.min(wanted));
    Ok(setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?)
}
