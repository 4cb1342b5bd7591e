//! Wire types of the temps plugin protocol, version 1.
//!
//! This crate is the one source of what goes over the wire between a host and its plugins: the two
//! handshake lines, the channel's frames, events, and the platform data that a plugin may ask for.
//! It holds types, bounds and checks only. It knows nothing of sockets, processes or runtimes, so that
//! every reader of the protocol (host, SDK, conformance kit) can build on it.
//!
//! `spec/PROTOCOL.md` says the same in words; `spec/v1/schema` is generated from these types.

pub mod channel;
pub mod data;
pub mod event;
pub mod feature;
pub mod handshake;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod payload;
#[cfg(feature = "schema")]
pub mod schema;
pub mod storage;

pub use channel::{Ack, AckStatus, ChannelError, ErrorCode, HostFrame, PluginFrame, Request, Response};
pub use data::{DeploymentInfo, EnvironmentInfo, ProjectInfo};
pub use event::PluginEvent;
pub use feature::Feature;
pub use handshake::{HandshakeError, Ready, parse_manifest_line, parse_ready_line};
pub use manifest::{
    EventFilter, ManifestError, ManifestProblem, NavEntry, NavSection, Ordering, Permissions, PluginManifest,
    PluginManifestBuilder, Resources, UiDeclaration, UiRoute,
};
pub use name::{NameError, PluginName};
pub use payload::{Payload, PayloadError};
pub use storage::{Configuration, KvEntry, KvPage, KvParams, OwnMethod};

/// The version of the protocol that this crate speaks, as a plugin finds it in `TEMPS_API_VERSION`.
pub const API_VERSION: semver::Version = semver::Version::new(1, 0, 0);
