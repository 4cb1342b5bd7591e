//! Tests of the deliveries with a real store, real sockets and plugins that the tests play themselves.

mod channel;
mod crowd;
mod posts;
pub(super) mod rig;
