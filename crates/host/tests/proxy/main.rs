//! The proxy, rule by rule, with real plugins on unix sockets behind it and real clients in front.

mod callers;
mod hygiene;
mod rig;
