//! The life of plugins under a real host: real processes, real sockets, a real database.

mod coming;
mod rig;
