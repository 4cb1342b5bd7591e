//! Launches one program from a plan that is data: namespaces, lifeline, limits.
//!
//! The host never works between fork and exec. It starts its own executable again as a *launcher*, hands it a plan over a
//! socket, and the launcher builds the place and executes the program. This crate knows nothing of plugins.
