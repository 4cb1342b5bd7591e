//! The daemon as a library: the reference platform, its REST API, authentication, and the plugins' routes.
//!
//! It is the only crate that knows status codes. It prints nothing: what a person should read is returned.

pub mod api;
pub mod auth;
pub mod config;
pub mod platform;
