//! Databases of plugins' own on a PostgreSQL server of the operator's: how the server is reached, and how a database and a
//! role are made on it.
//!
//! The statements are here because SQL lives in this crate; who gets a database, and what a plugin may say to it, is the
//! host's to decide. Nothing of what temps itself keeps is touched from here.

mod provision;
mod server;

pub use provision::{ProvisionError, Wanted};
pub use server::{DialError, Server, ServerError, Stream, Transport};
