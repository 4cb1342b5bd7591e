//! Deliveries with their rooms around them: a real store, real sockets, a plugin's life in the test's hands.

mod acks;
mod channel;
mod crowd;
mod orders;
mod pauses;
mod posts;
pub(super) mod rig;
