//! The daemon over real connections: who may call what, what reports do, what survives, what is said when it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod deployments;
mod events;
mod failures;
mod hosts;
mod killed;
mod life;
mod openapi;
mod pages;
mod plugins;
mod probe;
mod rig;
