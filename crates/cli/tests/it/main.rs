//! The `temps` command from outside: a real daemon with a real plugin, and every command against it.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

mod audit;
mod authoring;
mod commands;
mod databases;
mod delivering;
mod egress;
mod endings;
#[cfg(feature = "failpoints")]
mod failpoints;
mod hosts;
mod life;
mod plugins;
#[cfg(feature = "postgres")]
mod postgres;
mod recording;
mod sandbox;
mod serving;
mod settings;
