//! The proxy, rule by rule, with real plugins on unix sockets behind it and real clients in front.

#![expect(clippy::unwrap_used, reason = "a helper of a test that cannot go on fails the test")]

mod bounded;
mod callers;
mod hygiene;
mod pages;
mod rig;
mod streams;
