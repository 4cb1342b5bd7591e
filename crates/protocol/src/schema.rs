//! JSON Schemas of the wire types, generated from the types themselves (feature `schema`).

use schemars::{Schema, schema_for};

use crate::channel::{Ack, HostFrame, Request, Response};
use crate::data::{DeploymentInfo, EnvironmentInfo, MethodParams, ProjectInfo};
use crate::event::PluginEvent;
use crate::handshake::Ready;
use crate::manifest::PluginManifest;

/// Every wire type that has a schema in `spec/v1/schema`, by its name there.
#[must_use]
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("PluginManifest", schema_for!(PluginManifest)),
        ("Ready", schema_for!(Ready)),
        ("Request", schema_for!(Request)),
        ("Response", schema_for!(Response)),
        ("Ack", schema_for!(Ack)),
        ("HostFrame", schema_for!(HostFrame)),
        ("PluginEvent", schema_for!(PluginEvent)),
        ("MethodParams", schema_for!(MethodParams)),
        ("ProjectInfo", schema_for!(ProjectInfo)),
        ("EnvironmentInfo", schema_for!(EnvironmentInfo)),
        ("DeploymentInfo", schema_for!(DeploymentInfo)),
    ]
}
