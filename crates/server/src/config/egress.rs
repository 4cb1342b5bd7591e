//! `[egress]` as it stands in the settings' file.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use serde::Deserialize;
use temps_host::egress::{EgressSettings, PluginEgress};

/// `[egress]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Egress {
    plugins: BTreeMap<String, OfPlugin>,
}

/// `[egress.plugins.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OfPlugin {
    allow_loopback: Vec<SocketAddrV4>,
    without_tls: Vec<String>,
}

impl Egress {
    pub(super) fn take(self, settings: &mut EgressSettings) {
        settings.plugins.extend(self.plugins.into_iter().map(|(name, of)| {
            (name, PluginEgress { allow_loopback: of.allow_loopback, without_tls: of.without_tls })
        }));
    }
}
