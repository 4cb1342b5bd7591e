//! Capabilities across the launcher's own executions: those that the init needs go with it, none with the program.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, remove_capability_from_bounding_set,
};

/// What the init does itself: mounts, emptying the bounding set, and listening where names are asked for.
const OF_INIT: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::SETPCAP).union(CapabilitySet::NET_BIND_SERVICE);

/// Keeps what the init needs over its execution.
pub(super) fn keep_for_init() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable |= OF_INIT;
    rustix::thread::set_capabilities(None, sets)?;
    for capability in OF_INIT {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Drops all of them, and empties the set from which an execution could bring them back.
pub(super) fn drop_all() -> io::Result<()> {
    reduce_to(CapabilitySet::empty())
}

/// Drops all but `kept`, and empties the set from which an execution could bring any back.
///
/// An ordinary user without a namespace of its own may not touch that last set; no new privileges closes the same way.
pub(crate) fn reduce_to(kept: CapabilitySet) -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    rustix::thread::set_capabilities(None, sets)?;
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(one) {
            Ok(true) => match remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                Err(Errno::PERM) if !may_set_bounding()? => break,
                Err(error) => return Err(error.into()),
            },
            Ok(false) => {}
            // The kernel knows no capability of this number, and so none of a higher one.
            Err(_) => break,
        }
    }
    // What is not there cannot be kept: an ordinary user outside of namespaces has none.
    let kept = kept.intersection(rustix::thread::capabilities(None)?.permitted);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn may_set_bounding() -> io::Result<bool> {
    Ok(rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::SETPCAP))
}
