//! Everything a plugin usually names, for `use temps_plugin_sdk::prelude::*;`.
//!
//! The crates `axum`, `serde_json`, `tracing` and `include_dir` come along under their own names, so that a plugin
//! needs no other dependency and always has the versions that this crate was built with.

pub use ::include_dir::{self, Dir, include_dir};
pub use axum::extract::State;
pub use axum::response::{IntoResponse, Response};
pub use axum::routing::{any, delete, get, patch, post, put};
pub use axum::{self, Json};
pub use serde_json::{self, json};
pub use temps_protocol::{
    ChannelError, DeploymentInfo, EnvironmentInfo, ErrorCode, NavEntry, NavSection, Ordering, Payload,
    Permissions, PluginEvent, PluginManifest, PluginManifestBuilder, ProjectInfo, Resources,
};
pub use tracing;

pub use crate::{
    BoxError, ConfigError, ExternalPlugin, KvClient, KvError, Logger, PlatformClient, PlatformError,
    PluginContext, RouteAuth,
};
