//! The `temps` command from outside: a real daemon with a real plugin, and every command against it.

mod audit;
mod commands;
mod databases;
mod endings;
mod plugins;
#[cfg(feature = "postgres")]
mod postgres;
mod serving;
mod settings;
