//! The daemon as a library: the reference platform, its REST API, authentication, and the plugins' routes.
//!
//! It is the only crate that knows status codes. It prints nothing: what a person should read is returned.

pub mod api;
mod app;
pub mod audit;
pub mod auth;
pub mod config;
mod demo;
mod listener;
mod metrics;
pub mod platform;
mod probe;
mod routes;
mod server;

pub use config::Config;
pub use probe::ProberError;
pub use routes::document as openapi_document;
pub use server::{Reloaded, Server, ServerHandle, StartError, Started, serve};
