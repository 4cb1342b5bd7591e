//! `[sandbox]` and `[limits]` as they stand in the settings' file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use temps_host::sandbox::{
    Layer, LimitSettings, PluginSandbox, Policies, Policy, SandboxSettings, SomeLimits,
};

/// `[sandbox]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sandbox {
    layers: BTreeMap<Layer, Policy>,
    read_only_paths: Vec<PathBuf>,
    first_user: Option<u32>,
    plugins: BTreeMap<String, OfPlugin>,
}

/// `[sandbox.plugins.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OfPlugin {
    layers: BTreeMap<Layer, Policy>,
    read_only_paths: Vec<PathBuf>,
}

/// `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    memory_max: Option<Bytes>,
    cpu_quota: Option<Percent>,
    tasks_max: Option<u64>,
    nofile: Option<u64>,
    disk_max: Option<Bytes>,
    tmp_max: Option<Bytes>,
    plugins: BTreeMap<String, OfOne>,
}

/// `[limits.plugins.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OfOne {
    memory_max: Option<Bytes>,
    cpu_quota: Option<Percent>,
    tasks_max: Option<u64>,
    nofile: Option<u64>,
    disk_max: Option<Bytes>,
    tmp_max: Option<Bytes>,
}

impl Sandbox {
    pub(super) fn take(self, settings: &mut SandboxSettings) {
        settings.all =
            PluginSandbox { policies: policies(&self.layers), read_only_paths: self.read_only_paths };
        settings.first_user = self.first_user.unwrap_or(settings.first_user);
        let own = |own: OfPlugin| PluginSandbox {
            policies: policies(&own.layers),
            read_only_paths: own.read_only_paths,
        };
        settings.plugins = self.plugins.into_iter().map(|(name, set)| (name, own(set))).collect();
    }
}

fn policies(layers: &BTreeMap<Layer, Policy>) -> Policies {
    layers.iter().fold(Policies::unset(), |all, (layer, policy)| all.with(*layer, *policy))
}

impl Limits {
    pub(super) fn take(self, settings: &mut LimitSettings) {
        let Self { memory_max, cpu_quota, tasks_max, nofile, disk_max, tmp_max, plugins } = self;
        settings.all = OfOne { memory_max, cpu_quota, tasks_max, nofile, disk_max, tmp_max }.into();
        settings.plugins = plugins.into_iter().map(|(name, own)| (name, own.into())).collect();
    }
}

impl From<OfOne> for SomeLimits {
    fn from(of: OfOne) -> Self {
        Self {
            memory_max: of.memory_max.map(|it| it.0),
            cpu_quota: of.cpu_quota.map(|it| it.0),
            tasks_max: of.tasks_max,
            nofile: of.nofile,
            disk_max: of.disk_max.map(|it| it.0),
            tmp_max: of.tmp_max.map(|it| it.0),
        }
    }
}

/// An amount of bytes with its unit: `256M`, `1G`.
#[derive(Debug)]
struct Bytes(u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = temps_host::grants::bytes(&text);
        bytes.map(Self).ok_or_else(|| {
            de::Error::custom(format!("{text:?} is no amount of bytes; write for example \"256M\""))
        })
    }
}

/// A share of one processor: `25%`.
#[derive(Debug)]
struct Percent(u32);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let percent = temps_host::grants::percent(&text);
        percent.map(Self).ok_or_else(|| {
            de::Error::custom(format!("{text:?} is no share of a processor; write for example \"25%\""))
        })
    }
}
