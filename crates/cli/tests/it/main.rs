//! The `temps` command from outside: a real daemon with a real plugin, and every command against it.

mod audit;
mod commands;
mod databases;
mod delivering;
mod endings;
#[cfg(feature = "failpoints")]
mod failpoints;
mod plugins;
mod serving;
mod settings;
