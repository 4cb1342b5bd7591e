//! The proxy, rule by rule, with real plugins on unix sockets behind it and real clients in front.

mod bounded;
mod callers;
mod hygiene;
mod pages;
mod rig;
mod streams;
