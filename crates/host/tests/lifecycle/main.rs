//! The life of plugins under a real host: real processes, real sockets, a real database.

mod authority;
mod coming;
mod crashing;
mod faults;
mod full_disk;
mod impersonating;
mod names;
mod operating;
mod rig;
mod sandboxed;
mod settings;
mod updating;
